// What a job would send, counted by the service each time that its filters change.

import { post } from "../../lib/api.js";
import { useEffect, useState } from "../../lib/ui.js";

const TYPING_MS = 300;

/**
 * The answer of a dry run; nothing while it is awaited.
 * @param {string} path
 * @param {any} body  null: nothing is asked
 * @returns {{ preview: any, error: any, isCounting: boolean }}
 */
export function useDryRun(path, body) {
  const wanted = JSON.stringify(body);
  const [state, setState] = useState(/** @type {any} */ ({ wanted: null }));
  useEffect(() => {
    if (body === null) return undefined;
    const abort = new AbortController();
    const count = async () => {
      try {
        const preview = await post(path, { ...body, dry_run: true }, { signal: abort.signal });
        if (!abort.signal.aborted) setState({ wanted, preview, error: null });
      } catch (error) {
        if (!abort.signal.aborted) setState({ wanted, preview: null, error });
      }
    };
    const timer = setTimeout(count, TYPING_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [path, wanted]);
  const isCurrent = body !== null && state.wanted === wanted;
  return {
    preview: isCurrent ? state.preview : null, error: isCurrent ? state.error : null,
    isCounting: body !== null && !isCurrent,
  };
}
