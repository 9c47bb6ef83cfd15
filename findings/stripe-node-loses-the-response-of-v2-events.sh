#!/usr/bin/env bash
# stripe-node 23.1.0: `lastResponse` of v2 events is undefined, although its type says that it is always there.
#
# Each object that the API answers with has `lastResponse` with status, headers and request id, as a property that is not
# enumerable. For v2 events, one by one and as a list, the client makes a copy by object spread, to add `fetchRelatedObject`
# to it, and a spread copies only what is enumerable. So code that logs `event.lastResponse.requestId` after each call, and
# that compiles strictly, throws a TypeError for these two calls, after they have succeeded. Other v2 objects keep it.
#
# Needs Node 20 and npm. Installs a pinned package into a temporary folder, and answers on loopback. Exits with 0 while the
# behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts stripe@23.1.0

cat > run.mjs <<'EOF'
import http from 'node:http';
import Stripe from 'stripe';

const event = {
  id: 'evt_1', object: 'v2.core.event', type: 'v1.charge.captured', created: '2026-11-28T12:00:00.000Z', livemode: false,
  related_object: { id: 'ch_1', type: 'charge', url: '/v1/charges/ch_1' },
};
const answers = {
  '/v1/charges/ch_1': { id: 'ch_1', object: 'charge' },
  '/v2/core/event_destinations/ed_1': { id: 'ed_1', object: 'v2.core.event_destination' },
  '/v2/core/events/evt_1': event,
  '/v2/core/events?limit=1': { data: [event], next_page_url: null, previous_page_url: null },
};
const server = http.createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'application/json', 'request-id': 'req_1' });
  response.end(JSON.stringify(answers[request.url]));
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const stripe = new Stripe('sk_test_made_up', { host: '127.0.0.1', port: server.address().port, protocol: 'http' });
const objects = {
  'v1 charge': await stripe.charges.retrieve('ch_1'),
  'v2 event destination': await stripe.v2.core.eventDestinations.retrieve('ed_1'),
  'v2 event': await stripe.v2.core.events.retrieve('evt_1'),
  'v2 list of events': await stripe.v2.core.events.list({ limit: 1 }),
};
console.log('stripe-node', Stripe.PACKAGE_VERSION);
for (const [name, object] of Object.entries(objects)) {
  console.log(`  ${name}: lastResponse ${object.lastResponse ? `with ${object.lastResponse.requestId}` : 'undefined'}`);
}
const asDescribed = Object.values(objects).map((object) => Boolean(object.lastResponse)).join() === 'true,true,false,false';
console.log(asDescribed ? 'As described.' : 'Changed.');
process.exit(asDescribed ? 0 : 1);
EOF
node run.mjs

# Output seen:
#   stripe-node 23.1.0
#     v1 charge: lastResponse with req_1
#     v2 event destination: lastResponse with req_1
#     v2 event: lastResponse undefined
#     v2 list of events: lastResponse undefined
#   As described.
