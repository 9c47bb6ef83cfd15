// Counts the events of the whole ledger by type, and lists them in order: each exactly once.
//
// Settings: API_URL, API_FEED_KEY (a key with the scope ledger_feed), DATABASE_URL (a Postgres database of yours),
// CONSUMER (a name, by default event_counts), FEED_TRANSPORT (ndjson, or sse for server-sent events).

import { Consumer, Feed, type Item } from "ledger-feed";
import { PostgresPositions } from "ledger-feed/postgres";
import { Pool, type PoolClient } from "pg";

const CREATE_TABLES = `
CREATE TABLE IF NOT EXISTS event_counts (type text PRIMARY KEY, count bigint NOT NULL);
CREATE TABLE IF NOT EXISTS applied_events (
    number   bigint GENERATED ALWAYS AS IDENTITY,
    position bigint NOT NULL,
    type     text NOT NULL,
    object   text NOT NULL
)`;
const COUNT = `
INSERT INTO event_counts (type, count) VALUES ($1, 1)
ON CONFLICT (type) DO UPDATE SET count = event_counts.count + 1`;
const LIST = "INSERT INTO applied_events (position, type, object) VALUES ($1, $2, $3)";

function read(name: string): string {
  const value = process.env[name];
  if (value !== undefined) return value;
  console.error(`set ${name}`);
  process.exit(1);
}

/** Runs in the transaction that moves the position. Neither statement could be repeated unnoticed. */
async function apply(client: PoolClient, item: Item): Promise<void> {
  await client.query(COUNT, [item.type]);
  await client.query(LIST, [item.position, item.type, item.object]);
}

const pool = new Pool({ connectionString: read("DATABASE_URL"), max: 1 });
pool.on("error", (error) => console.warn(`an idle connection was lost: ${error.message}`));
const transport = process.env["FEED_TRANSPORT"] === "sse" ? "sse" : "ndjson";
const feed = new Feed(read("API_URL"), read("API_FEED_KEY"), { wholeLedger: true, transport });
const positions = new PostgresPositions<PoolClient>(pool, process.env["CONSUMER"] ?? "event_counts");
await positions.ensureTables(CREATE_TABLES);
const consumer = new Consumer(feed, positions, apply);
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => consumer.stop());
await consumer.run();
await pool.end();
