// Errors that end a consumer: going on would lose events, or be refused again.
//
//     FeedError
//     ├─ FeedIncomplete           a position is missing
//     ├─ FeedOutOfOrder           a position came twice, or after a later one
//     ├─ MalformedFeed            the answer is not the feed
//     ├─ FeedRefused              the service refused the request (4xx)
//     │  ├─ KeyRefused            ... because of the key (401, 403)
//     │  └─ PositionFromTheFuture ... because its log does not reach the position
//     ├─ LedgerChanged            another event stands at a position that was applied
//     └─ FilterChanged            the position was reached with another filter
//     Interrupted                 passes by itself, and is retried: a lost connection, a 429 or 5xx, a lost database

/** What ends a consumer. Everything that was applied before stays applied. */
export class FeedError extends Error {
  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/** The feed of the whole ledger has no holes, but the position after `previous` did not come. */
export class FeedIncomplete extends FeedError {
  constructor(readonly previous: number, readonly position: number) {
    super(
      `the feed went from position ${previous} to ${position}, and what is between them is missing. A feed of the ` +
        "whole ledger has no holes: does the key have the scope ledger_feed? Without it, leave out wholeLedger.",
    );
  }
}

/** Positions ascend, but `position` came after `previous`. */
export class FeedOutOfOrder extends FeedError {
  constructor(readonly previous: number, readonly position: number) {
    super(
      `position ${position} came after position ${previous}, though positions ascend: does a cache or a proxy ` +
        "answer in place of the service?",
    );
  }
}

/** The answer is not what the feed sends, such as a page of a proxy. */
export class MalformedFeed extends FeedError {}

/** The service refused the request, in its words; `param` is the parameter at fault. */
export class FeedRefused extends FeedError {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | undefined,
    readonly param: string | undefined,
  ) {
    super(`${message} (status ${status})`);
  }
}

/** The key is unknown, expired or revoked, or lacks the scope. */
export class KeyRefused extends FeedRefused {}

/** The log ends before the consumer's position: the ledger was restored from an older backup. */
export class PositionFromTheFuture extends FeedRefused {
  constructor(status: number, message: string, code: string | undefined, param: string | undefined) {
    super(
      status,
      `${message} The ledger has lost events that this consumer has applied, since it was restored from an older ` +
        "backup, or this is another ledger. Restore the consumer's database to a moment before that one; or undo " +
        "by hand what it applied of the lost events, and set position, and last_item to NULL, in " +
        "ledger_feed_positions.",
      code,
      param,
    );
  }
}

/** Another event, or none, stands where the consumer applied its last one. */
export class LedgerChanged extends FeedError {
  constructor(readonly position: number, applied: string, found: string) {
    super(
      `the last event that was applied is ${applied} at position ${position}, but the ledger now shows ${found}. ` +
        "The ledger was restored from an older backup and went on from there, this is another ledger, or the key " +
        "cannot read that event any more. Restore the consumer's database to a moment before the backup; or undo " +
        "by hand what it applied of the lost events, and set position, and last_item to NULL, in " +
        "ledger_feed_positions.",
    );
  }
}

/** The consumer's position was reached with another filter, which may have passed over events. */
export class FilterChanged extends FeedError {
  constructor(consumer: string, stored: string, requested: string) {
    super(
      `consumer "${consumer}" came to its position with the filter ${stored}, not ${requested}: earlier events ` +
        "that only the new filter passes were never applied. Give the consumer a new name, under which it begins " +
        "anew; or, if those events do not matter, set filter in ledger_feed_positions.",
    );
  }
}

/** What passes by itself: the consumer tries again, after `secondsMin` or later. */
export class Interrupted extends Error {
  override name = "Interrupted";

  constructor(message: string, readonly secondsMin = 0, options?: ErrorOptions) {
    super(message, options);
  }
}
