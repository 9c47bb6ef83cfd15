/**
 * Proof files (C2SP tlog-proof): everything that shows offline that an entry is in a log. Those of this
 *   service
 * hold the record itself, in its canonical form; it counts because its hash is what the proof leads to.
 */

import { openCheckpoint } from "./checkpoints.js";
import { ProofError, decodeBase64, decodeHash, decodeText, parseDecimal, sha256 } from "./encoding.js";
import { checkInclusion, hashLeaf } from "./merkle.js";
import { parseNote } from "./notes.js";

/** @typedef {import("./encoding.js").Bytes} Bytes */
/** @typedef {import("./keys.js").VerifierKey} VerifierKey */
/** @typedef {import("./checkpoints.js").SignedCheckpoint} SignedCheckpoint */

const FIRST_LINE = "c2sp.org/tlog-proof@v1";
const HASHES_MAX = 63;
const RECORD_PREFIX = "ledger/record/1\n";
const NULL_LENGTH = 0xffffffff;
const COLUMNS = /** @type {const} */ ([
  "position", "stream", "version", "topic", "account", "livemode", "actor", "request_id", "idempotency_key",
  "causation", "customer", "charge", "payment_intent", "recorded_at",
]);

/**
 * @typedef {object} ProofFile
 * @property {number} index the number of the leaf, from 0
 * @property {Bytes[]} hashes the inclusion proof, from the leaf's sibling upwards
 * @property {string} note the signed checkpoint
 * @property {Bytes | null} extra the record's canonical form
 */

/**
 * The columns of a record, as texts; its state is left as the bytes that are stored.
 * @typedef {Record<typeof COLUMNS[number], string | null> & { state: Bytes }} RecordedRow
 */

/**
 * Read a proof file, of which nothing is verified yet.
 * @param {string} text
 * @returns {ProofFile}
 * @throws {ProofError}
 */
export function parseProofFile(text) {
  const end = text.indexOf("\n\n");
  if (!text.startsWith(`${FIRST_LINE}\n`)) {
    throw new ProofError(`the proof file does not begin with the line ${FIRST_LINE}`);
  }
  if (end < 0) throw new ProofError("the proof file is truncated: it has no checkpoint");
  const [, ...lines] = text.slice(0, end).split("\n");
  let extra = null;
  if (lines[0]?.startsWith("extra ")) {
    extra = decodeBase64(/** @type {string} */ (lines.shift()).slice("extra ".length), "the extra data");
  }
  const first = lines.shift();
  if (!first?.startsWith("index ")) throw new ProofError("the proof file has no line with the index");
  const index = parseDecimal(first.slice("index ".length), "the index");
  if (lines.length > HASHES_MAX) throw new ProofError(`the proof has more than ${HASHES_MAX} hashes`);
  const hashes = lines.map((line, place) => decodeHash(line, `hash ${place + 1} of the proof`));
  const note = text.slice(end + 2);
  parseNote(note);
  return { index, hashes, note, extra };
}

/**
 * Check that the record in a proof file is in a tree that the log has signed.
 * @param {ProofFile} file
 * @param {VerifierKey[]} logKeys
 * @param {VerifierKey[]} witnessKeys
 * @returns {Promise<{ checkpoint: SignedCheckpoint, record: RecordedRow }>}
 * @throws {ProofError}
 * @throws {import("./encoding.js").CannotCheck}
 */
export async function verifyProofFile(file, logKeys, witnessKeys = []) {
  if (!file.extra) throw new ProofError("the proof file does not hold the record that it is about");
  const checkpoint = await openCheckpoint(file.note, logKeys, witnessKeys);
  const leafHash = await hashLeaf(await sha256(file.extra));
  await checkInclusion(leafHash, file.index, checkpoint.size, file.hashes, checkpoint.root);
  const record = decodeRecord(file.extra);
  if (record.position !== String(file.index + 1)) {
    throw new ProofError(`the record says position ${record.position}, and the proof leaf ${file.index}`);
  }
  return { checkpoint, record };
}

/**
 * The columns of a record's canonical form: a prefix, then each column as its length and its text.
 * @param {Bytes} content
 * @returns {RecordedRow}
 * @throws {ProofError}
 */
export function decodeRecord(content) {
  const refusal = new ProofError("the extra data is not the canonical form of a record");
  const prefix = new TextDecoder().decode(content.subarray(0, RECORD_PREFIX.length));
  if (prefix !== RECORD_PREFIX) throw refusal;
  const columns = splitColumns(content, refusal);
  const state = columns.pop();
  if (columns.length !== COLUMNS.length || !state) throw refusal;
  const texts = columns.map((each, place) => each && decodeText(each, `the column ${COLUMNS[place]}`));
  const row = Object.fromEntries(COLUMNS.map((name, place) => [name, texts[place]]));
  return /** @type {RecordedRow} */ ({ ...row, state });
}

/** @param {Bytes} content @param {ProofError} refusal @returns {(Bytes | null)[]} null for a null column */
function splitColumns(content, refusal) {
  const view = new DataView(content.buffer, content.byteOffset, content.length);
  /** @type {(Bytes | null)[]} */
  const columns = [];
  let begin = RECORD_PREFIX.length;
  while (begin < content.length) {
    if (begin + 4 > content.length) throw refusal;
    const length = view.getUint32(begin);
    begin += 4;
    if (length === NULL_LENGTH) {
      columns.push(null);
      continue;
    }
    if (begin + length > content.length) throw refusal;
    columns.push(content.slice(begin, begin + length));
    begin += length;
  }
  return columns;
}
