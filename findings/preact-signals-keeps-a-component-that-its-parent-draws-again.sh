#!/usr/bin/env bash
# @preact/signals 2.11.4: reading a signal in a component stops its parent from drawing it again.
#
# In Preact a component is drawn again whenever its parent is. With the signals package, one that reads a signal and has no
# state of its own is drawn again only if a signal that it read or one of its props changed: it is memoized as by `memo()`,
# and nothing in it says so. What else it shows stays as it was: the time, `location`, a module's variable, a signal read
# by `peek()`. So a component goes stale on the day that somebody makes it read a signal, and is mended by taking that line
# out again. What helps: to pass what it shows as a prop, or to read that as a signal, too.
#
# Needs Node 20 or newer and npm. Installs pinned packages into a temporary folder. Exits with 0 while the behaviour is as
# described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts preact@11.2.0 @preact/signals@2.11.4 linkedom@0.18.12

cat > run.mjs <<'EOF'
import { readFileSync } from 'node:fs';
import { parseHTML } from 'linkedom';

const { document, window } = parseHTML('<!doctype html><main></main>');
Object.assign(globalThis, { document, window });
const { h, render } = await import('preact');
const { signal } = await import('@preact/signals');

const unit = signal('USD');
let rate = 1;
const Plain = () => h('p', { id: 'plain' }, `USD ${rate}`);
const WithSignal = () => h('p', { id: 'signal' }, `${unit.value} ${rate}`);
const Page = () => h('div', null, h(Plain), h(WithSignal));
const main = document.querySelector('main');
const read = () => ['plain', 'signal'].map((id) => document.getElementById(id).textContent);

render(h(Page), main);
rate = 2;
render(h(Page), main);  // the parent is drawn again
const [plain, withSignal] = read();
unit.value = 'EUR';
await new Promise((drawn) => setTimeout(drawn, 50));
const later = read()[1];

for (const name of ['preact', '@preact/signals']) {
  console.log(name, JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version);
}
console.log(`  its parent was drawn again, without a signal: ${plain}`);
console.log(`  its parent was drawn again, with a signal:    ${withSignal}`);
console.log(`  the signal changed:                           ${later}`);
const asDescribed = plain === 'USD 2' && withSignal === 'USD 1' && later === 'EUR 2';
console.log(asDescribed ? 'As described: the component that reads a signal stayed as it was.' : 'Changed.');
process.exit(asDescribed ? 0 : 1);
EOF
node run.mjs

# Output seen:
#   preact 11.2.0
#   @preact/signals 2.11.4
#     its parent was drawn again, without a signal: USD 2
#     its parent was drawn again, with a signal:    USD 1
#     the signal changed:                           EUR 2
#   As described: the component that reads a signal stayed as it was.
