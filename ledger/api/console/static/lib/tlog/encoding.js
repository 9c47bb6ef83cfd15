/**
 * Base64, UTF-8 and decimal numbers, as all formats of a transparency log write them: each in one spelling.
 * Sizes are JavaScript numbers, so they end at 2^53 - 1.
 */

/** @typedef {Uint8Array<ArrayBuffer>} Bytes */

export const HASH_BYTES = 32;

const CHUNK_BYTES = 0x8000;
const DECIMAL = /^(?:0|[1-9][0-9]{0,18})$/;

/** What is offered as a proof does not prove it; the message is one sentence that says why. */
export class ProofError extends Error {}

/** This browser cannot check it: nothing is proven, and nothing refuted. */
export class CannotCheck extends Error {}

/** @param {string} text @returns {Bytes} in UTF-8 */
export function encodeText(text) {
  return new TextEncoder().encode(text);
}

/**
 * @param {Uint8Array} bytes
 * @param {string} what what it is, for the error
 * @returns {string}
 * @throws {ProofError} for bytes that are not UTF-8
 */
export function decodeText(bytes, what) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ProofError(`${what} is not UTF-8`);
  }
}

/** @param {Uint8Array} bytes @returns {string} standard base64 with padding */
export function encodeBase64(bytes) {
  let binary = "";
  for (let begin = 0; begin < bytes.length; begin += CHUNK_BYTES) {
    binary += String.fromCharCode(...bytes.subarray(begin, begin + CHUNK_BYTES));
  }
  return btoa(binary);
}

/**
 * @param {string} text
 * @param {string} what what it is, for the error
 * @returns {Bytes}
 * @throws {ProofError} for any text but the one that `encodeBase64` makes: no two texts mean the same bytes
 */
export function decodeBase64(text, what) {
  let binary = "";
  try {
    binary = atob(text);
  } catch {
    throw new ProofError(`${what} is not base64`);
  }
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place += 1) bytes[place] = binary.charCodeAt(place);
  if (encodeBase64(bytes) !== text) throw new ProofError(`${what} is not base64`);
  return bytes;
}

/** @param {string} text @param {string} what @returns {Bytes} 32 of them @throws {ProofError} */
export function decodeHash(text, what) {
  const bytes = decodeBase64(text, what);
  if (bytes.length !== HASH_BYTES) {
    throw new ProofError(`${what} has ${bytes.length} bytes instead of ${HASH_BYTES}`);
  }
  return bytes;
}

/** @param {string} text @param {string} what @returns {number} @throws {ProofError} */
export function parseDecimal(text, what) {
  const number = Number(text);
  if (!DECIMAL.test(text) || !Number.isSafeInteger(number)) {
    throw new ProofError(`${what} is not a decimal number below 2^53 without leading zeroes`);
  }
  return number;
}

/** @param {Uint8Array} bytes @returns {string} */
export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {...Uint8Array} parts @returns {Bytes} one after another */
export function concatenate(...parts) {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let begin = 0;
  for (const part of parts) {
    result.set(part, begin);
    begin += part.length;
  }
  return result;
}

/** @param {Uint8Array} one @param {Uint8Array} other @returns {boolean} */
export function areEqual(one, other) {
  return one.length === other.length && one.every((byte, place) => byte === other[place]);
}

/**
 * @returns {SubtleCrypto}
 * @throws {CannotCheck} where the page was not loaded from a secure context
 */
export function getCrypto() {
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) {
    throw new CannotCheck("The browser offers no cryptography to a page that was loaded by plain http://.");
  }
  return subtle;
}

/** @param {Bytes} bytes @returns {Promise<Bytes>} @throws {CannotCheck} */
export async function sha256(bytes) {
  return new Uint8Array(await getCrypto().digest("SHA-256", bytes));
}
