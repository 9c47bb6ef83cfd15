/**
 * The keys that verify notes, in the text form of C2SP signed-note, and their signatures.
 * Ed25519 is checked by WebCrypto. ML-DSA-44 is read, and never checked: no browser has it.
 */

import {
  CannotCheck,
  ProofError,
  areEqual,
  concatenate,
  decodeBase64,
  encodeText,
  getCrypto,
  sha256,
  toHex,
} from "./encoding.js";

/** @typedef {import("./encoding.js").Bytes} Bytes */

export const ED25519 = 0x01;
export const COSIGNATURE_ED25519 = 0x04;
export const COSIGNATURE_ML_DSA_44 = 0x06;
export const KEY_ID_BYTES = 4;

const TIMESTAMP_BYTES = 8;
const NAME_BYTES_MAX = 255;
const NO_NAME = /[\p{White_Space}+\x00-\x1f]/u;

/** @type {Map<number, { algorithm: string, bytes: number }>} */
const KINDS = new Map([
  [ED25519, { algorithm: "Ed25519", bytes: 32 }],
  [COSIGNATURE_ED25519, { algorithm: "Ed25519", bytes: 32 }],
  [COSIGNATURE_ML_DSA_44, { algorithm: "ML-DSA-44", bytes: 1312 }],
]);

/**
 * @typedef {object} VerifierKey
 * @property {string} text the whole key as a text
 * @property {string} name
 * @property {number} kind what it signs: one of the constants above
 * @property {string} algorithm
 * @property {Bytes} keyId 4 bytes that name the key in its signatures
 * @property {Bytes} publicKey
 */

/** @param {string} name @throws {ProofError} for a text that cannot be a key's name */
export function checkKeyName(name) {
  const length = encodeText(name).length;
  if (NO_NAME.test(name) || length === 0 || length > NAME_BYTES_MAX) {
    throw new ProofError(`not the name of a key: ${JSON.stringify(name)}`);
  }
}

/**
 * @param {string} text `name+key id+base64`
 * @returns {Promise<VerifierKey>}
 * @throws {ProofError} also when the key id is not that of the key
 */
export async function parseVerifierKey(text) {
  const [, name = "", writtenId = "", encoded = ""] = /^([^+]*)\+([^+]*)\+([^]*)$/.exec(text) ?? [];
  if (!writtenId || !encoded) {
    throw new ProofError("a key is written as its name, its key id and its base64, joined by '+'");
  }
  checkKeyName(name);
  const content = decodeBase64(encoded, `the key ${JSON.stringify(name)}`);
  const kind = content[0] ?? 0;
  const described = KINDS.get(kind);
  if (!described) {
    throw new ProofError("the key's type is none of Ed25519, Ed25519 cosignature, ML-DSA-44 cosignature");
  }
  const publicKey = content.slice(1);
  if (publicKey.length !== described.bytes) {
    throw new ProofError(`the key has ${publicKey.length} bytes instead of ${described.bytes}`);
  }
  const digest = await sha256(concatenate(encodeText(`${name}\n`), content));
  const keyId = digest.slice(0, KEY_ID_BYTES);
  if (toHex(keyId) !== writtenId) {
    throw new ProofError(`the key id of ${JSON.stringify(name)} is not that of its public key`);
  }
  return { text, name, kind, algorithm: described.algorithm, keyId, publicKey };
}

/** @param {VerifierKey} key @returns {boolean} whether a browser can check its signatures at all */
export function isCheckable(key) {
  return key.kind !== COSIGNATURE_ML_DSA_44;
}

/** @param {VerifierKey} key @param {{ name: string, keyId: Bytes }} line @returns {boolean} */
export function isOf(key, line) {
  return line.name === key.name && areEqual(line.keyId, key.keyId);
}

/**
 * Check the signature of a note's text.
 * @param {VerifierKey} key of Ed25519
 * @param {string} text
 * @param {Bytes} signature without the key id; a cosignature begins with 8 bytes of time
 * @returns {Promise<number | null>} when it was made, in unix seconds; null for a type without a time
 * @throws {ProofError} for one that is not of this key
 * @throws {CannotCheck} where the browser lacks the algorithm
 */
export async function verifySignature(key, text, signature) {
  const isTimed = key.kind === COSIGNATURE_ED25519;
  const wrong = new ProofError(`the signature of ${JSON.stringify(key.name)} is wrong`);
  if (isTimed && signature.length < TIMESTAMP_BYTES) throw wrong;
  const time = isTimed ? readTime(signature) : null;
  const message = isTimed ? `cosignature/v1\ntime ${time}\n${text}` : text;
  const bare = isTimed ? signature.slice(TIMESTAMP_BYTES) : signature;
  const publicKey = await importKey(key);
  if (!(await getCrypto().verify("Ed25519", publicKey, bare, encodeText(message)))) throw wrong;
  return time === null ? null : Number(time);
}

/** @param {Bytes} signature @returns {bigint} */
function readTime(signature) {
  return new DataView(signature.buffer, signature.byteOffset, TIMESTAMP_BYTES).getBigUint64(0);
}

/** @param {VerifierKey} key */
async function importKey(key) {
  try {
    return await getCrypto().importKey("raw", key.publicKey, "Ed25519", false, ["verify"]);
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotSupportedError") {
      throw new CannotCheck("This browser does not know Ed25519: use a newer one.");
    }
    if (error instanceof CannotCheck) throw error;
    throw new ProofError(`the key ${JSON.stringify(key.name)} is no public key`);
  }
}
