// Applies the feed to a database: each event once, in order, whatever is cut, killed or restarted.

import { Backoff } from "./backoff.js";
import { Interrupted } from "./errors.js";
import type { Feed } from "./feed.js";
import { splitBatch, type Batch, type Item, type LastItem } from "./items.js";

/** How far a consumer has come. All that passes its filter up to `position` is applied. */
export interface Reached {
  readonly position: number;
  readonly last: LastItem | undefined;
}

/** The position of one consumer, in its own database. `PostgresPositions` is one. Throws Interrupted for what passes
 * by itself, such as a lost connection. */
export interface Positions<Connection> {
  readonly consumer: string;
  /** The committed position. Throws FilterChanged. */
  load(filter: string): Promise<Reached>;
  /** One transaction that holds the position, which no other instance can move before its end. It moves to the end
   * of the batch that `apply` returns, if any. */
  transact(
    filter: string,
    apply: (connection: Connection, position: number) => Promise<Batch | undefined>,
  ): Promise<void>;
}

/** Applies one item through the connection of the transaction, which it leaves open. */
export type Handler<Connection> = (connection: Connection, item: Item) => Promise<unknown>;

export interface ConsumerOptions {
  /** A transaction applies what has just arrived, at most so many items. */
  readonly batchItemsMax?: number;
  /** Is told of each interruption. */
  readonly log?: (message: string) => void;
}

/** Someone has set the position to an earlier one: what follows it is to be read anew. */
class PositionMovedBack extends Error {}

/**
 * Hands each item to `handler` in the transaction that moves the position.
 *
 * Either both are committed or neither, so a killed consumer goes on where its database says. Several instances of one
 * consumer may run: a transaction holds the row of the position, and applies only what follows it.
 */
export class Consumer<Connection> {
  private readonly backoff = new Backoff();
  private readonly reading = new AbortController();
  private readonly batchItemsMax: number;
  private readonly log: (message: string) => void;

  constructor(
    private readonly feed: Feed,
    private readonly positions: Positions<Connection>,
    private readonly handler: Handler<Connection>,
    options: ConsumerOptions = {},
  ) {
    this.batchItemsMax = options.batchItemsMax ?? 500;
    this.log = options.log ?? ((message) => console.warn(message));
  }

  /** Apply what comes, until `stop`. Throws errors of FeedError, and what the handler throws, after rolling back its
   * batch. A lost database is waited for. */
  async run(): Promise<void> {
    while (!this.reading.signal.aborted) {
      try {
        await this.followFeed();
      } catch (error) {
        if (error instanceof PositionMovedBack) {
          this.log(`the position of ${this.positions.consumer} was set back: going on from there`);
        } else if (error instanceof Interrupted) {
          this.log(`the database of ${this.positions.consumer} failed, and is tried again: ${error.message}`);
          await this.backoff.wait(this.reading.signal);
        } else {
          throw error;
        }
      }
    }
  }

  /** End `run` after the batch that is being applied. */
  stop(): void {
    this.reading.abort();
  }

  /** Apply what follows the committed position, until the database fails. */
  private async followFeed(): Promise<void> {
    const { position, last } = await this.positions.load(this.feed.filter);
    for await (const batch of this.feed.follow(position, last, this.reading.signal)) {
      for (const part of splitBatch(batch, this.batchItemsMax)) {
        if (this.reading.signal.aborted) return;
        await this.positions.transact(this.feed.filter, (connection, reached) => this.apply(connection, reached, part));
        this.backoff.reset();
      }
    }
  }

  /** The locked position decides: what another instance has applied is left out. */
  private async apply(connection: Connection, position: number, batch: Batch): Promise<Batch | undefined> {
    if (position < batch.after) throw new PositionMovedBack();
    if (position >= batch.position) return undefined;
    for (const item of batch.items) {
      if (item.position > position) await this.handler(connection, item);
    }
    return batch;
  }
}
