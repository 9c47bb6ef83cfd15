// What is signed now: the newest checkpoint, how far sealing and the witnesses are.

import { getText } from "../../lib/api.js";
import { formatDuration, formatNumberOf } from "../../lib/format.js";
import { loadLogKeys } from "../../lib/log-keys.js";
import { repeat, useResource } from "../../lib/resource.js";
import { openCheckpoint } from "../../lib/tlog/checkpoints.js";
import { CannotCheck, ProofError, encodeBase64 } from "../../lib/tlog/encoding.js";
import { html, useEffect, useState } from "../../lib/ui.js";
import { Empty, Loading, Note, Notice } from "../../parts/notice.js";
import { Refuted } from "../../parts/proof-badge.js";
import { Table } from "../../parts/table.js";
import { Badge, Copy, Count, Facts } from "../../parts/values.js";
import { NoteText } from "./note-text.js";

// Each call is an entry in the record of accesses, so the page does not ask every second.
const REFRESH_SECONDS = 15;

/** @typedef {import("../../lib/tlog/checkpoints.js").SignedCheckpoint} SignedCheckpoint */
/**
 * @typedef {{ note?: string, checkpoint?: SignedCheckpoint, refuted?: string, unchecked?: string, error?:
 *   any }} Newest
 */

/** The tab. */
export function Now() {
  const newest = useNewest();
  const sealing = useSealing();
  const witnesses = useResource("/internal/v1/audit/witnesses", {}, { every: REFRESH_SECONDS });
  return html`<${NewestCheckpoint} newest=${newest} sealing=${sealing} />
    <section class="panel" aria-labelledby="witnesses">
      <header><h2 id="witnesses">Witnesses</h2></header>
      <${Notice} error=${witnesses.error} retry=${witnesses.reload} />
      <${Witnesses} list=${witnesses} size=${newest?.checkpoint?.size ?? sealing?.size ?? null} />
    </section>`;
}

