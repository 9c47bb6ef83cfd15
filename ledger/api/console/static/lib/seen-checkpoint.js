// The checkpoint that this browser has seen last, and the log's keys then. A log that was rolled back or
// made anew
// does not continue it, whatever the service says now.

const KEY = "ledger-console-checkpoint";

/**
 * @typedef {object} SeenCheckpoint
 * @property {string} origin
 * @property {number} size
 * @property {string} root  in base64
 * @property {string[]} keys  of the log, current and retired
 * @property {number} at  unix seconds, by this machine's clock
 */

/** @returns {SeenCheckpoint | null} null: none yet, or the browser keeps nothing */
export function readSeen() {
  try {
    const seen = JSON.parse(localStorage.getItem(KEY) ?? "null");
    const isWhole = seen && typeof seen.origin === "string" && Number.isSafeInteger(seen.size)
      && typeof seen.root === "string" && Array.isArray(seen.keys) && typeof seen.at === "number";
    return isWhole ? seen : null;
  } catch {
    return null;
  }
}

/** @param {Omit<SeenCheckpoint, "at">} checkpoint @returns {boolean} whether the browser keeps it */
export function keepSeen(checkpoint) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...checkpoint, at: Math.floor(Date.now() / 1000) }));
    return true;
  } catch {
    return false;
  }
}

/** Forget it: for whoever knows why the log is another one, as after a new database in development. */
export function forgetSeen() {
  try {
    localStorage.removeItem(KEY);
  } catch {
    // It keeps nothing.
  }
}
