// The proof that nothing is missing, taken from the positions themselves.

import { FeedIncomplete, FeedOutOfOrder } from "./errors.js";
import type { Batch, Item, Message } from "./items.js";

/** Checks that positions ascend and, in a feed of the whole ledger, that none is missing. */
export class Sequence {
  /** `position`: all that passes the filter up to there has come. */
  constructor(private position: number, private readonly wholeLedger: boolean) {}

  /** What has come, as one batch. Throws FeedIncomplete or FeedOutOfOrder, with nothing of it given. */
  accept(messages: readonly Message[]): Batch {
    const after = this.position;
    const items: Item[] = [];
    let position = after;
    let head: number | undefined;
    for (const message of messages) {
      const isItem = "item" in message;
      const next = isItem ? message.item.position : message.progress.position;
      if (next < position || (isItem && next === position)) throw new FeedOutOfOrder(position, next);
      // An item is the next position itself; progress says that nothing is between it and the last item.
      if (this.wholeLedger && next > (isItem ? position + 1 : position)) throw new FeedIncomplete(position, next);
      position = next;
      if (isItem) items.push(message.item);
      else head = message.progress.head;
    }
    this.position = position;
    return { after, position, items, ...(head === undefined ? {} : { head }) };
  }
}
