#!/usr/bin/env bash
# @supabase/stripe-sync-engine 0.48.5 loses the second of two events of one object that have the same `created`.
#
# It stores the event's `created` (whole seconds) with each row and updates a row only when that is *older*. Two
# changes within one second are common: a charge and its capture, a dispute and the evidence that a program adds.
# The later change is dropped, processWebhook resolves all the same, so the sender sees success and never
# sends it again: the row keeps the old amounts until something else changes the object.
#
# Needs Node 20 and npm. Installs pinned packages into a temporary folder, with PGlite as the Postgres server.
# Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund @supabase/stripe-sync-engine@0.48.5 stripe@23.1.0 \
    @electric-sql/pglite@0.5.14 @electric-sql/pglite-socket@0.2.17

cat > run.mjs <<'EOF'
import { createRequire } from 'node:module';
import { PGlite } from '@electric-sql/pglite';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';
const require = createRequire(import.meta.url);
const { StripeSync, runMigrations } = require('@supabase/stripe-sync-engine');

const db = await PGlite.create();
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0 });
const port = await new Promise((resolve) => {
  server.addEventListener('listening', ({ detail }) => resolve(detail.port));
  server.start();
});
const databaseUrl = `postgres://postgres@127.0.0.1:${port}/postgres`;
await runMigrations({ databaseUrl, schema: 'stripe' });
const secret = 'whsec_test';
const sync = new StripeSync({
  poolConfig: { connectionString: databaseUrl, max: 1 },
  stripeSecretKey: 'sk_test_x',
  stripeWebhookSecret: secret,
});

const now = Math.floor(Date.now() / 1000);
let events = 0;
async function deliver(type, created, fields) {
  const charge = {
    id: 'ch_1', object: 'charge', amount: 2000, amount_refunded: 0, captured: true, created: now, currency: 'usd',
    livemode: false, metadata: {}, paid: true, refunded: false, status: 'succeeded', ...fields,
  };
  const event = {
    id: `evt_${++events}`, object: 'event', type, created, api_version: '2026-10-28.endive', livemode: false,
    pending_webhooks: 1, request: null, data: { object: charge },
  };
  const payload = JSON.stringify(event);
  await sync.processWebhook(payload, sync.stripe.webhooks.generateTestHeaderString({ payload, secret }));
  const { rows } = await db.query('SELECT amount_refunded, refunded FROM stripe.charges');
  console.log(`${type}, created ${created - now} s later: accepted; row: ${JSON.stringify(rows[0])}`);
  return Number(rows[0].amount_refunded);
}

const seen = [
  await deliver('charge.succeeded', now, {}),
  await deliver('charge.refunded', now, { amount_refunded: 2000, refunded: true }),
  await deliver('charge.refunded', now + 1, { amount_refunded: 2000, refunded: true }),
];
await sync.close();
await server.stop();
const asDescribed = JSON.stringify(seen) === '[0,0,2000]';
console.log(asDescribed ? 'As described: the refund of the same second is lost.' : `Changed: ${seen}`);
process.exit(asDescribed ? 0 : 1);
EOF
node -p '"@supabase/stripe-sync-engine " + JSON.parse(require("fs").readFileSync("node_modules/@supabase/stripe-sync-engine/package.json")).version'
node run.mjs
