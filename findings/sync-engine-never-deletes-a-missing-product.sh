#!/usr/bin/env bash
# @supabase/stripe-sync-engine 0.48.5 fails for ever on product.updated of a product that is gone since.
#
# With `revalidateObjectsViaStripeApi: ['product']` it reads the product again before it stores it, and means to
# delete the row when the API answers 404 `resource_missing`. It looks for that code on errors that are
# `instanceof StripeAPIError`; stripe-node throws a StripeInvalidRequestError for a 404, which is not one. So the
# branch that deletes is never taken: processWebhook rejects, the sender retries until it gives up, and the row
# stays. Prices and plans have the same condition.
#
# Needs Node 20 and npm. Installs pinned packages into a temporary folder. No database is reached.
# Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund @supabase/stripe-sync-engine@0.48.5 stripe@23.1.0

cat > run.cjs <<'EOF'
const http = require('node:http');
const Stripe = require('stripe');
const { StripeSync } = require('@supabase/stripe-sync-engine');

const server = http.createServer((request, response) => {
  console.log(`${request.method} ${request.url} -> 404 resource_missing`);
  response.writeHead(404, { 'content-type': 'application/json', 'request-id': 'req_1' });
  response.end(JSON.stringify({ error: {
    type: 'invalid_request_error', code: 'resource_missing', param: 'id', message: "No such product: 'prod_1'",
  } }));
});
server.listen(0, '127.0.0.1', async () => {
  const sync = new StripeSync({
    poolConfig: {}, stripeSecretKey: 'sk_test_x', stripeWebhookSecret: 'whsec_test',
    revalidateObjectsViaStripeApi: ['product'],
  });
  Object.assign(sync.stripe._api, { host: '127.0.0.1', port: server.address().port, protocol: 'http' });
  let deleted = false;
  sync.postgresClient.delete = async () => (deleted = true); // stands for the database
  const event = {
    id: 'evt_1', object: 'event', type: 'product.updated', created: 1795000000, livemode: false,
    data: { object: { id: 'prod_1', object: 'product', active: true, name: 'Tea' } },
  };
  const error = await sync.processEvent(event).then(() => null, (thrown) => thrown);
  console.log(`row deleted: ${deleted}; processEvent: ${error ? `rejected with ${error.type}` : 'resolved'}`);
  const isApiError = error instanceof (Stripe.default ?? Stripe).errors.StripeAPIError;
  console.log(`instanceof StripeAPIError: ${isApiError}; code: ${error?.code}`);
  const asDescribed = !deleted && error?.code === 'resource_missing' && !isApiError;
  console.log(asDescribed ? 'As described: the missing product is never deleted.' : 'Changed.');
  process.exit(asDescribed ? 0 : 1);
});
EOF
node -p '"@supabase/stripe-sync-engine " + JSON.parse(require("fs").readFileSync("node_modules/@supabase/stripe-sync-engine/package.json")).version'
node run.cjs
