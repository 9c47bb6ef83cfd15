// The keys that verify checkpoints: those of the log and of its witnesses, as the service names them.

import { get } from "./api.js";
import { parseVerifierKey } from "./tlog/keys.js";

const KEPT_MS = 60_000;

/** @typedef {import("./tlog/keys.js").VerifierKey} VerifierKey */

/**
 * @typedef {object} LogKeys
 * @property {VerifierKey[]} log  current and retired
 * @property {VerifierKey[]} witnesses
 */

/** @type {{ at: number, keys: Promise<LogKeys> } | null} */
let kept = null;

/**
 * The keys, asked for once a minute at most. They are the same for all accounts.
 * @returns {Promise<LogKeys>}
 * @throws {import("./tlog/encoding.js").ProofError} for a key that is none
 * @throws {import("./tlog/encoding.js").CannotCheck} where the browser has no cryptography
 */
export function loadLogKeys() {
  if (!kept || Date.now() - kept.at > KEPT_MS) {
    const keys = readKeys();
    kept = { at: Date.now(), keys };
    keys.catch(() => { kept = null; });
  }
  return kept.keys;
}

/** @returns {Promise<LogKeys>} */
async function readKeys() {
  const [log, witnesses] = await Promise.all([
    get("/internal/v1/audit/keys", {}, { account: null }),
    get("/internal/v1/audit/witnesses", {}, { account: null }),
  ]);
  /** @type {string[]} */
  const witnessTexts = witnesses.data.flatMap((/** @type {any} */ each) => each.keys);
  return {
    log: await Promise.all(log.data.map((/** @type {any} */ each) => parseVerifierKey(each.key))),
    witnesses: await Promise.all(witnessTexts.map(parseVerifierKey)),
  };
}
