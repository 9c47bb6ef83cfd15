// Positions and inbox in Postgres, through a pool of the package `pg`. Nothing of it is imported: any pool with these
// functions will do.

import { Backoff, sleep } from "./backoff.js";
import type { Positions, Reached } from "./consumer.js";
import { FilterChanged, Interrupted } from "./errors.js";
import { toLastItem, type Batch, type Item, type LastItem } from "./items.js";

/** What is used of a connection of `pg`. */
export interface Client {
  query(text: string, values?: any[]): Promise<{ rows: any[] }>;
  on(event: "error", listener: (error: Error) => void): unknown;
  removeListener(event: "error", listener: (error: Error) => void): unknown;
  release(destroy?: boolean): void;
}

export interface Pool<Connection extends Client> {
  connect(): Promise<Connection>;
}

/** To be among the migrations of your database; or call `ensureTables`. */
export const CREATE_TABLES = `
CREATE TABLE IF NOT EXISTS ledger_feed_positions (
    consumer  text PRIMARY KEY,
    filter    text NOT NULL,
    position  bigint NOT NULL CHECK (position >= 0),
    last_item jsonb,
    moved_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS ledger_feed_inbox (
    consumer text NOT NULL,
    position bigint NOT NULL,
    item     json NOT NULL,
    PRIMARY KEY (consumer, position)
)`;
// Two instances may start at once: CREATE TABLE IF NOT EXISTS alone fails in one of them.
const LOCK_CREATION = "SELECT pg_advisory_xact_lock(hashtextextended('ledger_feed', 0))";
const BEGIN_AFTER = `
INSERT INTO ledger_feed_positions (consumer, filter, position) VALUES ($1, $2, $3)
ON CONFLICT (consumer) DO NOTHING`;
// Before its first position a consumer has missed nothing that another filter passes.
const REPLACE_FILTER =
  "UPDATE ledger_feed_positions SET filter = $1 WHERE consumer = $2 AND position = 0 AND filter <> $1";
const LOAD = "SELECT position, filter, last_item FROM ledger_feed_positions WHERE consumer = $1";
// Instances of one consumer follow each other here: the next one sees what the one before has committed.
const LOCK = "SELECT position, filter FROM ledger_feed_positions WHERE consumer = $1 FOR UPDATE";
const MOVE = `
UPDATE ledger_feed_positions
SET position = $1, last_item = coalesce($2::jsonb, last_item), moved_at = now()
WHERE consumer = $3`;
const PUT = "INSERT INTO ledger_feed_inbox (consumer, position, item) VALUES ($1, $2, $3)";
const LOCK_FIRST =
  "SELECT position, item FROM ledger_feed_inbox WHERE consumer = $1 ORDER BY position LIMIT 1 FOR UPDATE";
const REMOVE = "DELETE FROM ledger_feed_inbox WHERE consumer = $1 AND position = $2";

/** Classes of SQLSTATE that pass by themselves: connection, serialization and deadlock, resources, locks, a server that
 * is stopped, its disks. */
const PASSING = new Set(["08", "40", "53", "55", "57", "58"]);

/**
 * The position of one consumer, in the database of a pool.
 *
 * `beginAfter` is where a consumer begins that has no row yet: at the beginning of the log, or after
 * `await feed.readHead()` with what comes from now on.
 */
export class PostgresPositions<Connection extends Client> implements Positions<Connection> {
  constructor(
    private readonly pool: Pool<Connection>,
    readonly consumer: string,
    private readonly beginAfter = 0,
  ) {}

  /**
   * Create the tables if they are not there, and with `yours`, statements of SQL, your own.
   *
   * One instance after the other does it: `CREATE TABLE IF NOT EXISTS` fails in one of two that start at once.
   */
  async ensureTables(yours = ""): Promise<void> {
    await transact(this.pool, async (client) => {
      await client.query(LOCK_CREATION);
      await client.query(`${CREATE_TABLES};${yours}`);
    });
  }

  /** The committed position, after making the row if there is none. Throws FilterChanged. */
  load(filter: string): Promise<Reached> {
    return transact(this.pool, async (client) => {
      await client.query(BEGIN_AFTER, [this.consumer, filter, this.beginAfter]);
      await client.query(REPLACE_FILTER, [filter, this.consumer]);
      const row = (await client.query(LOAD, [this.consumer])).rows[0] as {
        position: string;
        filter: string;
        last_item: LastItem | null;
      };
      this.checkFilter(row.filter, filter);
      return { position: Number(row.position), last: row.last_item ?? undefined };
    });
  }

