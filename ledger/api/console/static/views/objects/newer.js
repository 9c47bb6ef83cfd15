// Whether the object changes while it is looked at: by the feed, which only a key with its scope may read.

import { hasScope } from "../../lib/session.js";
import { streamEvents } from "../../lib/stream.js";
import { useEffect, useRef, useState } from "../../lib/ui.js";

/**
 * How many changes were recorded after `position`; `onNewer` is called for each, if it is given. 0 without
 * the scope.
 * @param {string} id
 * @param {number | undefined} position
 * @param {(() => void) | null} onNewer
 */
export function useNewerChanges(id, position, onNewer) {
  const [count, setCount] = useState(0);
  const latest = useRef(onNewer);
  latest.current = onNewer;
  const isAllowed = hasScope("feed") || hasScope("ledger_feed");
  useEffect(() => {
    setCount(0);
    if (position === undefined || !isAllowed) return undefined;
    const abort = new AbortController();
    const onItem = () => {
      if (latest.current) latest.current();
      else setCount((known) => known + 1);
    };
    // Without the feed the view is as new as its last load, and says nothing of later changes.
    streamEvents("/internal/v1/feed", { object: id, after: position }, { onItem, signal: abort.signal })
      .catch(() => undefined);
    return () => abort.abort();
  }, [id, position, isAllowed]);
  return count;
}
