#!/usr/bin/env bash
# undici 6.24.1, the fetch of Node 20, never ends a read of an answer that has arrived whole, if it is aborted before then.
#
# Once the last byte has arrived, fetch listens to its signal no longer, but goes by it: an abort before the reader has come
# to the end leaves the stream neither closed nor failed, and `read()` pends for ever. So does `text()`. Whoever works on one
# part before reading the next, and is stopped meanwhile, waits for nothing. undici 7 rejects the read (nodejs/undici#4089,
# #3754). What helps: to race each read with the signal.
#
# Needs Node 20.18.1 or newer and npm. Installs pinned packages into a temporary folder. Only a server on 127.0.0.1 is
# reached. Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts undici6@npm:undici@6.24.1 undici7@npm:undici@7.30.2

cat > run.mjs <<'EOF'
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { setTimeout } from 'node:timers/promises';

const server = http.createServer(async (request, response) => {
  response.write('one\n');
  await setTimeout(50);
  response.end('two\n');
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const seen = {};
for (const name of ['undici6', 'undici7']) {
  const { fetch } = await import(name);
  const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`));
  const abort = new AbortController();
  const response = await fetch(`http://127.0.0.1:${server.address().port}/`, { signal: abort.signal });
  const reader = response.body.getReader();
  await reader.read();
  await setTimeout(500);  // the rest arrives
  abort.abort();
  const read = reader.read().then(() => 'ends', (error) => `fails: ${error.name}`);
  seen[name] = await Promise.race([read, setTimeout(3000, 'pends after 3 s')]);
  console.log(`undici ${version}: the read ${seen[name]}`);
}
const asDescribed = seen.undici6 === 'pends after 3 s' && seen.undici7 === 'fails: AbortError';
console.log(asDescribed ? 'As described.' : 'Changed.');
process.exit(asDescribed ? 0 : 1);
EOF
node --no-warnings run.mjs

# Output seen:
#   undici 6.24.1: the read pends after 3 s
#   undici 7.30.2: the read fails: AbortError
#   As described.