  /** One transaction that holds the row of the position. Throws FilterChanged. */
  transact(
    filter: string,
    apply: (connection: Connection, position: number) => Promise<Batch | undefined>,
  ): Promise<void> {
    return transact(this.pool, async (client) => {
      const rows = (await client.query(LOCK, [this.consumer])).rows as { position: string; filter: string }[];
      // A row that was deleted is before every batch, so the consumer loads anew, and begins again.
      const row = rows[0] ?? { position: "-1", filter };
      this.checkFilter(row.filter, filter);
      const batch = await apply(client, Number(row.position));
      if (batch === undefined) return;
      const last = batch.items.at(-1);
      const lastItem = last === undefined ? null : JSON.stringify(toLastItem(last));
      await client.query(MOVE, [batch.position, lastItem, this.consumer]);
    });
  }

  private checkFilter(stored: string, requested: string): void {
    if (stored !== requested) throw new FilterChanged(this.consumer, stored, requested);
  }
}

/** Calls another system about an item, with an idempotency key that is the same whenever it is tried. */
export type Call = (item: Item, key: string) => Promise<unknown>;

export interface InboxOptions {
  readonly pollSeconds?: number;
  /** Is told of each failed call. */
  readonly log?: (message: string) => void;
}

/**
 * For handlers that call other systems: items of one consumer wait in a table until the call has succeeded.
 *
 * `put` is the handler of the consumer: an item gets into the inbox exactly once. `run` hands items to `call`, in
 * order: at least once, since a process may die between a call and its record. Then the item comes again, under the
 * same idempotency key. What `call` throws means: try again, and later items wait.
 */
export class Inbox<Connection extends Client> {
  private readonly stopped = new AbortController();
  private readonly backoff = new Backoff();
  private readonly pollSeconds: number;
  private readonly log: (message: string) => void;

  constructor(
    private readonly pool: Pool<Connection>,
    private readonly consumer: string,
    options: InboxOptions = {},
  ) {
    this.pollSeconds = options.pollSeconds ?? 0.5;
    this.log = options.log ?? ((message) => console.warn(message));
  }

  /** Keep an item, in the transaction that moves the position. */
  readonly put = async (connection: Connection, item: Item): Promise<void> => {
    await connection.query(PUT, [this.consumer, item.position, JSON.stringify(item)]);
  };

  /** Hand items to `call` until `stop`. Of several instances, one calls and the others wait. */
  async run(call: Call): Promise<void> {
    const { signal } = this.stopped;
    while (!signal.aborted) {
      try {
        if (!(await this.callFirst(call))) await sleep(this.pollSeconds, signal);
        this.backoff.reset();
      } catch (error) {
        this.log(`the inbox of ${this.consumer} failed, and is tried again: ${String(error)}`);
        await this.backoff.wait(signal);
      }
    }
  }

  /** End `run` after the call that is being made. */
  stop(): void {
    this.stopped.abort();
  }

  /** Call with the first item, and remove it. Returns whether there was one. */
  private callFirst(call: Call): Promise<boolean> {
    return transact(this.pool, async (client) => {
      const rows = (await client.query(LOCK_FIRST, [this.consumer])).rows as { position: string; item: Item }[];
      const first = rows[0];
      if (first === undefined) return false;
      await call(first.item, `${this.consumer}:${first.position}`);
      await client.query(REMOVE, [this.consumer, first.position]);
      return true;
    });
  }
}

/** Run `work` in one transaction. Throws Interrupted if the database was lost, or asks to try again. */
async function transact<Connection extends Client, Value>(
  pool: Pool<Connection>,
  work: (client: Connection) => Promise<Value>,
): Promise<Value> {
  const client = await pool.connect().catch((error: unknown) => {
    throw new Interrupted(String(error), 0, { cause: error });
  });
  let isLost = false;
  // Without a listener the loss of a connection ends the process.
  const onError = (): void => {
    isLost = true;
  };
  client.on("error", onError);
  try {
    await client.query("BEGIN");
    const value = await work(client);
    await client.query("COMMIT");
    return value;
  } catch (error) {
    await client.query("ROLLBACK").catch(onError);
    if (isLost || isPassing(error)) throw new Interrupted(String(error), 0, { cause: error });
    throw error;
  } finally {
    client.removeListener("error", onError);
    client.release(isLost);
  }
}

function isPassing(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && code.length === 5 && PASSING.has(code.slice(0, 2));
}
