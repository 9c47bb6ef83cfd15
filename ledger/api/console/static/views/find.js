// Find: any id, request id, idempotency key, position or e-mail address leads to its object.

import { formatName, formatNumberOf, isId } from "../lib/format.js";
import { navigate, setQuery } from "../lib/router.js";
import { useResource } from "../lib/resource.js";
import { hasScope } from "../lib/session.js";
import { html, useEffect, useRef, useState } from "../lib/ui.js";
import { Field } from "../parts/forms.js";
import { Empty, Loading, Note, Notice, Page } from "../parts/notice.js";
import { Table } from "../parts/table.js";
import { Badge, Time } from "../parts/values.js";
import { KINDS, placeOfAlert, placeOfHit } from "./objects/hits.js";

const PATH = "/internal/v1/audit/find";
const TEXT_LENGTH_MAX = 512;

/** @param {{ path: string[], query: URLSearchParams }} props */
export function View({ query }) {
  const text = query.get("q") ?? "";
  const found = useFound(text);
  const hits = found.data?.data ?? [];
  const only = placeOfAlert(text) ?? (hits.length === 1 ? placeOfHit(hits[0]) : null);
  // In place of this entry: "back" leads to what was before the search.
  useEffect(() => {
    if (only) navigate(only, { replace: true });
  }, [only]);
  return html`
    <${Page} title="Find" lead="Any id, request id, idempotency key, position or e-mail address." />
    <${SearchBox} key=${text} text=${text} />
    <${Notice} error=${found.error} retry=${found.reload} />
    ${text === "" ? html`<${WhatIsFound} />`
      : found.isLoading || only ? html`<${Loading} />`
      : found.data && html`<${Hits} text=${text} found=${found.data} />`}`;
}

/**
 * What the text names. Without the scope `audit` only customers can be looked for, by the public list.
 * @param {string} text
 */
function useFound(text) {
  const isAuditor = hasScope("audit");
  const byId = !isAuditor && isId(text) ? `objects/${encodeURIComponent(text)}` : null;
  useEffect(() => {
    if (byId) navigate(byId, { replace: true });
  }, [byId]);
  const isAddress = text.includes("@") && hasScope("rak_customer_read");
  const isPlaced = !text || byId || placeOfAlert(text);
  const path = isPlaced ? null : isAuditor ? PATH : isAddress ? "/v1/customers" : null;
  const found = useResource(path, isAuditor ? { q: text } : { email: text, limit: 20 });
  if (isAuditor) return found;
  const data = path === null ? { data: [], not_searched: [{ kind: "all", scope: "audit" }] }
    : found.data && { data: found.data.data.map(toHit), has_more: found.data.has_more, not_searched: [] };
  return { ...found, data };
}

/** @param {any} customer */
function toHit(customer) {
  const title = [customer.name, customer.email].filter(Boolean).join(", ");
  return { kind: "email", id: customer.id, type: "customer", title, object_id: customer.id };
}

/** @param {{ text: string }} props */
function SearchBox({ text }) {
  const [typed, setTyped] = useState(text);
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  // What was found is chosen by `j`, `k` and Enter, which a field would take as text.
  useEffect(() => {
    if (text === "") input.current?.focus();
  }, []);
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    setQuery({ q: typed.trim() });
  };
  // Whoever presses the key of "find" means the field that already has the focus, not its text.
  const ignoreSlash = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "/" && typed === "") event.preventDefault();
  };
  return html`<form class="find-form" role="search" aria-label="Everything" onSubmit=${submit}
    onKeyDown=${ignoreSlash}>
    <${Field} label="What to find" type="search" value=${typed} onInput=${setTyped} inputRef=${input}
      mono=${true} maxlength=${TEXT_LENGTH_MAX}
      placeholder="du_…, evt_…, req_…, an idempotency key, an e-mail address" />
    <button type="submit" class="button-primary" disabled=${typed.trim() === ""}>Find</button>
  </form>`;
}

/** @type {import("../parts/table.js").Column[]} */
const COLUMNS = [
  { title: "Id", class: "find-id", cell: (hit) => html`<span class="id">${hit.id}</span>` },
  { title: "What it is", cell: (hit) => html`<${Badge}>${KINDS[hit.kind]?.[0] ?? hit.kind}</${Badge}>` },
  { title: "Of type", cell: (hit) => formatName(hit.type ?? "—"), narrow: "hide" },
  { title: "About it", cell: (hit) => hit.title || "—" },
  { title: "Leads to", cell: (hit) => html`<span class="id">${hit.object_id ?? "—"}</span>` },
  { title: "When", cell: (hit) => html`<${Time} at=${hit.time && Date.parse(hit.time) / 1000} />` },
];

/** @param {any} hit */
function keyOf({ kind, id, object_id: object, position }) {
  return `${kind} ${id} ${object} ${position}`;
}

/** @param {{ text: string, found: any }} props */
function Hits({ text, found }) {
  const hits = found.data;
  return html`
    ${found.behind_events > 0 && html`<${Note} tone="warning" title="Not everything is searched yet">
      <p>The lists of customers and cards lack the last ${formatNumberOf(found.behind_events, "event")}.
        Search again in a moment.</p>
    </${Note}>`}
    <${Table} label="What was found" columns=${COLUMNS} rows=${hits} to=${placeOfHit} rowKey=${keyOf}
      empty=${html`<${NothingFound} text=${text} />`} />
    ${found.has_more && html`<p class="hint">
      There are more: at most 20 of each kind are shown, the newest first.</p>`}
    <${NotSearched} kinds=${found.not_searched} />`;
}

/** @param {{ text: string }} props */
function NothingFound({ text }) {
  return html`<${Empty} title=${html`Nothing is called <span class="id">${text}</span>`}>
    The whole text has to match, and upper and lower case differ. What belongs to another account or to the
    other mode is not found: choose the account in the menu, or sign in with a key of the other
    mode.</${Empty}>`;
}

/** @param {{ kinds: { kind: string, scope: string }[] }} props */
function NotSearched({ kinds }) {
  if (kinds.length === 0) return null;
  return html`<${Note} title="Not everything was searched, because the key lacks a scope">
    <ul>${kinds.map(({ kind, scope }) => html`<li key=${kind}>
      ${kind === "all" ? "Anything but objects by their ids, and customers by their e-mail address"
        : KINDS[kind]?.[1] ?? kind}: needs <code>${scope}</code></li>`)}</ul>
  </${Note}>`;
}

/** What can be found, before anything is searched for. */
function WhatIsFound() {
  return html`<section aria-label="What can be found"><dl class="facts find-kinds">
    ${Object.entries(KINDS).map(([kind, [name, what]]) => html`
      <div key=${kind}><dt>${name}</dt><dd>${what}</dd></div>`)}
  </dl></section>`;
}
