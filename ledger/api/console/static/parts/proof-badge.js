// Whether a record is in the signed log: asked of the service, and checked in this browser.

import { getText } from "../lib/api.js";
import { formatCount, readClock } from "../lib/format.js";
import { loadLogKeys } from "../lib/log-keys.js";
import { hasScope } from "../lib/session.js";
import { CannotCheck, ProofError } from "../lib/tlog/encoding.js";
import { parseProofFile, verifyProofFile } from "../lib/tlog/proof-files.js";
import { html, useEffect, useMemo, useState } from "../lib/ui.js";
import { Notice } from "./notice.js";
import { Badge, Time } from "./values.js";

const UNSEALED_MS = 1000;

/** @typedef {import("../lib/tlog/checkpoints.js").SignedCheckpoint} SignedCheckpoint */

/**
 * What is known of the proof; `file` is the text of the proof file.
 * @typedef {{ is: "loading" } | { is: "unsealed", message: string, since: number }
 *   | { is: "proven", file: string, checkpoint: SignedCheckpoint, position: number }
 *   | { is: "unchecked", file: string, why: string } | { is: "refuted", file: string, why: string }
 *   | { is: "failed", error: any }} ProofState
 */

/**
 * The badge of a record, named by its position in the log or by a public Event that it made.
 * @param {{ position?: number | null, event?: string | null }} props
 */
export function ProofBadge({ position, event }) {
  const subject = event ?? position ?? null;
  const state = useProof(hasScope("audit") ? subject : null);
  if (subject === null || !hasScope("audit")) return null;
  return html`<div class="proof row" data-proof=${state.is}>${describe(state, subject)}</div>`;
}

/** @param {ProofState} state @param {string | number} subject */
function describe(state, subject) {
  switch (state.is) {
    case "loading":
      return html`<${Badge} tone="waiting">Looking for the proof …</${Badge}>`;
    case "unsealed":
      return html`<${Badge} tone="waiting">Not sealed yet</${Badge}>
        <span class="hint">${state.message} Asked since <${Time} at=${state.since} />.</span>`;
    case "proven":
      return html`<${Badge} tone="ok">In the tree</${Badge}>
        <span class="hint">${sayProven(state)}</span><${Download} file=${state.file} subject=${subject} />`;
    case "unchecked":
      return html`<${Badge} tone="warning">Not checked</${Badge}>
        <span class="hint">${state.why} The service says that it is in the tree; check the file elsewhere,
        by <code>ledger verify</code>.</span><${Download} file=${state.file} subject=${subject} />`;
    case "refuted":
      return html`<${Refuted} why=${state.why}><${Download} file=${state.file} subject=${subject}
        /></${Refuted}>`;
    default:
      return html`<${Notice} error=${state.error} />`;
  }
}

/** @param {{ checkpoint: SignedCheckpoint, position: number }} proven */
function sayProven({ checkpoint, position }) {
  const names = checkpoint.cosigners.map(({ name }) => name);
  const witnessed = names.length ? `cosigned by ${names.join(", ")}` : "cosigned by no witness";
  const unchecked = checkpoint.unchecked.length
    ? `; not checked: ${checkpoint.unchecked.map(({ name, why }) => `${name} (${why})`).join(", ")}` : "";
  const size = `checkpoint of ${formatCount(checkpoint.size)} records`;
  return `Position ${formatCount(position)} · ${size} · ${witnessed} · checked in this browser${unchecked}`;
}

/**
 * The alarm when a proof does not hold.
 * @param {{ why: string, children?: any }} props
 */
export function Refuted({ why, children }) {
  return html`<div class="note note-danger" role="alert">
    <p class="note-title">It does not verify: ${why}.</p>
    <div class="note-text">
      <p>What the service shows here is not what it has signed. Save the proof file, rely on nothing of this
      log until it is explained, and have somebody who has a checkpoint from before
      run <code>ledger audit verify --against CHECKPOINT_FILE</code> where the database is.</p>
      ${children && html`<p>${children}</p>`}
    </div>
  </div>`;
}

/** @param {{ file: string, subject: string | number }} props */
function Download({ file, subject }) {
  const url = useMemo(() => URL.createObjectURL(new Blob([file], { type: "text/plain" })), [file]);
  useEffect(() => () => URL.revokeObjectURL(url), [url]);
  const name = `${subject}.tlog-proof`;
  return html`<a href=${url} download=${name} title="Everything that proves it offline, by ledger verify">
    Download ${name}</a>`;
}

/**
 * Ask for the proof file until the record is sealed, and check it.
 * @param {string | number | null} subject
 * @returns {ProofState}
 */
function useProof(subject) {
  const [state, setState] = useState(/** @type {ProofState} */ ({ is: "loading" }));
  useEffect(() => {
    if (subject === null) return undefined;
    const abort = new AbortController();
    const since = readClock();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const ask = async () => {
      const found = await findProof(subject, since, abort.signal);
      if (abort.signal.aborted || !found) return;
      setState(found);
      if (found.is === "unsealed") timer = setTimeout(ask, UNSEALED_MS);
    };
    setState({ is: "loading" });
    void ask();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [subject]);
  return state;
}

/**
 * @param {string | number} subject @param {number} since @param {AbortSignal} signal
 * @returns {Promise<ProofState | null>} null: nobody waits for it any more
 */
async function findProof(subject, since, signal) {
  const path = `/internal/v1/audit/proof/${encodeURIComponent(subject)}.tlog-proof`;
  let file = "";
  try {
    file = await getText(path, {}, { signal });
    const keys = await loadLogKeys();
    const { checkpoint, record } = await verifyProofFile(parseProofFile(file), keys.log, keys.witnesses);
    if (typeof subject === "number" && record.position !== String(subject)) {
      throw new ProofError(`the proof is of position ${record.position}, not of ${subject}`);
    }
    return { is: "proven", file, checkpoint, position: Number(record.position) };
  } catch (error) {
    if (signal.aborted) return null;
    if (error instanceof ProofError) return { is: "refuted", file, why: error.message };
    if (error instanceof CannotCheck) return { is: "unchecked", file, why: error.message };
    const { code, message } = /** @type {any} */ (error);
    return code === "not_sealed_yet" ? { is: "unsealed", message, since } : { is: "failed", error };
  }
}
