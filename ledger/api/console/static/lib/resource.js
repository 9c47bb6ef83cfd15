// Hooks that keep an answer of the API on the screen.

import { get } from "./api.js";
import { untilVisible } from "./connection.js";
import { setQuery } from "./router.js";
import { session } from "./session.js";
import { useCallback, useEffect, useRef, useState } from "./ui.js";

/**
 * @typedef {object} Resource
 * @property {any} data  undefined until there is an answer; a reload leaves it until the next answer
 * @property {Error | null} error  of the last try: an ApiError; `data` may be an earlier answer
 * @property {boolean} isLoading
 * @property {() => void} reload
 */

/**
 * The answer of a GET, kept up to date: `const { data, error } = useResource("/internal/v1/projections", {},
 * { every: 2 })`.
 * @param {string | null} path  null: nothing is asked
 * @param {Record<string, any>} [params]  other ones are asked for at once, while the answer to the former
 *   ones stays
 * @param {{ every?: number, onResponse?: (response: Response) => void }} [options]  `every` N seconds again,
 *   while the page is visible
 * @returns {Resource}
 */
export function useResource(path, params = {}, { every, onResponse } = {}) {
  const wanted = path === null ? null : JSON.stringify([path, params, session.value?.account]);
  const [state, setState] = useState(/** @type {any} */ ({ path: null, error: null, done: null }));
  const [turn, setTurn] = useState(0);
  const latest = useRef(onResponse);
  latest.current = onResponse;
  useEffect(() => {
    if (path === null) return undefined;
    const abort = new AbortController();
    const load = async () => {
      try {
        const data = await get(path, params, { signal: abort.signal, onResponse: latest.current });
        if (!abort.signal.aborted) setState({ path, data, error: null, done: wanted });
      } catch (error) {
        if (abort.signal.aborted) return;
        setState((/** @type {any} */ old) =>
          ({ path, data: old.path === path ? old.data : undefined, error, done: wanted }));
      }
    };
    const stop = every ? repeat(load, every * 1000, abort.signal) : load();
    return () => {
      abort.abort();
      void stop;
    };
  }, [wanted, every, turn]);
  const reload = useCallback(() => setTurn((count) => count + 1), []);
  const isCurrent = state.path === path;
  return {
    data: isCurrent ? state.data : undefined,
    error: isCurrent && state.done === wanted ? state.error : null,
    isLoading: path !== null && state.done !== wanted,
    reload,
  };
}

/**
 * Run `load` now and again, each time `milliseconds` after it ended; not while nobody sees the page.
 * @param {() => Promise<void>} load
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 */
export async function repeat(load, milliseconds, signal) {
  while (!signal.aborted) {
    await load();
    await pause(milliseconds, signal);
    await untilVisible(signal);
  }
}

/**
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/**
 * @typedef {Resource & { rows: any[], next: (() => void) | null, previous: (() => void) | null }} List
 */

/**
 * A page of a list. Its cursor is in the URL as `after` (or `name`), so a link is the page; pass the result
 * to `Pages` (parts/table.js), which has the buttons and the keys `n` and `p`.
 * @param {string | null} path
 * @param {Record<string, any>} params  without the cursor
 * @param {{ query: URLSearchParams, name?: string, param?: string, limit?: number, every?: number,
 *   cursorOf?: (page: any) => string | number | null }} options  `param`: the API's name of the cursor;
 *   `cursorOf`: where the next page begins, by default at `next_position` or after the id of the last row
 * @returns {List}
 */
export function useList(path, params, options) {
  const { query, name = "after", param = "starting_after", limit = 50, cursorOf = findCursor } = options;
  const after = query.get(name);
  // Only the first page changes by itself: rows must not move under a reader of a later one.
  const every = after ? undefined : options.every;
  const resource = useResource(path, { ...params, limit, [param]: after }, { every });
  const page = resource.data;
  const cursor = page?.has_more || page?.next_position ? cursorOf(page) : null;
  const trail = /** @type {(string | null)[]} */ (history.state?.trail ?? []);
  return {
    ...resource,
    rows: page?.data ?? [],
    next: cursor === null || cursor === undefined ? null
      : () => setQuery({ [name]: cursor }, { state: { trail: [...trail, after] } }),
    previous: after === null ? null
      : () => setQuery({ [name]: trail.at(-1) ?? null }, { state: { trail: trail.slice(0, -1) } }),
  };
}

/** @param {any} page */
function findCursor(page) {
  return page.next_position ?? page.data.at(-1)?.id ?? null;
}
