// What the feed says: items, and how far it has come.

import { MalformedFeed } from "./errors.js";

/** An Event of the public API that the recorded event made. */
export interface PublicEvent {
  readonly id: string;
  readonly type: string;
}

/** One event of the log. Later releases may add members. */
export interface Item {
  readonly position: number;
  readonly type: string;
  readonly object: string;
  readonly version: number;
  readonly account: string;
  readonly livemode: boolean;
  /** Unix time in seconds. */
  readonly recorded_at: number;
  readonly request: string | null;
  readonly causation: string | null;
  /** Null if the service cannot tell, since it cannot read the event. */
  readonly events: readonly PublicEvent[] | null;
  /** The event's fields without personal ones; absent if the service cannot read the event. */
  readonly data?: { readonly [field: string]: unknown };
  /** Why the service cannot read the event; everything else is as usual. */
  readonly unreadable?: string;
}

/** All items up to `position` that pass the filter have been sent; `head` is the end of the log. */
export interface Progress {
  readonly position: number;
  readonly head: number;
}

/** The last item that a consumer has applied. If another one stands there later, the log was replaced. */
export type LastItem = Pick<Item, "position" | "object" | "version">;

/** Items in order. All that pass the filter after position `after`, up to `position`, are among them. */
export interface Batch {
  readonly after: number;
  readonly position: number;
  readonly items: readonly Item[];
  /** The end of the log, if it came with them. */
  readonly head?: number;
}

export type Message = { readonly item: Item } | { readonly progress: Progress };

/** By what an item is known again. */
export function toLastItem({ position, object, version }: Item): LastItem {
  return { position, object, version };
}

/** The same in batches of at most `itemsMax` items. */
export function* splitBatch(batch: Batch, itemsMax: number): Generator<Batch> {
  let after = batch.after;
  for (let begin = 0; begin + itemsMax < batch.items.length; begin += itemsMax) {
    const items = batch.items.slice(begin, begin + itemsMax);
    const position = items.at(-1)!.position;
    yield { after, position, items };
    after = position;
  }
  const rest = batch.items.filter((item) => item.position > after);
  yield { ...batch, after, items: rest };
}

/** The item or the progress of one line. Throws MalformedFeed. */
export function parseMessage(text: string): Message {
  let members: unknown;
  try {
    members = JSON.parse(text);
  } catch (error) {
    throw new MalformedFeed(`a line of the feed cannot be read (${String(error)}): ${text.slice(0, 200)}`);
  }
  if (has(members, { progress: "number", head: "number" })) {
    return { progress: { position: members["progress"] as number, head: members["head"] as number } };
  }
  const isItem = has(members, { position: "number", type: "string", object: "string", version: "number" });
  if (!isItem) throw new MalformedFeed(`a line of the feed is no item: ${text.slice(0, 200)}`);
  return { item: members as unknown as Item };
}

function has(value: unknown, members: Record<string, string>): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const found = value as Record<string, unknown>;
  return Object.entries(members).every(([name, type]) => typeof found[name] === type);
}
