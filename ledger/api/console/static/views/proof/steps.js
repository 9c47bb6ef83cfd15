// The steps of a verification: what each asks of the service, and what it checks in this browser.

import { get, getText } from "../../lib/api.js";
import { formatCount, formatNumberOf, formatTime } from "../../lib/format.js";
import { loadLogKeys } from "../../lib/log-keys.js";
import { keepSeen, readSeen } from "../../lib/seen-checkpoint.js";
import { openCheckpoint } from "../../lib/tlog/checkpoints.js";
import { CannotCheck, ProofError, decodeHash, encodeBase64 } from "../../lib/tlog/encoding.js";
import { checkConsistency } from "../../lib/tlog/merkle.js";
import { parseProofFile, verifyProofFile } from "../../lib/tlog/proof-files.js";

export const SAMPLES = 10;
const AUDIT = "/internal/v1/audit";

/** @typedef {import("../../lib/tlog/checkpoints.js").SignedCheckpoint} SignedCheckpoint */
/** @typedef {import("../../lib/log-keys.js").LogKeys} LogKeys */
/**
 * @typedef {"waiting" | "running" | "ok" | "remembered" | "warning" | "failed" | "unchecked" | "stopped"}
 *   StepState
 */
/** @typedef {{ state: StepState, text: string }} Outcome */
/** @typedef {{ done: number, size: number, seconds: number, differences: any[] }} LogProgress */

/** @type {[id: string, title: string][]} */
export const STEPS = [
  ["signature", "The newest checkpoint is signed"],
  ["growth", "The log only grew since this browser saw it last"],
  ["witnesses", "What witnesses cosigned is part of it"],
  ["samples", "Random records are in the tree"],
  ["log", "Every record of the log has its leaf"],
];

/**
 * Make all steps, one after another; after one that fails, too.
 * @param {(id: string, outcome: Outcome) => void} report
 * @param {(progress: LogProgress) => void} onProgress
 * @param {AbortSignal} signal  ends it
 */
export async function verifyAll(report, onProgress, signal) {
  /** @type {{ newest?: SignedCheckpoint, keys?: LogKeys }} */
  const known = {};
  const step = async (/** @type {string} */ id, /** @type {() => Promise<Outcome>} */ check) => {
    if (signal.aborted) return report(id, { state: "stopped", text: "Stopped." });
    report(id, { state: "running", text: "" });
    report(id, await check().catch((error) => explain(error, signal)));
  };
  await step("signature", async () => {
    known.keys = await loadLogKeys();
    const note = await getText(`${AUDIT}/checkpoint`, {}, { signal });
    known.newest = await openCheckpoint(note, known.keys.log, known.keys.witnesses);
    const names = known.newest.signers.map((key) => key.name).join(", ");
    return { state: "ok", text: `${formatNumberOf(known.newest.size, "record")}, signed by ${names}.` };
  });
  const { newest, keys } = known;
  if (newest && keys) {
    await step("growth", () => checkGrowth(newest, keys, signal));
    await step("witnesses", () => checkWitnesses(newest, keys, signal));
    await step("samples", () => checkSamples(newest, keys, signal));
  } else {
    for (const id of ["growth", "witnesses", "samples"]) {
      report(id, { state: "unchecked", text: "Not checked: there is no checkpoint to check it against." });
    }
  }
  await step("log", () => checkLog(newest?.size ?? null, onProgress, signal));
}

/** @param {any} error @param {AbortSignal} signal @returns {Outcome} */
function explain(error, signal) {
  if (signal.aborted) return { state: "stopped", text: "Stopped." };
  if (error instanceof CannotCheck) return { state: "unchecked", text: `Not checked: ${error.message}` };
  if (error instanceof ProofError) return { state: "failed", text: `It does not verify: ${error.message}.` };
  const request = error.requestId ? ` (request ${error.requestId})` : "";
  return { state: "unchecked", text: `Not checked: ${error.message}${request}` };
}

/**
 * Check that a checkpoint is the beginning of another one.
 * @param {{ size: number, root: Uint8Array<ArrayBuffer> }} old
 * @param {SignedCheckpoint} newest
 * @param {AbortSignal} [signal]
 * @throws {ProofError}
 */
export async function checkContinues(old, newest, signal) {
  if (old.size > newest.size) {
    const sizes = `from ${formatCount(old.size)} to ${formatCount(newest.size)} records`;
    throw new ProofError(`the log shrank ${sizes}`);
  }
  const proof = await get(`${AUDIT}/proof/consistency`, { from: old.size, to: newest.size }, { signal });
  const hashes = proof.hashes.map((/** @type {string} */ each) => decodeHash(each, "a hash of the proof"));
  await checkConsistency(old.size, old.root, newest.size, newest.root, hashes);
}

/**
 * @param {SignedCheckpoint} newest
 * @param {LogKeys} keys
 * @param {AbortSignal} signal
 * @returns {Promise<Outcome>}
 */
