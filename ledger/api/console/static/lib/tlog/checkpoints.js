/**
 * Checkpoints (C2SP tlog-checkpoint) with the cosignatures of witnesses (C2SP tlog-cosignature): a signed
 *   note
 * that says how large a log's tree is, and its root.
 */

import { ProofError, areEqual, decodeHash, parseDecimal, sha256 } from "./encoding.js";
import { ED25519, isCheckable, isOf, verifySignature } from "./keys.js";
import { parseNote } from "./notes.js";

/** @typedef {import("./encoding.js").Bytes} Bytes */
/** @typedef {import("./keys.js").VerifierKey} VerifierKey */
/** @typedef {import("./notes.js").Note} Note */

/**
 * @typedef {object} CheckpointText
 * @property {string} origin the name of the log, which is also that of its keys
 * @property {number} size the number of leaves
 * @property {Bytes} root
 */

/**
 * A checkpoint that a key of the log has signed.
 * @typedef {CheckpointText & {
 *   signers: VerifierKey[],
 *   cosigners: { name: string, time: number }[],
 *   unchecked: { name: string, why: string }[],
 * }} SignedCheckpoint
 */

/**
 * Read the text of a checkpoint, without signatures.
 * @param {string} text
 * @returns {Promise<CheckpointText>}
 * @throws {ProofError}
 */
export async function parseCheckpoint(text) {
  const lines = text.split("\n");
  if (lines.length < 4 || lines.at(-1) !== "" || !lines.slice(0, -1).every(Boolean)) {
    throw new ProofError("the checkpoint is not at least three lines that are not empty");
  }
  const [origin = "", sizeText = "", rootText = ""] = lines;
  const size = parseDecimal(sizeText, "the checkpoint's tree size");
  const root = decodeHash(rootText, "the checkpoint's root hash");
  if (size === 0 && !areEqual(root, await sha256(new Uint8Array()))) {
    throw new ProofError("the checkpoint's root is not that of an empty tree");
  }
  return { origin, size, root };
}

/**
 * Verify a checkpoint: a key of the log has signed it, and no known key's signature of it is wrong.
 * @param {string} noteText
 * @param {VerifierKey[]} logKeys
 * @param {VerifierKey[]} witnessKeys
 * @returns {Promise<SignedCheckpoint>}
 * @throws {ProofError}
 * @throws {import("./encoding.js").CannotCheck}
 */
export async function openCheckpoint(noteText, logKeys, witnessKeys = []) {
  const note = parseNote(noteText);
  const checkpoint = await parseCheckpoint(note.text);
  const own = logKeys.filter((key) => key.name === checkpoint.origin);
  /** @type {SignedCheckpoint} */
  const result = { ...checkpoint, signers: [], cosigners: [], unchecked: [] };
  for (const key of own) {
    const times = await verifyLines(note, key, result);
    if (times?.length) result.signers.push(key);
  }
  if (!result.signers.some((key) => key.kind === ED25519)) {
    const known = own.length ? "none of its known keys has signed it" : "no key of this log is known";
    throw new ProofError(`the checkpoint is of the log ${JSON.stringify(checkpoint.origin)}: ${known}`);
  }
  for (const key of witnessKeys.filter((each) => each.kind !== ED25519)) {
    const times = await verifyLines(note, key, result);
    if (times?.length) result.cosigners.push({ name: key.name, time: Math.max(...times) });
  }
  nameUnknown(note, [...own, ...witnessKeys], result);
  return result;
}

/**
 * The times of a key's signatures, 0 for those without one; null for a key that cannot be checked.
 * @param {Note} note @param {VerifierKey} key @param {SignedCheckpoint} result
 */
async function verifyLines(note, key, result) {
  const lines = note.signatures.filter((line) => isOf(key, line));
  if (lines.length && !isCheckable(key)) {
    result.unchecked.push({ name: key.name, why: `browsers do not have ${key.algorithm}` });
    return null;
  }
  const times = [];
  for (const line of lines) times.push((await verifySignature(key, note.text, line.signature)) ?? 0);
  return times;
}

/** @param {Note} note @param {VerifierKey[]} keys @param {SignedCheckpoint} result */
function nameUnknown(note, keys, result) {
  for (const line of note.signatures) {
    if (!keys.some((key) => isOf(key, line))) {
      result.unchecked.push({ name: line.name, why: "its key is not known here" });
    }
  }
}
