// Check a checkpoint or a proof file that somebody has kept: in this browser, against the log as it is now.

import { getText } from "../../lib/api.js";
import { formatCount, formatTime } from "../../lib/format.js";
import { loadLogKeys } from "../../lib/log-keys.js";
import { openCheckpoint } from "../../lib/tlog/checkpoints.js";
import { CannotCheck, ProofError, decodeText } from "../../lib/tlog/encoding.js";
import { parseProofFile, verifyProofFile } from "../../lib/tlog/proof-files.js";
import { html, useState } from "../../lib/ui.js";
import { Field } from "../../parts/forms.js";
import { Note, Notice } from "../../parts/notice.js";
import { Facts, IdLink } from "../../parts/values.js";
import { checkContinues } from "./steps.js";

const HINT =
  "Paste it, drop the file here, or choose it. It stays in this browser: the service is asked only for "
  + "its own newest checkpoint, and for the proof that it continues this one.";
const FILE_BYTES_MAX = 64 * 1024 * 1024;

/** @typedef {import("../../lib/tlog/checkpoints.js").SignedCheckpoint} SignedCheckpoint */
/** @typedef {import("../../lib/tlog/proof-files.js").RecordedRow} RecordedRow */
/** @typedef {{ checkpoint: SignedCheckpoint, record?: RecordedRow, newest: SignedCheckpoint }} Proven */
/**
 * @typedef {{ proven?: Proven, refuted?: string, unchecked?: string, error?: any, isBusy?: boolean }} Result
 */

/** The tab. */
export function Check() {
  const [text, setText] = useState("");
  const [result, setResult] = useState(/** @type {Result} */ ({}));
  const check = async (/** @type {string} */ content) => {
    setResult({ isBusy: true });
    setResult(await checkText(content));
  };
  const take = async (/** @type {File | undefined} */ file) => {
    if (!file) return;
    if (file.size > FILE_BYTES_MAX) return setResult({ refuted: "the file is longer than 64 MiB" });
    try {
      const content = decodeText(new Uint8Array(await file.arrayBuffer()), "the file");
      setText(content);
      await check(content);
    } catch (error) {
      setResult({ refuted: /** @type {Error} */ (error).message });
    }
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    void check(text);
  };
  const drop = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    void take(event.dataTransfer?.files[0]);
  };
  const choose = (/** @type {any} */ event) => {
    void take(event.currentTarget.files[0]);
    event.currentTarget.value = ""; // so that the same file can be chosen again
  };
  return html`<form class="stack check" onSubmit=${submit} onDrop=${drop}
      onDragOver=${(/** @type {DragEvent} */ event) => event.preventDefault()}>
      <${Field} label="A signed checkpoint, or a .tlog-proof file" value=${text} onInput=${setText}
        multiline mono rows="10" hint=${HINT} />
      <div class="row">
        <button type="submit" class="button-primary" disabled=${!text.trim() || result.isBusy}>Check</button>
        <label class="button file-button">Choose a file
          <input type="file" class="visually-hidden" accept=".tlog-proof,text/plain" onChange=${choose}
            /></label>
      </div>
    </form>
    <div role="status"><${Verdict} result=${result} /></div>`;
}

/** @param {{ result: Result }} props */
function Verdict({ result }) {
  if (result.isBusy) return html`<p class="soft">Checking …</p>`;
  if (result.error) return html`<${Notice} error=${result.error} title="It could not be compared with the log"
    />`;
  if (result.unchecked) {
    return html`<${Note} tone="warning" title="Not checked."><p>${result.unchecked}</p></${Note}>`;
  }
  if (result.refuted) {
    return html`<${Note} tone="danger"
      title="It does not verify."><p>Because ${result.refuted}.</p></${Note}>`;
  }
  if (!result.proven) return null;
  const { checkpoint, record, newest } = result.proven;
  const what = record ? "The record is in the log." : "It is a checkpoint of this log.";
  return html`<${Note} tone="ok" title=${what}>
      <p>It is signed, and the newest checkpoint, of ${formatCount(newest.size)} records, continues
        it.</p></${Note}>
    <${Facts} rows=${[
      ["Log", html`<span class="id">${checkpoint.origin}</span>`],
      ["Checkpoint", `${formatCount(checkpoint.size)} records`],
      ["Cosigned by", checkpoint.cosigners.map(({ name, time }) =>
        `${name} on ${formatTime(time)}`).join(", ") || "no witness"],
      checkpoint.unchecked.length > 0 && ["Not checked",
        checkpoint.unchecked.map(({ name, why }) => `${name}: ${why}`).join(", ")],
      ...(record ? describe(record) : []),
    ]} />`;
}

/** @param {RecordedRow} record @returns {[string, any][]} */
function describe(record) {
  const at = Number(record.recorded_at) / 1_000_000;
  return [
    ["Position", record.position],
    ["Type", record.topic],
    ["Object", html`<${IdLink} id=${record.stream} />, version ${record.version}`],
    ["Recorded", record.recorded_at === null ? null : formatTime(at)],
    ["Account", html`<span class="id">${record.account}</span>, ${record.livemode === "true" ? "live"
      : "test"} mode`],
    ["Actor", record.actor && html`<span class="id">${record.actor}</span>`],
    ["Request", record.request_id && html`<${IdLink} id=${record.request_id} />`],
    ["Content", `${formatCount(record.state.length)} bytes, personal data sealed`],
  ];
}

/** @param {string} text @returns {Promise<Result>} */
async function checkText(text) {
  try {
    const keys = await loadLogKeys();
    const isFile = text.startsWith("c2sp.org/");
    // A note that was pasted may have lost the newline at its end.
    const note = text.endsWith("\n") ? text : `${text}\n`;
    const found = isFile ? await verifyProofFile(parseProofFile(note), keys.log, keys.witnesses)
      : { checkpoint: await openCheckpoint(note, keys.log, keys.witnesses) };
    const newest = await openCheckpoint(await getText("/internal/v1/audit/checkpoint"), keys.log,
      keys.witnesses);
    await checkContinues(found.checkpoint, newest);
    return { proven: { ...found, newest } };
  } catch (error) {
    if (error instanceof ProofError) return { refuted: error.message };
    if (error instanceof CannotCheck) return { unchecked: error.message };
    return { error };
  }
}
