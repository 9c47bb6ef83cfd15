// Reads pages of the feed backward. The feed itself goes forward only; but its positions have no holes, so
// what comes before a position is in a window that ends there.

import { encodeParams, get, getText, headersOf, readError } from "../../lib/api.js";

const FEED = "/internal/v1/feed";
const FIRST_WINDOW = 500;
const WINDOW_GROWTH = 10;

/**
 * An item of the feed (docs/feed.md).
 * @typedef {{ position: number, type: string, object: string, version: number, account: string,
 *   livemode: boolean, recorded_at: number, request: string | null, causation: string | null,
 *   events: { id: string, type: string }[] | null, data?: any, unreadable?: string }} Item
 */

/**
 * What is shown: `types` of recorded events for the service, and `shows`, which is stricter where somebody
 * has asked for types of public Events.
 * @typedef {{ types: string[], object: string | null, shows: (item: Item) => boolean }} Choice
 */

/**
 * The last position of the log.
 * @param {AbortSignal} signal
 * @returns {Promise<number>}
 */
export async function readHead(signal) {
  const text = await getText(FEED, { limit: 1 }, { signal });
  return JSON.parse(text.trimEnd().split("\n").at(-1) ?? "{}").head ?? 0;
}

/**
 * The newest `count` items before a position, newest first. Fewer: there are no others.
 * @param {Choice} choice
 * @param {number} before
 * @param {number} count
 * @param {AbortSignal} signal
 * @returns {Promise<Item[]>}
 */
export async function readBefore(choice, before, count, signal) {
  /** @type {Item[]} */
  let found = [];
  let end = before;
  for (let size = FIRST_WINDOW; end > 1 && found.length < count; size *= WINDOW_GROWTH) {
    const after = Math.max(0, end - 1 - size);
    const older = await readWindow(choice, after, end, count - found.length, signal);
    found = [...found, ...older.reverse()];
    end = after + 1;
  }
  return found;
}

/**
 * One item by its position; null if the key may not see it.
 * @param {number} position
 * @param {AbortSignal} signal
 * @returns {Promise<Item | null>}
 */
export async function readItem(position, signal) {
  const text = await getText(FEED, { after: position - 1, limit: 1 }, { signal });
  const item = JSON.parse(text.split("\n", 1)[0] ?? "{}");
  return item.position === position ? item : null;
}

/**
 * The first position of those recorded at `time` or later, `head + 1` if there is none: times never decrease
 * along the log.
 * @param {number} time  unix seconds
 * @param {number} head
 * @param {AbortSignal} signal
 */
export async function findPosition(time, head, signal) {
  let low = 0;
  let high = head;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const text = await getText(FEED, { after: middle, limit: 1 }, { signal });
    const item = JSON.parse(text.split("\n", 1)[0] ?? "{}");
    if (item.position === undefined || item.recorded_at >= time) high = middle;
    else low = item.position;
  }
  return high + 1;
}

/**
 * The last `count` items of a window, oldest first: after one position and before another. The answer is cut
 * off there.
 * @param {Choice} choice
 * @param {number} after
 * @param {number} before
 * @param {number} count
 * @param {AbortSignal} signal
 */
async function readWindow(choice, after, before, count, signal) {
  const answer = new AbortController();
  const stop = () => answer.abort();
  signal.addEventListener("abort", stop, { once: true });
  /** @type {Item[]} */
  const items = [];
  try {
    const query = encodeParams({ after, types: choice.types, object: choice.object });
    const response = await fetch(`${FEED}?${query}`, { headers: headersOf(), signal: answer.signal });
    if (!response.ok || !response.body) throw await readError(response);
    for await (const item of readLines(response.body)) {
      if (item.position === undefined || item.position >= before) break;
      if (choice.shows(item)) items.push(item);
      if (items.length > count) items.shift();
    }
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
  }
  return items;
}

/**
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<any>}
 */
async function* readLines(body) {
  const reader = body.pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line);
  }
}

/** @typedef {{ type: string, events: string[] | null }} RecordedType */

/** @type {Promise<RecordedType[]> | undefined} */
let types;

/** The types of recorded events, with those of the public Events that each makes. Asked for once. */
export function loadTypes() {
  types ??= get("/internal/v1/feed/types", {}, { account: null }).then((page) => page.data);
  types.catch(() => { types = undefined; });
  return types;
}

/**
 * What patterns choose: of recorded types, or of public ones, also as thin events name them. `unmatched`:
 * those that match no type of the ledger's own objects; other services may publish Events of such types.
 * @param {string[]} patterns
 * @param {RecordedType[]} known
 * @returns {{ types: string[], shows: (item: Item) => boolean, unmatched: string[] }}
 */
export function choose(patterns, known) {
  const wanted = patterns.map((pattern) => pattern.replace(/^v1\./, ""));
  if (wanted.length === 0 || wanted.includes("*")) return { types: [], shows: () => true, unmatched: [] };
  const isWanted = (/** @type {string} */ type) => wanted.some((pattern) => matches(pattern, type));
  const all = known.flatMap(({ type, events }) => [type, ...(events ?? [])]);
  // Of some types the public Events depend on the event: they are read, and chosen here.
  const read = known.filter(({ type, events }) => events === null || isWanted(type) || events.some(isWanted));
  return {
    types: read.map(({ type }) => type),
    shows: (item) => isWanted(item.type) || (item.events ?? []).some(({ type }) => isWanted(type)),
    unmatched: patterns.filter((_, place) => !all.some((type) => matches(wanted[place] ?? "", type))),
  };
}

/**
 * @param {string} pattern  "charge.*", "dispute.opened"
 * @param {string} type
 */
function matches(pattern, type) {
  return pattern.endsWith("*") ? type.startsWith(pattern.slice(0, -1)) : type === pattern;
}

/** The id of the thin event of an Event. @param {string} id */
export function toThinId(id) {
  return id.startsWith("evt_") ? `evt_thin_${id.slice(4)}` : `evt_thin_~${id}`;
}
