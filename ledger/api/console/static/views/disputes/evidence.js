// The evidence field by field: texts, files, and what belongs to a program or an appeal. All of it is shown as text.

import { formatCount, formatName } from "../../lib/format.js";
import { html, useState } from "../../lib/ui.js";
import { Json } from "../../parts/json.js";
import { Empty } from "../../parts/notice.js";
import { Badge, Copy } from "../../parts/values.js";
import { EvidenceFile } from "./file.js";
import { AWAITING } from "./statuses.js";

const TEXT_MAX = 600;
// As in ledger/domain/evidence.py.
const FILES = new Set([
  "cancellation_policy", "customer_communication", "customer_signature", "duplicate_charge_documentation", "receipt",
  "refund_policy", "service_documentation", "shipping_documentation", "uncategorized_file",
]);
const HASHES = new Set(["enhanced_evidence", "appeal"]);

/**
 * @param {{ dispute: any, submissions: import("./submissions.js").SubmissionList }} props
 */
export function Evidence({ dispute, submissions }) {
  const fields = Object.entries(dispute.evidence).filter(([name, value]) => hasContent(name, value));
  const characters = fields.reduce((sum, [name, value]) => sum + (isText(name, value) ? value.length : 0), 0);
  return html`<section class="panel" aria-labelledby="evidence">
    <header><h2 id="evidence">Evidence</h2>
      ${fields.length > 0 && html`<span class="hint number">${fields.length} ${fields.length === 1 ? "field" : "fields"}, ${
        formatCount(characters)} characters of text</span>`}</header>
    <div class="panel-body">
      ${fields.length === 0 && html`<${Empty} title="No evidence is staged.">${AWAITING.includes(dispute.status)
        ? html`It is sent by <code>POST /v1/disputes/${dispute.id}</code>, with <code>submit=false</code> to stage it only.`
        : "None was submitted."}</${Empty}>`}
      ${fields.map(([name, value]) => html`<div class="evidence-field" key=${name}>
        <h3 class="row">${formatName(name)}<${FieldState} name=${name} value=${value} dispute=${dispute} last=${submissions.last} /></h3>
        <${FieldValue} name=${name} value=${value} />
      </div>`)}
    </div>
  </section>`;
}

/**
 * @param {string} name
 * @param {any} value
 */
function hasContent(name, value) {
  return HASHES.has(name) ? Object.keys(value ?? {}).length > 0 : Boolean(value);
}

/**
 * @param {string} name
 * @param {any} value
 */
function isText(name, value) {
  return typeof value === "string" && !FILES.has(name);
}

/**
 * Whether a field was submitted as it is, or only staged. Where nothing can be staged, all was submitted; what was
 * kept from an earlier submission is known from the dispute as it was then.
 * @param {{ name: string, value: any, dispute: any, last: any }} props  `last`: the evidence of the last submission
 */
function FieldState({ name, value, dispute, last }) {
  const isSame = last && JSON.stringify(last[name] ?? null) === JSON.stringify(value);
  if (dispute.evidence_details.submission_count === 0) return html`<${Badge} tone="waiting">staged</${Badge}>`;
  if (!AWAITING.includes(dispute.status) || isSame) return html`<${Badge} tone="ok">submitted</${Badge}>`;
  if (last) return html`<${Badge} tone="waiting">staged${last[name] ? ", differs from what was submitted" : ""}</${Badge}>`;
  return null;
}

/** @param {{ name: string, value: any }} props */
function FieldValue({ name, value }) {
  if (FILES.has(name)) return html`<${EvidenceFile} id=${value} />`;
  if (typeof value === "string") return html`<${LongText} text=${value} />`;
  const files = name === "appeal" ? value.card?.supporting_files ?? [] : [];
  return html`<${Json} value=${value} label=${formatName(name)} depth=${3} />
    ${files.map((/** @type {string} */ id) => html`<${EvidenceFile} key=${id} id=${id} />`)}`;
}

/** @param {{ text: string }} props */
function LongText({ text }) {
  const [isWhole, setWhole] = useState(false);
  const isCut = text.length > TEXT_MAX && !isWhole;
  return html`<div class="evidence-text">${isCut ? `${text.slice(0, TEXT_MAX)}…` : text}</div>
    ${text.length > TEXT_MAX && html`<p class="row evidence-tools">
      <button type="button" class="button-small" aria-expanded=${isWhole ? "true" : "false"} onClick=${() => setWhole(!isWhole)}>
        ${isWhole ? "Show less" : `Show all ${formatCount(text.length)} characters`}</button>
      <${Copy} text=${text} /></p>`}`;
}
