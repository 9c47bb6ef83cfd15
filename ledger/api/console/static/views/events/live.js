// The feed on the screen: a page of what is there, then what comes, as fast as the page can be drawn.

import { streamEvents } from "../../lib/stream.js";
import { useCallback, useEffect, useLayoutEffect, useReducer, useRef } from "../../lib/ui.js";
import { findPosition, readBefore, readHead } from "./feed.js";

/** Items on the screen, and items kept while it is paused. */
export const ROWS_MAX = 500;
const PAGE_ROWS = 100;
// The page is drawn at most for this share of the time: under load it stays usable. When more than FLOOD_ROWS
// came since it was last drawn, it shows so many for a moment, and the others in steps once there are fewer.
const DRAWN_SHARE = 0.2;
const FLOOD_ROWS = 60;
const STEP_MS = 200;

/** @typedef {import("./feed.js").Item} Item */
/** @typedef {import("./feed.js").Choice} Choice */

/**
 * What is shown. `from` and `to` in unix seconds; `before`: a position, for an earlier page. With `to` or
 * `before` nothing new comes.
 * @typedef {Choice & { key: string, from: number | null, to: number | null, before: number | null }} Shown
 */

/**
 * @typedef {object} Feed
 * @property {Item[]} rows  newest first
 * @property {"loading" | "live" | "lost" | "page"} state
 * @property {boolean} hasOlder
 * @property {number} missed  what came while it was paused
 * @property {number} received  what came since the page was opened
 * @property {any} error
 */

/**
 * The items of the feed that are chosen. While it is paused they are counted, and the newest are kept.
 * @param {Shown | null} shown  null: not known yet
 * @param {boolean} isPaused
 * @returns {Feed & { reload: () => void }}
 */
export function useFeed(shown, isPaused) {
  const [, draw] = useReducer((/** @type {number} */ count) => count + 1, 0);
  const [turn, reload] = useReducer((/** @type {number} */ count) => count + 1, 0);
  const screen = useRef(new Screen(draw));
  screen.current.setPaused(isPaused);
  useLayoutEffect(() => screen.current.noteDrawn());
  useEffect(() => {
    if (!shown) return undefined;
    const abort = new AbortController();
    const own = screen.current;
    own.clear();
    follow(shown, own, abort.signal).catch((error) => {
      if (!abort.signal.aborted) own.fail(error);
    });
    return () => abort.abort();
  }, [shown?.key, turn]);
  return { ...screen.current.feed, reload: useCallback(() => reload(0), []) };
}

/**
 * @param {Shown} shown
 * @param {Screen} screen
 * @param {AbortSignal} signal
 */
async function follow(shown, screen, signal) {
  const head = await readHead(signal);
  const isPage = shown.to !== null || shown.before !== null;
  const end = shown.to === null ? head + 1 : await findPosition(shown.to + 1, head, signal);
  const start = shown.from === null ? 1 : await findPosition(shown.from, head, signal);
  const before = Math.min(end, shown.before ?? Infinity);
  const found = before > start ? await readBefore(shown, before, PAGE_ROWS, signal) : [];
  const rows = found.filter(({ position }) => position >= start);
  screen.open(rows, { isPage, hasOlder: found.length === PAGE_ROWS && rows.length === found.length });
  if (isPage) return;
  await streamEvents("/internal/v1/feed", { after: head, types: shown.types, object: shown.object }, {
    onItem: (item) => shown.shows(item) && screen.add(item),
    onOpen: () => screen.setState("live"),
    onClose: () => screen.setState("lost"),
    signal,
  });
}

/** What is drawn, and what waits to be drawn. */
class Screen {
  /** @param {(value: number) => void} draw */
  constructor(draw) {
    this.draw = draw;
    /** @type {Item[]} */
    this.waiting = [];
    /** @type {Item[]} */
    this.kept = [];
    this.isCut = false;
    this.isPaused = false;
    this.isScheduled = false;
    this.nextAt = 0;
    this.drawnFrom = 0;
    /** @type {Feed} */
    this.feed = this.makeEmpty();
  }

  /** @returns {Feed} */
  makeEmpty() {
    return { rows: [], state: "loading", hasOlder: false, missed: 0, received: 0, error: null };
  }

  clear() {
    this.waiting = [];
    this.kept = [];
    this.feed = this.makeEmpty();
    this.draw(0);
  }

  /**
   * @param {Item[]} rows
   * @param {{ isPage: boolean, hasOlder: boolean }} page
   */
  open(rows, { isPage, hasOlder }) {
    this.kept = rows;
    this.feed = { ...this.feed, rows, hasOlder, state: isPage ? "page" : "live", error: null };
    this.draw(0);
  }

  /** @param {Feed["state"]} state */
  setState(state) {
    if (this.feed.state === state) return;
    this.feed = { ...this.feed, state };
    this.draw(0);
  }

  /** @param {any} error */
  fail(error) {
    this.feed = { ...this.feed, error };
    this.draw(0);
  }

  /** @param {boolean} isPaused */
  setPaused(isPaused) {
    if (this.isPaused === isPaused) return;
    this.isPaused = isPaused;
    if (!isPaused) this.schedule();
  }

  /** @param {Item} item */
  add(item) {
    this.waiting.push(item);
    if (this.waiting.length > 2 * ROWS_MAX) this.waiting = this.waiting.slice(-ROWS_MAX);
    this.feed.received += 1;
    if (this.isPaused) this.feed.missed += 1;
    this.schedule();
  }

  /** Draw at the next frame, or later if that would take too much of the time. */
  schedule() {
    if (this.isScheduled) return;
    this.isScheduled = true;
    const wait = this.nextAt - performance.now();
    if (wait > 0) setTimeout(() => requestAnimationFrame(() => this.flush()), wait);
    else requestAnimationFrame(() => this.flush());
  }

  flush() {
    this.isScheduled = false;
    this.drawnFrom = performance.now();
    if (this.isPaused) {
      this.feed = { ...this.feed };
    } else if (this.waiting.length > 0 || this.feed.missed > 0 || this.isCut) {
      const limit = this.waiting.length > FLOOD_ROWS ? FLOOD_ROWS : this.feed.rows.length + FLOOD_ROWS;
      this.kept = [...this.waiting.reverse(), ...this.kept].slice(0, ROWS_MAX);
      this.waiting = [];
      const rows = this.kept.slice(0, limit);
      this.isCut = rows.length < this.kept.length;
      const hasOlder = this.feed.hasOlder || this.kept.length === ROWS_MAX;
      this.feed = { ...this.feed, rows, missed: 0, hasOlder };
      if (this.isCut) setTimeout(() => this.schedule(), STEP_MS);
    }
    this.draw(0);
  }

  /** Called when what was flushed is in the document. */
  noteDrawn() {
    if (!this.drawnFrom) return;
    const now = performance.now();
    this.nextAt = now + (now - this.drawnFrom) / DRAWN_SHARE;
    this.drawnFrom = 0;
  }
}
