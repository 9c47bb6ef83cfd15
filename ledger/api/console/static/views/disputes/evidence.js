// The evidence field by field: texts, files, what belongs to a program or an appeal. All is shown as text.

import { formatCount, formatName, formatNumberOf } from "../../lib/format.js";
import { html, useState } from "../../lib/ui.js";
import { Json } from "../../parts/json.js";
import { Empty } from "../../parts/notice.js";
import { Badge, Copy } from "../../parts/values.js";
import { EvidenceFile } from "./file.js";
import { AWAITING } from "./statuses.js";

const TEXT_MAX = 600;
// As in ledger/domain/evidence.py.
const FILES = new Set([
  "cancellation_policy", "customer_communication", "customer_signature", "duplicate_charge_documentation",
  "receipt", "refund_policy", "service_documentation", "shipping_documentation", "uncategorized_file",
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
      ${fields.length > 0 && html`<span class="hint number">${formatNumberOf(fields.length, "field")}, ${
        formatNumberOf(characters, "character")} of text</span>`}</header>
    <div class="panel-body">
      ${fields.length === 0 && html`<${NoEvidence} dispute=${dispute} />`}
      ${fields.map(([name, value]) => html`<div class="evidence-field" key=${name}>
        <h3 class="row">${formatName(name)}
          <${FieldState} name=${name} value=${value} dispute=${dispute} last=${submissions.last} /></h3>
        <${FieldValue} name=${name} value=${value} />
      </div>`)}
    </div>
  </section>`;
}

/** @param {{ dispute: any }} props */
function NoEvidence({ dispute }) {
  if (!AWAITING.includes(dispute.status)) return html`<${Empty} title="No evidence was submitted." />`;
  return html`<${Empty} title="No evidence is staged.">It is sent by${" "}
    <code>POST /v1/disputes/${dispute.id}</code>, with <code>submit=false</code> to stage it only.
  </${Empty}>`;
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
 * Whether a field was submitted as it is, or only staged. Where nothing can be staged, all was submitted;
 * what an earlier submission had is known from `last`, the evidence as it was then.
 * @param {{ name: string, value: any, dispute: any, last: any }} props
 */
function FieldState({ name, value, dispute, last }) {
  const count = dispute.evidence_details.submission_count;
  if (count === 0) return html`<${Badge} tone="waiting">staged</${Badge}>`;
  const isSame = last && JSON.stringify(last[name] ?? null) === JSON.stringify(value);
  if (!AWAITING.includes(dispute.status) || isSame) return html`<${Badge} tone="ok">submitted</${Badge}>`;
  if (!last) return null;
  const differs = last[name] && ", differs from what was submitted";
  return html`<${Badge} tone="waiting">staged${differs}</${Badge}>`;
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
  if (text.length <= TEXT_MAX) return html`<div class="evidence-text">${text}</div>`;
  return html`<div class="evidence-text">${isWhole ? text : `${text.slice(0, TEXT_MAX)}…`}</div>
    <p class="row evidence-tools">
      <button type="button" class="button-small" aria-expanded=${isWhole ? "true" : "false"}
        onClick=${() => setWhole(!isWhole)}>
        ${isWhole ? "Show less" : `Show all ${formatCount(text.length)} characters`}</button>
      <${Copy} text=${text} /></p>`;
}
