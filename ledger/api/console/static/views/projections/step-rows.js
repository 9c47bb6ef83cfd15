// The rows before and after one event: what changes as a table, then each row whole, its changes marked.

import { formatCount, formatNumberOf } from "../../lib/format.js";
import { classes, html } from "../../lib/ui.js";
import { Json } from "../../parts/json.js";
import { Note } from "../../parts/notice.js";
import { IdLink } from "../../parts/values.js";

const CHANGES_MAX = 200;
const TEXT_MAX = 120;

/**
 * @typedef {{ key: string, column: string, path: string, before: any, after: any, personal_data?: true }}
 *   Change
 */

/** @param {{ step: any }} props */
export function Rows({ step }) {
  const keyed = (/** @type {any[]} */ rows) => new Map(rows.map((row) => [keyOf(row), row]));
  const [before, after] = [keyed(step.before), keyed(step.after)];
  /** @type {Map<string, Change[]>} */
  const changes = new Map();
  for (const each of step.changes) changes.set(each.key, [...changes.get(each.key) ?? [], each]);
  const changed = [...after.keys()].filter((key) => changes.has(key));
  const others = [...after.keys()].filter((key) => !changes.has(key));
  const hidden = step.rows_after - step.after.length;
  return html`
    ${changed.map((key) => html`<${ChangedRow} key=${key} name=${key} before=${before.get(key)}
      after=${after.get(key)} changes=${changes.get(key) ?? []} />`)}
    ${others.length > 0 && html`<details class="step-others"><summary>${formatNumberOf(others.length,
      "row")} of the object ${others.length === 1 ? "is" : "are"} not changed by it${hidden > 0
      && `, and ${formatCount(hidden)} more`}</summary>
      ${others.map((key) => html`<${Json} key=${key} value=${after.get(key)} label=${`Row ${key}`}
        depth=${1} />`)}
    </details>`}`;
}

/** The key of a row is its first column. @param {any} row */
function keyOf(row) {
  return String(Object.values(row)[0]);
}

/** @param {{ name: string, before: any, after: any, changes: Change[] }} props */
function ChangedRow({ name, before, after, changes }) {
  const withheld = changes.filter((each) => each.personal_data);
  const shown = changes.filter((each) => !each.personal_data);
  return html`<section class="panel" aria-label=${`Row ${name}`}>
    <header><h2>Row <${IdLink} id=${name} /></h2><span class="faint">${before
      ? formatNumberOf(changes.length, "change") : "new"}</span></header>
    ${before && html`<${Changes} changes=${shown} />`}
    ${withheld.length > 0 && before && html`<div class="panel-body"><${Note} tone="info"
      title=${`${formatNumberOf(withheld.length, "change")} of personal data not shown`}>The key lacks the
      scope personal_data.</${Note}></div>`}
    <div class=${classes("step-rows", before && "step-rows-two")}>
      ${before && html`<div><h3>Before</h3><${Json} value=${before} label=${`Row ${name} before`} depth=${2}
        marks=${markBefore(shown)} copy=${false} /></div>`}
      <div>${before && html`<h3>After</h3>`}<${Json} value=${after} label=${`Row ${name} after`} depth=${2}
        marks=${before ? markAfter(shown) : {}} copy=${false} /></div>
    </div>
  </section>`;
}

/** @param {{ changes: Change[] }} props */
function Changes({ changes }) {
  if (!changes.length) return null;
  return html`<table class="table step-changes">
    <caption class="visually-hidden">Changes</caption>
    <thead><tr><th scope="col">Value</th><th scope="col">Before</th><th scope="col">After</th></tr></thead>
    <tbody>${changes.slice(0, CHANGES_MAX).map((each) => html`<tr key=${each.path}>
      <td><code>${each.path}</code></td>
      <td data-label="Before" class="compared-left"><code>${shorten(each.before)}</code></td>
      <td data-label="After" class="compared-right"><code>${shorten(each.after)}</code></td></tr>`)}
    </tbody></table>`;
}

/** @param {any} value */
function shorten(value) {
  const text = JSON.stringify(value) ?? "—";
  return text.length <= TEXT_MAX ? text : `${text.slice(0, TEXT_MAX)}…`;
}

/** @param {Change[]} changes */
function markAfter(changes) {
  return Object.fromEntries(changes.map((each) =>
    [each.path, { mark: /** @type {"added" | "changed"} */ (each.before === null ? "added" : "changed") }]));
}

/** @param {Change[]} changes */
function markBefore(changes) {
  return Object.fromEntries(changes.filter((each) => each.before !== null).map((each) =>
    [each.path, { mark: /** @type {"removed"} */ ("removed") }]));
}
