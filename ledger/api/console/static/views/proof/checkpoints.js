// The checkpoints that are kept, each checked here; one of them whole.

import { getText } from "../../lib/api.js";
import { formatNumberOf } from "../../lib/format.js";
import { loadLogKeys } from "../../lib/log-keys.js";
import { useList } from "../../lib/resource.js";
import { hrefOf } from "../../lib/router.js";
import { openCheckpoint } from "../../lib/tlog/checkpoints.js";
import { CannotCheck } from "../../lib/tlog/encoding.js";
import { html, useEffect, useRef, useState } from "../../lib/ui.js";
import { Empty, Loading, Notice } from "../../parts/notice.js";
import { Pages, Table } from "../../parts/table.js";
import { Badge, Count, Facts, Time } from "../../parts/values.js";
import { NoteText } from "./note-text.js";

/** @typedef {import("../../lib/tlog/checkpoints.js").SignedCheckpoint} SignedCheckpoint */
/**
 * @typedef {{ checkpoint?: SignedCheckpoint, refuted?: string, unchecked?: string } | null} Checked null:
 *   not yet
 */

/** @param {{ query: URLSearchParams }} props */
export function Checkpoints({ query }) {
  const size = query.get("size");
  const list = useList("/internal/v1/audit/checkpoints", {}, {
    query, limit: 25, cursorOf: (page) => page.data.at(-1)?.size ?? null,
  });
  const columns = [
    { title: "Records", cell: (/** @type {any} */ row) => html`<${Count} value=${row.size} />` },
    { title: "Made", cell: (/** @type {any} */ row) => html`<${Time} at=${row.created} />` },
    { title: "Cosignatures", align: /** @type {const} */ ("end"), cell: (/** @type {any} */ row) =>
      html`<${Count} value=${row.cosignatures} />` },
    { title: "Signature", cell: (/** @type {any} */ row) => html`<${Signature} note=${row.checkpoint} />` },
  ];
  const place = (/** @type {any} */ row) => {
    const params = new URLSearchParams({ tab: "checkpoints", size: row.size });
    const after = query.get("after");
    if (after) params.set("after", after);
    return `proof?${params}`;
  };
  return html`${size && html`<${Whole} key=${size} size=${size} />`}
    <${Notice} error=${list.error} retry=${list.reload} />
    <${Table} label="Kept checkpoints" columns=${columns} rows=${list.rows}
      rowKey=${(/** @type {any} */ row) => row.size}
      to=${place} selected=${size === null ? null : Number(size)} isLoading=${list.isLoading}
      empty=${list.data && html`<${Empty} title="No checkpoint is kept yet.">The first is kept as soon as
        a record is sealed, and then one a minute while the log grows
        (LEDGER_CHECKPOINT_SECONDS).</${Empty}>`} />
    <${Pages} list=${list} />`;
}

/** @param {{ note: string }} props */
function Signature({ note }) {
  const checked = useChecked(note);
  if (!checked) return html`<span class="faint">…</span>`;
  if (checked.refuted) return html`<${Badge} tone="danger" title=${checked.refuted}>does not
    verify</${Badge}>`;
  if (checked.unchecked) return html`<${Badge} tone="warning" title=${checked.unchecked}>not
    checked</${Badge}>`;
  return html`<${Badge} tone="ok">checked here</${Badge}>`;
}

/** @param {{ size: string }} props */
function Whole({ size }) {
  const [state, setState] = useState(/** @type {{ note?: string, error?: any }} */ ({}));
  useEffect(() => {
    const abort = new AbortController();
    getText("/internal/v1/audit/checkpoint", { size }, { signal: abort.signal }).then(
      (note) => setState({ note }), (error) => abort.signal.aborted || setState({ error }));
    return () => abort.abort();
  }, [size]);
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  // On a narrow page it is above what one sees of the list.
  useEffect(() => place.current?.scrollIntoView({ block: "nearest" }), [state.note]);
  return html`<section class="panel" aria-labelledby="whole" ref=${place}>
    <header><h2 id="whole">Checkpoint of ${formatNumberOf(Number(size), "record")}</h2>
      <a href=${hrefOf("proof", { tab: "checkpoints" })}>Close</a></header>
    <div class="panel-body stack">
      <${Notice} error=${state.error} />
      ${!state.error && !state.note && html`<${Loading} />`}
      ${state.note && html`<${Checkpoint} note=${state.note} /><${NoteText} note=${state.note}
        name=${`checkpoint-${size}`} />`}
    </div></section>`;
}

/** Who signed a checkpoint, as far as it can be checked here. @param {{ note: string }} props */
export function Checkpoint({ note }) {
  const checked = useChecked(note);
  if (!checked) return html`<${Loading} lines=${2} />`;
  if (!checked.checkpoint) return html`<p class="danger">${checked.refuted ?? checked.unchecked}</p>`;
  const { origin, signers, cosigners, unchecked } = checked.checkpoint;
  return html`<${Facts} rows=${[
    ["Log", html`<span class="id">${origin}</span>`],
    ["Signed by", signers.map((key) => html`<div class="id" key=${key.text}>${key.text}</div>`)],
    ["Cosigned by", cosigners.length ? cosigners.map(({ name, time }) =>
      html`<div key=${name}><span class="id">${name}</span> <${Time} at=${time} /></div>`) : "no witness"],
    unchecked.length > 0 && ["Not checked", unchecked.map(({ name, why }) =>
      html`<div key=${name}><span class="id">${name}</span>: ${why}</div>`)],
  ]} />`;
}

/** @param {string} note @returns {Checked} */
function useChecked(note) {
  const [checked, setChecked] = useState(/** @type {Checked} */ (null));
  useEffect(() => {
    let isCurrent = true;
    const check = async () => {
      const keys = await loadLogKeys();
      return { checkpoint: await openCheckpoint(note, keys.log, keys.witnesses) };
    };
    check().then((found) => isCurrent && setChecked(found), (error) => isCurrent && setChecked(
      error instanceof CannotCheck ? { unchecked: error.message } : { refuted: error.message }));
    return () => {
      isCurrent = false;
    };
  }, [note]);
  return checked;
}
