// An object's past: the versions that there are, the one that is shown, and the change that made it.
//
// Versions are 1, 2, 3 … without holes. So a page of the timeline and a place of the slider are numbers, and
// the position in the log that belongs to one is asked for: however many changes there are, a page is loaded.

import { get } from "../../lib/api.js";
import { useResource } from "../../lib/resource.js";
import { setQuery } from "../../lib/router.js";
import { useEffect, useRef, useState } from "../../lib/ui.js";
import { useNewerChanges } from "./newer.js";

export const PAGE_CHANGES = 20;
const SETTLE_MS = 120;

/**
 * @typedef {object} Past
 * @property {any} now  {as_of, object} as it is now
 * @property {any} shown  {as_of, object} as of the chosen moment; undefined before its creation
 * @property {number} version  the one that is shown; 0: before its creation
 * @property {number} last  how many versions there are; 0 while that is not known
 * @property {any} change  the history's entry of that version
 * @property {any[]} changes  those on the page of the timeline, newest first
 * @property {number} top  the version after the newest one on that page
 * @property {number} newer  how many changes came since, while a moment of the past is shown
 * @property {any} momentError  why the moment cannot be shown
 * @property {any} timelineError
 * @property {any} unreadable  why the object cannot be folded
 * @property {boolean} isMissing  there is no such object for this key
 * @property {boolean} isFirstLoad
 * @property {boolean} isBefore  the moment is before its creation
 * @property {(version: number) => void} select  show a version
 * @property {() => void} reload
 */

/** @param {string} id */
export function pathOf(id) {
  return `/internal/v1/audit/objects/${encodeURIComponent(id)}`;
}

/**
 * What the view of an object shows, for the moment and the page in the URL.
 * @param {string} id
 * @param {URLSearchParams} query
 * @returns {Past}
 */
export function usePast(id, query) {
  const at = query.get("at");
  const now = useResource(pathOf(id));
  const then = useResource(at ? pathOf(id) : null, { at });
  const last = now.data?.as_of.version ?? 0;
  const shown = at ? then : now;
  const isBefore = Boolean(at) && isNotFound(then.error) && !isNotFound(now.error);
  const version = isBefore ? 0 : shown.data?.as_of.version ?? 0;
  const history = `${pathOf(id)}/history`;
  const change = useResource(version > 0 ? history : null, { starting_after_version: version - 1, limit: 1 });
  // The page that has the version, unless another one was turned to.
  const after = query.get("after") ?? pageOf(version, last);
  const isPlaced = !at || query.has("after") || version > 0 || isBefore;
  const timeline = useResource(isPlaced ? history : null,
    { order: "desc", limit: PAGE_CHANGES, starting_after_version: after });
  const reload = () => [now, timeline].forEach((each) => each.reload());
  const newer = useNewerChanges(id, now.data?.as_of.position, at ? null : reload);
  const selection = useSelection(id, last, version);
  return {
    now: now.data, shown: isBefore ? undefined : shown.data, last, newer, isBefore, reload,
    top: Number(after ?? last + 1),
    version: selection.wanted ?? version,
    change: change.data?.data[0]?.version === version ? change.data.data[0] : undefined,
    changes: timeline.data?.data ?? [],
    momentError: selection.error ?? (isBefore || isUnreadable(then.error) ? null : then.error),
    timelineError: timeline.error,
    unreadable: [then.error, now.error, timeline.error].find(isUnreadable) ?? null,
    isMissing: isNotFound(now.error),
    isFirstLoad: !now.data && !now.error,
    select: selection.select,
  };
}

/** @param {any} error */
function isNotFound(error) {
  return error?.status === 404;
}

/** A record that cannot be read is the service's fault, not the caller's. @param {any} error */
function isUnreadable(error) {
  return error?.status === 500;
}

/**
 * Choose a version: its position is asked for, and is then the moment in the URL. Of many in a row, as a
 * slider makes them, the last one counts.
 * @param {string} id
 * @param {number} last
 * @param {number} version  that is shown
 */
function useSelection(id, last, version) {
  const [wanted, setWanted] = useState(/** @type {number | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const pending = useRef(/** @type {AbortController | null} */ (null));
  useEffect(() => setWanted(null), [version]);
  useEffect(() => () => pending.current?.abort(), []);
  const select = async (/** @type {number} */ number) => {
    const target = Math.max(0, Math.min(number, last));
    pending.current?.abort();
    const own = new AbortController();
    pending.current = own;
    setWanted(target);
    setError(null);
    if (target === last) return setQuery({ at: null, after: null }, { replace: true });
    try {
      await settle(own.signal);
      const position = await findPosition(id, target, own.signal);
      setQuery({ at: `position:${position}`, after: null }, { replace: true });
    } catch (failure) {
      if (own.signal.aborted) return;
      setWanted(null);
      setError(failure);
    }
  };
  return { wanted, error, select };
}

/**
 * The cursor of the timeline's page that has a version; null for the first page.
 * @param {number} version
 * @param {number} last
 */
function pageOf(version, last) {
  const page = Math.floor((last - Math.max(version, 1)) / PAGE_CHANGES);
  return page <= 0 ? null : last + 1 - page * PAGE_CHANGES;
}

/**
 * The position of the moment at which a version was the newest one; that before the first for version 0.
 * @param {string} id
 * @param {number} version
 * @param {AbortSignal} signal
 * @returns {Promise<number>}
 */
async function findPosition(id, version, signal) {
  const cursor = Math.max(version, 1) - 1;
  const page = await get(`${pathOf(id)}/history`, { starting_after_version: cursor, limit: 1 }, { signal });
  const { position } = page.data[0];
  return version === 0 ? position - 1 : position;
}

/**
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function settle(signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, SETTLE_MS);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
