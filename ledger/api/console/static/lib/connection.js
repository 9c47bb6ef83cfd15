// Whether the service answers. Requests that wait for it tell; the frame shows it.

import { signal } from "./ui.js";

const FIRST_WAIT_MS = 250;
const WAIT_MS_MAX = 2000;

/**
 * null while the service answers, else why it does not, in a sentence.
 * @type {import("@preact/signals").Signal<string | null>}
 */
export const outage = signal(null);

export const NO_ANSWER = "No answer from the service. Trying again.";

/**
 * Wait before try number `count` (1, 2, …): 0.25 s at first, 2 s at most, less if the browser is back online.
 * Rejects when `signal` is aborted.
 * @param {number} count
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function waitBefore(count, signal) {
  const milliseconds = Math.min(FIRST_WAIT_MS * 2 ** (count - 1), WAIT_MS_MAX);
  return new Promise((resolve, reject) => {
    const finish = () => {
      clearTimeout(timer);
      removeEventListener("online", finish);
      signal?.removeEventListener("abort", finish);
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(finish, milliseconds);
    addEventListener("online", finish);
    signal?.addEventListener("abort", finish);
    if (signal?.aborted) finish();
  });
}

/**
 * Wait until somebody sees the page, or `signal` is aborted.
 * @param {AbortSignal} signal
 */
export async function untilVisible(signal) {
  while (document.hidden && !signal.aborted) {
    await new Promise((/** @type {(seen?: any) => void} */ resolve) => {
      document.addEventListener("visibilitychange", resolve, { once: true, signal });
      signal.addEventListener("abort", resolve, { once: true });
    });
  }
}