/** @param {{ newest: Newest | null, sealing: any }} props */
function NewestCheckpoint({ newest, sealing }) {
  return html`<section class="panel" aria-labelledby="newest">
    <header><h2 id="newest">Newest checkpoint</h2>${newest && html`<${Verdict} newest=${newest} />`}</header>
    <div class="panel-body stack">
      ${!newest && html`<${Loading} />`}
      ${newest?.refuted && html`<${Refuted} why=${newest.refuted} />`}
      ${newest?.unchecked && html`<${Note} tone="warning" title=${newest.unchecked}>
        <p>So nothing on this page is checked: use <code>ledger audit verify</code>, or open the page
        by https:// in a newer browser.</p></${Note}>`}
      <${SealingNote} sealing=${sealing} />
      ${newest?.error && html`<${Notice} error=${newest.error} />`}
      ${newest?.checkpoint && html`<${Facts} rows=${describe(newest.checkpoint, sealing)} />`}
      ${newest?.note && html`<details><summary>As it is signed</summary>
        <${NoteText} note=${newest.note} /></details>`}
    </div>
  </section>`;
}

/** @param {{ newest: Newest }} props */
function Verdict({ newest }) {
  if (newest.checkpoint) return html`<${Badge} tone="ok">Signature checked in this browser</${Badge}>`;
  if (newest.refuted) return html`<${Badge} tone="danger">Does not verify</${Badge}>`;
  if (newest.unchecked) return html`<${Badge} tone="warning">Not checked</${Badge}>`;
  return null;
}

/**
 * @param {SignedCheckpoint} checkpoint @param {any} sealing
 * @returns {[string, any][]}
 */
function describe(checkpoint, sealing) {
  const root = encodeBase64(checkpoint.root);
  const idle = sealing ? `${formatDuration(Math.max(0, Math.round(sealing.idle_seconds)))} ago` : "not known";
  return [
    ["Log", html`<span class="id">${checkpoint.origin}</span>`],
    ["Records", html`<${Count} value=${checkpoint.size} />`],
    ["Root", html`<span class="row"><code>${root}</code> <${Copy} text=${root} /></span>`],
    ["Signed by", checkpoint.signers.map((key) => html`<span class="id" key=${key.text}>${key.text}</span>`)],
    ["Sealed", idle],
    ["Not sealed yet", sealing ? sayUnsealed(sealing) : "not known"],
    ...(checkpoint.unchecked.length ? [/** @type {[string, any]} */ (["Not checked",
      checkpoint.unchecked.map(({ name, why }) =>
        html`<div key=${name}><span class="id">${name}</span>: ${why}</div>`)])] : []),
  ];
}

/** @param {{ events: number, seconds: number }} sealing */
function sayUnsealed({ events, seconds }) {
  if (events <= 0) return "none";
  return `${formatNumberOf(events, "event")}, the oldest for ${formatDuration(Math.round(seconds * 10) /
    10)}`;
}

/** @param {{ sealing: any }} props */
function SealingNote({ sealing }) {
  if (sealing?.error) {
    return html`<${Note} tone="danger" title="Sealing has stopped."><p>${sealing.error}.</p>
      <p>Run <code>ledger audit verify</code> where the database is: it names the first position that
      differs.</p></${Note}>`;
  }
  if (sealing?.is_copy) {
    return html`<${Note} tone="info" title="This database is a copy.">
      <p>It signs no checkpoints; the original does.</p></${Note}>`;
  }
  return null;
}

/** @param {{ list: import("../../lib/resource.js").Resource, size: number | null }} props */
function Witnesses({ list, size }) {
  const columns = [
    { title: "Witness", cell: (/** @type {any} */ row) => html`<span class="id">${row.name}</span>` },
    { title: "State", cell: (/** @type {any} */ row) => html`<${WitnessState} row=${row} />` },
    { title: "Cosigned", align: /** @type {const} */ ("end"), cell: (/** @type {any} */ row) =>
      html`<${Count} value=${row.size} />` },
    { title: "Records behind", align: /** @type {const} */ ("end"),
      cell: (/** @type {any} */ row) => html`<${Count}
        value=${size === null ? null : Math.max(0, size - row.size)} />` },
    { title: "Late for", align: /** @type {const} */ ("end"),
      cell: (/** @type {any} */ row) => (row.behind_seconds ? formatDuration(Math.round(row.behind_seconds))
        : "—") },
  ];
  const empty = html`<div class="panel-body"><${Empty} title="No witness cosigns this log.">
    Whoever has the database and its key could rewrite all of it unseen. Name witnesses
      in <code>LEDGER_WITNESSES</code>,
    or keep checkpoints elsewhere.</${Empty}></div>`;
  return html`<${Table} label="Witnesses" columns=${columns} rows=${list.data?.data ?? []}
    rowKey=${(/** @type {any} */ row) => row.id}
    isLoading=${list.isLoading} empty=${list.data && empty} keys=${false} />`;
}

/** @type {Record<string, ["ok" | "warning" | "danger", string]>} */
const STATES = {
  cosigns: ["ok", "cosigns"],
  unreachable: ["warning", "unreachable"],
  refuses: ["danger", "refuses"],
  contradicts: ["danger", "contradicts the log"],
};

/** @param {{ row: any }} props */
function WitnessState({ row }) {
  const isAsked = row.size > 0 || row.state !== "cosigns";
  if (!isAsked) return html`<${Badge} tone="waiting">not asked yet</${Badge}>`;
  const [tone, text] = STATES[row.state] ?? ["warning", row.state];
  return html`<${Badge} tone=${tone}>${text}</${Badge}>${row.reason
    && html` <span class="hint">${row.reason}</span>`}`;
}

/** The newest checkpoint, checked here. @returns {Newest | null} null: not known yet */
function useNewest() {
  const [newest, setNewest] = useState(/** @type {Newest | null} */ (null));
  useEffect(() => {
    const abort = new AbortController();
    const load = async () => {
      const found = await readNewest(abort.signal);
      if (!abort.signal.aborted) setNewest(found);
    };
    void repeat(load, REFRESH_SECONDS * 1000, abort.signal);
    return () => abort.abort();
  }, []);
  return newest;
}

/** @param {AbortSignal} signal @returns {Promise<Newest>} */
async function readNewest(signal) {
  let note = "";
  try {
    note = await getText("/internal/v1/audit/checkpoint", {}, { signal });
    const keys = await loadLogKeys();
    return { note, checkpoint: await openCheckpoint(note, keys.log, keys.witnesses) };
  } catch (error) {
    if (error instanceof ProofError) return { note, refuted: error.message };
    if (error instanceof CannotCheck) return { note, unchecked: error.message };
    return { error };
  }
}

/** How far sealing is, by the service's readiness: it answers whether it is ready or not. @returns {any} */
function useSealing() {
  const [sealing, setSealing] = useState(/** @type {any} */ (null));
  useEffect(() => {
    const abort = new AbortController();
    const load = async () => {
      const readiness = await fetch("/readyz", { signal: abort.signal }).then((answer) => answer.json(), () =>
        null);
      if (!abort.signal.aborted) setSealing(readiness?.sealing ?? null);
    };
    void repeat(load, 2000, abort.signal);
    return () => abort.abort();
  }, []);
  return sealing;
}

