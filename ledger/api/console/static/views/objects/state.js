// The object as of the moment: what its last change did, and its JSON with that marked.

import { formatCount, formatNumberOf } from "../../lib/format.js";
import { html, useMemo, useState } from "../../lib/ui.js";
import { Json } from "../../parts/json.js";
import { Loading, Note } from "../../parts/notice.js";
import { Copy } from "../../parts/values.js";

const CHANGES_OPEN_MAX = 12;
const TEXT_MAX = 160;
const RAW_CHARACTERS_MAX = 200_000;

/** @typedef {import("./history.js").Past} Past */
/** @typedef {{ path: string, before: any, after: any, personal_data?: boolean,
 *   redacted?: boolean }} Difference */

/** @param {{ past: Past }} props */
export function StateTab({ past }) {
  const { shown, change, isBefore } = past;
  const marks = useMemo(() => marksOf(change?.changes ?? []), [change]);
  if (isBefore) return html`<p class="soft">There was nothing of it at this moment.</p>`;
  if (!shown) return past.unreadable ? null : html`<${Loading} lines=${8} />`;
  return html`
    ${shown.object.deleted && html`<${Note} tone="warning" title="It is deleted">
      <p>Only its id and type remain. The version before the last one has all that it was.</p></${Note}>`}
    ${change && html`<${Changes} change=${change} />`}
    <${Json} key=${change?.position} label="The object as of the moment" value=${shown.object}
      marks=${marks} />`;
}

/**
 * The marks of the tree: what was null before has been added.
 * @param {Difference[]} changes
 */
function marksOf(changes) {
  /** @type {import("../../parts/json.js").Marks} */
  const marks = {};
  for (const { path, before, personal_data: isWithheld } of changes) {
    if (path === "") continue;
    if (isWithheld) marks[path] = { mark: "changed" };
    else marks[path] = before === null ? { mark: "added" } : { mark: "changed", before };
  }
  return marks;
}

/** @param {{ change: any }} props */
function Changes({ change }) {
  const { changes, details, type, version } = change;
  const extra = Object.entries(details ?? {});
  if (changes.length === 0 && extra.length === 0) {
    return html`<p class="soft object-change">${type} changed nothing that the object shows.</p>`;
  }
  const title = version === 1 ? `Created with ${formatNumberOf(changes.length, "member")}`
    : `Changed by ${type}: ${formatNumberOf(changes.length, "member")}`;
  return html`<details class="panel object-change" open=${version > 1 && changes.length <= CHANGES_OPEN_MAX}>
    <summary>${title}</summary>
    <div class="table-box" role="region" aria-label="What changed" tabindex="0"><table class="table">
      <thead><tr><th scope="col">Member</th><th scope="col">Before</th><th scope="col">After</th></tr></thead>
      <tbody>${changes.map((/** @type {Difference} */ each) => html`<tr key=${each.path}>
        <td class="mono" data-label="Member">${each.path || "all of it"}</td>
        <${Values} of=${each} /></tr>`)}
      ${extra.map(([name, value]) => html`<tr key=${`details ${name}`}>
        <td class="mono" data-label="Member">${name}</td>
        <td data-label="Before"><span class="faint">not shown in the object</span></td>
        <td data-label="After"><${Short} value=${value} /></td></tr>`)}</tbody>
    </table></div>
  </details>`;
}

/** The cells of one member's values. @param {{ of: Difference }} props */
function Values({ of: { before, after, personal_data: isWithheld, redacted: isRedacted } }) {
  const said = isRedacted && JSON.stringify(before) === JSON.stringify(after)
    ? "changed; both values are redacted"
    : isWithheld && html`personal data, shown with the scope <code>personal_data</code>`;
  return said
    ? html`<td data-label="Values" colspan="2"><span class="faint">${said}</span></td>`
    : html`<td data-label="Before"><${Short} value=${before} /></td>
      <td data-label="After"><${Short} value=${after} /></td>`;
}

/** A value in a cell; a long one is cut. @param {{ value: any }} props */
function Short({ value }) {
  const [isWhole, setWhole] = useState(false);
  if (value === null || value === undefined) return html`<span class="faint">none</span>`;
  const text = typeof value === "string" ? value : JSON.stringify(value);
  if (text.length <= TEXT_MAX || isWhole) return html`<span class="object-value">${text}</span>`;
  return html`<span class="object-value">${text.slice(0, TEXT_MAX)}…</span>${" "}
    <button type="button" class="button-small" onClick=${() => setWhole(true)}>
      Show all (${formatCount(text.length)} characters)</button>`;
}

/** @param {{ past: Past }} props */
export function RawTab({ past }) {
  const [isWhole, setWhole] = useState(false);
  const text = useMemo(() => JSON.stringify(past.shown?.object ?? null, null, 2), [past.shown]);
  if (!past.shown) return html`<p class="soft">There is nothing to show at this moment.</p>`;
  const isCut = text.length > RAW_CHARACTERS_MAX && !isWhole;
  return html`<div class="row object-raw-head">
      <${Copy} text=${text} label="Copy the JSON" />
      ${isCut && html`<button type="button" class="button-small" onClick=${() => setWhole(true)}>
        Show all (${formatCount(text.length)} characters)</button>`}
    </div>
    <pre class="command" tabindex="0" role="region" aria-label="The object as JSON">${
      isCut ? text.slice(0, RAW_CHARACTERS_MAX) : text}</pre>`;
}
