#!/usr/bin/env bash
# stripe-node 23.1.0 compiles only numbers as `created` of v2 events, and sends them as they are; the API has RFC 3339
# there.
#
# Times of /v2 are strings, "2026-11-28T12:00:00Z": so is `created` of each event, and so stripe-python 16.1.0 types the
# filter of v2.core.events.list. stripe-node gives it the type of v1's ranges, Unix seconds: the right value does not
# compile, and what compiles, `{gte: 1795000000}`, reaches the API as `created[gte]=1795000000`. Not even `gte:
# lastEvent.created` compiles. Without types either is sent as it is. What helps a server: take both forms; a program: a
# cast.
#
# Needs Python 3.11 or newer, Node 20 and npm. Installs pinned packages into a temporary folder, and answers on loopback.
# Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
echo '{"private": true, "type": "module"}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts stripe@23.1.0 typescript@5.9.3
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check stripe==16.1.0

cat > number.ts <<'EOF'
import Stripe from 'stripe';
const stripe = new Stripe('sk_test_made_up');
export const events = stripe.v2.core.events.list({ created: { gte: 1795000000 } });
EOF
cat > string.ts <<'EOF'
import Stripe from 'stripe';
const stripe = new Stripe('sk_test_made_up');
export const events = stripe.v2.core.events.list({ created: { gte: '2026-11-28T12:00:00Z' } });
EOF
cat > event.ts <<'EOF'
import Stripe from 'stripe';
const stripe = new Stripe('sk_test_made_up');
const last = await stripe.v2.core.events.retrieve('evt_1');
export const events = stripe.v2.core.events.list({ created: { gte: last.created } });
EOF
cat > run.mjs <<'EOF'
import { spawnSync } from 'node:child_process';
import http from 'node:http';
import Stripe from 'stripe';

const options = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'nodenext'];
const compiles = (file) => {
  const { status, stdout } = spawnSync('node_modules/.bin/tsc', [...options, file], { encoding: 'utf8' });
  console.log(`  ${file}: ${status === 0 ? 'compiles' : stdout.split('\n')[0]}`);
  return status === 0;
};
let sent;
const server = http.createServer((request, response) => {
  sent = request.url;
  response.end(JSON.stringify({ data: [], next_page_url: null, previous_page_url: null }));
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const stripe = new Stripe('sk_test_made_up', { host: '127.0.0.1', port: server.address().port, protocol: 'http' });
console.log('stripe-node', Stripe.PACKAGE_VERSION);
await stripe.v2.core.events.list({ created: { gte: 1795000000 } });
console.log(`  a number is sent as ${sent}`);
const program = `
from typing import get_type_hints
from stripe.params.v2.core import EventListParamsCreated
print(get_type_hints(EventListParamsCreated)["gte"])`;
const python = spawnSync('env/bin/python', ['-c', program], { encoding: 'utf8' }).stdout.trim();
console.log(`  stripe-python 16.1.0 has the type ${python}`);
const seen = [compiles('number.ts'), compiles('string.ts'), compiles('event.ts'), sent, python.includes('str')];
const asDescribed = seen.join() === 'true,false,false,/v2/core/events?created[gte]=1795000000,true';
console.log(asDescribed ? 'As described.' : 'Changed.');
process.exit(asDescribed ? 0 : 1);
EOF
node run.mjs

# Output seen:
#   stripe-node 23.1.0
#     a number is sent as /v2/core/events?created[gte]=1795000000
#     stripe-python 16.1.0 has the type <class 'str'>
#     number.ts: compiles
#     string.ts: string.ts(3,63): error TS2322: Type 'string' is not assignable to type 'number'.
#     event.ts: event.ts(4,63): error TS2322: Type 'string' is not assignable to type 'number'.
#   As described.
