// Tells another system of each dispute that is opened, by a POST with an idempotency key.
//
// Settings: API_URL, API_FEED_KEY (a key with the scope feed), DATABASE_URL (a Postgres database of yours),
// NOTICE_URL (where to POST).

import { Consumer, Feed, type Item } from "ledger-feed";
import { Inbox, PostgresPositions } from "ledger-feed/postgres";
import { Pool, type PoolClient } from "pg";

const CONSUMER = "dispute_notices";

function read(name: string): string {
  const value = process.env[name];
  if (value !== undefined) return value;
  console.error(`set ${name}`);
  process.exit(1);
}

/** Throws an error if the other system has not accepted it: then it is sent again. */
async function notify(item: Item, key: string): Promise<void> {
  const answer = await fetch(read("NOTICE_URL"), {
    method: "POST",
    headers: { "content-type": "application/json", "idempotency-key": key },
    body: JSON.stringify({ dispute: item.object, account: item.account }),
    signal: AbortSignal.timeout(30_000),
  });
  if (!answer.ok) throw new Error(`the notice was refused with status ${answer.status}`);
}

const pool = new Pool({ connectionString: read("DATABASE_URL"), max: 2 });
pool.on("error", (error) => console.warn(`an idle connection was lost: ${error.message}`));
const feed = new Feed(read("API_URL"), read("API_FEED_KEY"), { types: ["dispute.opened"] });
const positions = new PostgresPositions<PoolClient>(pool, CONSUMER);
await positions.ensureTables();
const inbox = new Inbox<PoolClient>(pool, CONSUMER);
const consumer = new Consumer(feed, positions, inbox.put);
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    consumer.stop();
    inbox.stop();
  });
}
await Promise.all([consumer.run(), inbox.run(notify)]);
await pool.end();