async function checkGrowth(newest, keys, signal) {
  const seen = readSeen();
  const texts = keys.log.map((key) => key.text);
  const now = { origin: newest.origin, size: newest.size, root: encodeBase64(newest.root), keys: texts };
  if (!seen) {
    if (!keepSeen(now)) return { state: "unchecked", text: "This browser keeps nothing to compare with." };
    const text = "This browser had seen no checkpoint before. It remembers this one from now on.";
    return { state: "remembered", text };
  }
  const root = decodeHash(seen.root, "the root seen last");
  await checkContinues({ size: seen.size, root }, newest, signal);
  const lost = seen.keys.filter((key) => !texts.includes(key));
  if (lost.length) throw new ProofError(`the service does not list the key ${lost[0]} any more`);
  const added = texts.filter((key) => !seen.keys.includes(key));
  keepSeen(now);
  const since = `${formatCount(newest.size - seen.size)} more since.`;
  const text = `${formatNumberOf(seen.size, "record")} on ${formatTime(seen.at)}; ${since}`;
  if (!added.length) return { state: "ok", text };
  const advice = `The key ${added[0]} is new: ask the operators whether they rotated it.`;
  return { state: "warning", text: `${text} ${advice}` };
}

/**
 * @param {SignedCheckpoint} newest
 * @param {LogKeys} keys
 * @param {AbortSignal} signal
 * @returns {Promise<Outcome>}
 */
async function checkWitnesses(newest, keys, signal) {
  if (!keys.witnesses.length) return { state: "warning", text: "No witness cosigns this log." };
  let note = "";
  try {
    note = await getText(`${AUDIT}/checkpoint`, { cosigned: true }, { signal });
  } catch (error) {
    if (/** @type {any} */ (error).status !== 404) throw error;
    return { state: "warning", text: "No witness has cosigned a checkpoint yet." };
  }
  const cosigned = await openCheckpoint(note, keys.log, keys.witnesses);
  if (!cosigned.cosigners.length) {
    const why = cosigned.unchecked.map((each) => `${each.name} (${each.why})`).join(", ");
    return { state: "unchecked", text: `Not checked: ${why}` };
  }
  if (cosigned.size <= newest.size) await checkContinues(cosigned, newest, signal);
  else await checkContinues(newest, cosigned, signal); // sealed since
  const names = cosigned.cosigners.map(({ name, time }) => `${name} on ${formatTime(time)}`).join(", ");
  return { state: "ok", text: `${formatNumberOf(cosigned.size, "record")}, cosigned by ${names}.` };
}

/**
 * @param {SignedCheckpoint} newest
 * @param {LogKeys} keys
 * @param {AbortSignal} signal
 * @returns {Promise<Outcome>}
 */
async function checkSamples(newest, keys, signal) {
  /** @type {Set<number>} */
  const positions = new Set();
  for (let count = 0; count < SAMPLES; count += 1) {
    const position = await findRecord(Math.floor(Math.random() * newest.size), newest.size, signal);
    if (position === null) break;
    positions.add(position);
  }
  for (const position of positions) {
    const file = await getText(`${AUDIT}/proof/${position}.tlog-proof`, {}, { signal });
    const { record } = await verifyProofFile(parseProofFile(file), keys.log, keys.witnesses);
    if (record.position !== String(position)) throw new
      ProofError(`the proof of ${position} is of another record`);
  }
  if (!positions.size) return { state: "warning", text: "This account has no sealed records yet." };
  const shown = [...positions].sort((one, other) => one - other).map(formatCount).join(", ");
  return { state: "ok", text: `${formatNumberOf(positions.size, "record")} of this account, at ${shown}.` };
}

/**
 * The position of the account's first record after a position, or else of its last one before.
 * @param {number} after @param {number} size @param {AbortSignal} signal @returns {Promise<number | null>}
 */
async function findRecord(after, size, signal) {
  for (const params of [{ position: { gt: after, lte: size }, order: "asc" },
    { position: { lte: after }, order: "desc" }]) {
    const page = await get(`${AUDIT}/log`, { ...params, limit: 1 }, { signal });
    if (page.data[0]) return page.data[0].position;
  }
  return null;
}

/**
 * Have the service compare range after range.
 * @param {number | null} size @param {(progress: LogProgress) => void} onProgress @param {AbortSignal} signal
 * @returns {Promise<Outcome>}
 */
async function checkLog(size, onProgress, signal) {
  const begun = performance.now();
  /** @type {any[]} */
  const differences = [];
  let [from, done] = [/** @type {number | null} */ (0), 0];
  while (from !== null) {
    const answer = /** @type {any} */ (await get(`${AUDIT}/verify`, { from, to: size },
      { signal }).catch((error) => {
      if (signal.aborted) return null;
      throw error;
    }));
    if (!answer) {
      const found = differences.length ? formatNumberOf(differences.length, "difference")
        : "nothing differed";
      return { state: "stopped", text: `Stopped after ${formatNumberOf(done, "record")}: ${found}.` };
    }
    differences.push(...answer.differences);
    [from, done] = [answer.next, answer.to];
    const seconds = (performance.now() - begun) / 1000;
    onProgress({ done, size: size ?? answer.size, seconds, differences: [...differences] });
  }
  if (differences.length) return { state: "failed",
    text: `${formatNumberOf(differences.length, "difference")}.` };
  return { state: "ok", text: `${formatNumberOf(done,
    "record")} hashed again by the service: nothing differs.` };
}
