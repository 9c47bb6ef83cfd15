/**
 * Signed notes (C2SP signed-note): a text, an empty line, and a line for each signature. Signatures of
 *   unknown
 * keys are ignored; a wrong signature of a known key makes the whole note worthless.
 */

import { ProofError, decodeBase64, encodeText } from "./encoding.js";
import { KEY_ID_BYTES, checkKeyName } from "./keys.js";

/** @typedef {import("./encoding.js").Bytes} Bytes */
/** @typedef {{ name: string, keyId: Bytes, signature: Bytes }} SignatureLine */
/** @typedef {{ text: string, signatures: SignatureLine[] }} Note its text ends with a newline */

const NOTE_BYTES_MAX = 1_000_000;
const SIGNATURES_MAX = 100;
const CONTROL = /[\x00-\x09\x0b-\x1f]/;
const DASH = "\u2014 ";

/**
 * Read a note, of which nothing is verified yet.
 * @param {string} text
 * @returns {Note}
 * @throws {ProofError}
 */
export function parseNote(text) {
  if (encodeText(text).length > NOTE_BYTES_MAX) {
    throw new ProofError(`the note is longer than ${NOTE_BYTES_MAX} bytes`);
  }
  if (CONTROL.test(text)) throw new ProofError("the note has a control character");
  const end = text.lastIndexOf("\n\n");
  const tail = text.slice(end + 2);
  if (end < 0 || !tail.endsWith("\n")) {
    throw new ProofError("the note is truncated: no empty line and signature lines at its end");
  }
  const lines = tail.slice(0, -1).split("\n");
  if (lines.length > SIGNATURES_MAX) {
    throw new ProofError(`the note has more than ${SIGNATURES_MAX} signatures`);
  }
  return { text: text.slice(0, end + 1), signatures: lines.map(parseLine) };
}

/** @param {string} line @returns {SignatureLine} */
function parseLine(line) {
  const [name = "", encoded] = line.slice(DASH.length).split(/ ([^]*)/);
  if (!line.startsWith(DASH) || encoded === undefined) {
    throw new ProofError("a signature line is not an em dash, a key's name and base64");
  }
  checkKeyName(name);
  const content = decodeBase64(encoded, `the signature of ${JSON.stringify(name)}`);
  if (content.length <= KEY_ID_BYTES) {
    throw new ProofError(`the signature of ${JSON.stringify(name)} is too short`);
  }
  return { name, keyId: content.slice(0, KEY_ID_BYTES), signature: content.slice(KEY_ID_BYTES) };
}
