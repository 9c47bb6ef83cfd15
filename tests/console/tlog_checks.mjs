// Runs the console's own checks of checkpoints and proofs: one JSON document a line in, one a line out, with
// the error of a check that failed. With an argument it does so as a browser without cryptography does.
import { createInterface } from "node:readline";

const library = new URL("../../ledger/api/console/static/lib/tlog/", import.meta.url);
const { openCheckpoint } = await import(new URL("checkpoints.js", library));
const { decodeBase64, toHex, sha256 } = await import(new URL("encoding.js", library));
const { parseVerifierKey } = await import(new URL("keys.js", library));
const { checkConsistency, checkInclusion, hashLeaf } = await import(new URL("merkle.js", library));
const { decodeRecord, parseProofFile, verifyProofFile } = await import(new URL("proof-files.js", library));

if (process.argv[2]) Object.defineProperty(globalThis, "crypto", { value: process.argv[2] === "none" ? undefined : {
  subtle: {
    digest: crypto.subtle.digest.bind(crypto.subtle),
    importKey: async () => { throw new DOMException("Unrecognized name.", "NotSupportedError"); },
  },
} });

const bytes = (text) => decodeBase64(text, "a value of the test");
const readKeys = (texts) => Promise.all((texts ?? []).map(parseVerifierKey));
const describe = (checkpoint) => ({
  origin: checkpoint.origin,
  size: checkpoint.size,
  root: toHex(checkpoint.root),
  signers: checkpoint.signers.map((key) => key.text),
  cosigners: checkpoint.cosigners,
  unchecked: checkpoint.unchecked,
});
const CHECKS = {
  inclusion: (given) =>
    checkInclusion(bytes(given.leaf), given.index, given.size, given.hashes.map(bytes), bytes(given.root)),
  consistency: (given) =>
    checkConsistency(
      given.old_size, bytes(given.old_root), given.size, bytes(given.root), given.hashes.map(bytes)),
  checkpoint: async (given) =>
    describe(await openCheckpoint(given.note, await readKeys(given.keys), await readKeys(given.witnesses))),
  file: async (given) => {
    const keys = await readKeys(given.keys);
    const { checkpoint, record } = await verifyProofFile(parseProofFile(given.text), keys, []);
    return { ...describe(checkpoint), record: { ...record, state: toHex(record.state) } };
  },
  record: async (given) => {
    const content = bytes(given.content);
    const entry = await sha256(content);
    const row = decodeRecord(content);
    const leaf = toHex(await hashLeaf(entry));
    return { row: { ...row, state: toHex(row.state) }, entry: toHex(entry), leaf };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const given = JSON.parse(line);
  let answer = {};
  try {
    answer = { result: (await CHECKS[given.check](given)) ?? null };
  } catch (error) {
    answer = { error: error.message, kind: error.constructor.name };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
