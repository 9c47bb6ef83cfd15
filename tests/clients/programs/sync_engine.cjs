// The sync engine of Supabase (its CommonJS build), as a small service of an integrator runs it.
//   sync_engine.cjs backfill OBJECT...: makes the tables, copies the objects, prints the counts as JSON
//   sync_engine.cjs serve: processes what is posted to it; prints its port, then a line for each delivery
// Settings: STRIPE_KEY, STRIPE_BASE, STRIPE_WEBHOOK_SECRET, and those of node-postgres (PGHOST ...).
// The engine has no setting for another address: its client is given one here.
const http = require('node:http');
const { createRequire } = require('node:module');
const installed = createRequire(process.env.INSTALLED);
const { StripeSync, runMigrations } = installed('@supabase/stripe-sync-engine');

const base = new URL(process.env.STRIPE_BASE);
const sync = new StripeSync({
  poolConfig: {},
  stripeSecretKey: process.env.STRIPE_KEY,
  stripeWebhookSecret: process.env.STRIPE_WEBHOOK_SECRET,
  autoExpandLists: true,
  backfillRelatedEntities: true,
});
const configured = { ...sync.stripe._api, host: base.hostname, port: base.port, protocol: 'http' };
Object.assign(sync.stripe._api, configured);

async function backfill(objects) {
  await runMigrations({ schema: 'stripe' });
  const counts = {};
  for (const object of objects) {
    for (const [name, result] of Object.entries(await sync.syncBackfill({ object }))) {
      if (result) counts[name] = result.synced;
    }
  }
  console.log(JSON.stringify(counts));
  await sync.close();
}

function serve() {
  const server = http.createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', async () => {
      try {
        await sync.processWebhook(Buffer.concat(chunks), request.headers['stripe-signature']);
        response.writeHead(200).end();
        console.log('200');
      } catch (error) {
        response.writeHead(500).end();
        console.log(`500 ${error.message}`);
      }
    });
  });
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
}

const [command, ...objects] = process.argv.slice(2);
if (command === 'serve') serve();
else backfill(objects);
