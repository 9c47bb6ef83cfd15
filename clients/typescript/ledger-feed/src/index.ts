// Reads Ledger's feed by position. `Consumer` applies each event to a database exactly once; "ledger-feed/postgres"
// keeps its position.

export { Consumer, type ConsumerOptions, type Handler, type Positions, type Reached } from "./consumer.js";
export {
  FeedError,
  FeedIncomplete,
  FeedOutOfOrder,
  FeedRefused,
  FilterChanged,
  Interrupted,
  KeyRefused,
  LedgerChanged,
  MalformedFeed,
  PositionFromTheFuture,
} from "./errors.js";
export { Feed, type FeedOptions } from "./feed.js";
export type { Batch, Item, LastItem, PublicEvent } from "./items.js";
