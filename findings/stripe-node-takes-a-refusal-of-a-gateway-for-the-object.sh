#!/usr/bin/env bash
# stripe-node 23.1.0 resolves with the body of a 404, 429 or 503, if it is JSON and not in the form of Stripe's errors.
#
# Whether a call has failed is decided by a member `error` in the body, never by the status. Gateways, load balancers and
# egress proxies in front of the API refuse with JSON of their own, such as {"message": "…"}. stripe-node retries a 503 as
# often as it may, and then resolves: `refund.id` is undefined, no catch block runs, and the caller notes as done what was
# refused. A body that is not JSON does reject, and so stripe-python does with both. What helps: look at
# `lastResponse.statusCode`, or at the id.
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

let answer;
let requests = 0;
const server = http.createServer((request, response) => {
  requests += 1;
  response.writeHead(answer.status, { 'content-type': answer.type });
  response.end(answer.body);
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const stripe = new Stripe('sk_test_made_up', {
  host: '127.0.0.1', port: server.address().port, protocol: 'http', maxNetworkRetries: 1,
});
console.log('stripe-node', Stripe.PACKAGE_VERSION);
const json = JSON.stringify({ message: 'refused by the gateway' });
let asDescribed = true;
for (const [status, type, body, resolves] of [
  ...[401, 403, 404, 429, 502, 503].map((status) => [status, 'application/json', json, true]),
  [503, 'text/html', '<p>refused</p>', false],
  [404, 'application/json', JSON.stringify({ error: { type: 'invalid_request_error', message: 'none' } }), false],
]) {
  answer = { status, type, body };
  requests = 0;
  const seen = await stripe.refunds.create({ charge: 'ch_1' }).then(
    (refund) => ({ resolved: true, text: `resolves with id ${refund.id}, statusCode ${refund.lastResponse.statusCode}` }),
    (error) => ({ resolved: false, text: `rejects with ${error.type}` }),
  );
  asDescribed &&= seen.resolved === resolves;
  console.log(`  ${status} ${body}: ${seen.text}, requests: ${requests}`);
}
console.log(asDescribed ? 'As described.' : 'Changed.');
process.exit(asDescribed ? 0 : 1);
EOF
node run.mjs

# Output seen:
#   stripe-node 23.1.0
#     401 {"message":"refused by the gateway"}: resolves with id undefined, statusCode 401, requests: 1
#     403 {"message":"refused by the gateway"}: resolves with id undefined, statusCode 403, requests: 1
#     404 {"message":"refused by the gateway"}: resolves with id undefined, statusCode 404, requests: 1
#     429 {"message":"refused by the gateway"}: resolves with id undefined, statusCode 429, requests: 1
#     502 {"message":"refused by the gateway"}: resolves with id undefined, statusCode 502, requests: 2
#     503 {"message":"refused by the gateway"}: resolves with id undefined, statusCode 503, requests: 2
#     503 <p>refused</p>: rejects with StripeAPIError, requests: 2
#     404 {"error":{"type":"invalid_request_error","message":"none"}}: rejects with StripeInvalidRequestError, requests: 1
#   As described.
