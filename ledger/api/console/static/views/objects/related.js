// What belongs to the object, as of the moment: the ids that it has, and the objects that name it.

import { isId } from "../../lib/format.js";
import { useResource } from "../../lib/resource.js";
import { html, useMemo } from "../../lib/ui.js";
import { Loading, Notice } from "../../parts/notice.js";
import { Table } from "../../parts/table.js";
import { IdLink, Money, Time } from "../../parts/values.js";
import { Status } from "./status.js";

const IDS_MAX = 100;
const NODES_MAX = 20_000;
const NAMED_MAX = 20;

/**
 * By type of object, the lists that can be filtered by it.
 * @type {Record<string, [type: string, filter: string, title: string][]>}
 */
const NAMED_BY = {
  charge: [["dispute", "charge", "Disputes"], ["refund", "charge", "Refunds"]],
  customer: [["payment_intent", "customer", "Payment intents"], ["charge", "customer", "Charges"],
    ["invoice", "customer", "Invoices"], ["subscription", "customer", "Subscriptions"]],
  payment_intent: [["charge", "payment_intent", "Charges"], ["refund", "payment_intent", "Refunds"],
    ["dispute", "payment_intent", "Disputes"]],
  file: [["file_link", "file", "File links"]],
};

/** @param {{ id: string, past: import("./history.js").Past }} props */
export function RelatedTab({ id, past }) {
  const shown = past.shown;
  const ids = useMemo(() => collectIds(shown?.object, id), [shown, id]);
  if (!shown) return html`<p class="soft">There was nothing of it at this moment.</p>`;
  const lists = NAMED_BY[shown.object.object] ?? [];
  return html`
    <section aria-label="Ids in it"><h2>What it names</h2>
      ${ids.length === 0 ? html`<p class="soft object-gap">It names no other object.</p>`
        : html`<dl class="facts object-gap">${ids.map(([path, each]) => html`
          <div key=${path}><dt class="mono">${path}</dt><dd><${IdLink} id=${each} /></dd></div>`)}</dl>`}
      ${ids.length === IDS_MAX && html`
        <p class="hint">Only the first ${IDS_MAX} are listed; the state has all.</p>`}
    </section>
    ${lists.map(([type, filter, title]) => html`<${Named} key=${title} id=${id} type=${type} filter=${filter}
      title=${title} at=${`position:${shown.as_of.position}`} />`)}`;
}

/**
 * The paths of ids in a document, in its order.
 * @param {any} document
 * @param {string} own  its own id, which is left out
 * @returns {[path: string, id: string][]}
 */
function collectIds(document, own) {
  /** @type {[string, string][]} */
  const found = [];
  /** @type {[string, any][]} */
  const left = [["", document]];
  for (let seen = 0; left.length > 0 && found.length < IDS_MAX && seen < NODES_MAX; seen++) {
    const [path, value] = /** @type {[string, any]} */ (left.pop());
    if (value !== null && typeof value === "object") {
      const members = Object.entries(value).reverse();
      for (const [name, each] of members) left.push([path ? `${path}[${name}]` : name, each]);
    } else if (value !== own && isId(value)) {
      found.push([path, value]);
    }
  }
  return found;
}

/** @param {{ id: string, type: string, filter: string, title: string, at: string }} props */
function Named({ id, type, filter, title, at }) {
  const list = useResource("/internal/v1/audit/objects", { type, [filter]: id, at, limit: NAMED_MAX });
  const rows = list.data?.data ?? [];
  return html`<section aria-label=${title}><h2>${title}</h2>
    <${Notice} error=${list.error} retry=${list.reload} />
    ${list.isLoading && !list.data && html`<${Loading} lines=${2} />`}
    ${list.data && html`<div class="object-gap">
      <${Table} label=${title} columns=${COLUMNS} rows=${rows} keys=${false} rowKey=${idOf} to=${placeOfRow}
        empty=${html`<p class="soft">None at this moment.</p>`} /></div>`}
    ${list.data?.has_more && html`<p class="hint">The newest ${NAMED_MAX} are shown; there are more.</p>`}
  </section>`;
}

/** @type {import("../../parts/table.js").Column[]} */
const COLUMNS = [
  { title: "Id", cell: (row) => html`<span class="id">${row.id}</span>` },
  { title: "Status", cell: (row) => statusOf(row) },
  { title: "Amount", align: "end", cell: (row) => amountOf(row) },
  { title: "Created", cell: (row) => html`<${Time} at=${row.created} />` },
];

/** @param {any} row */
function statusOf({ status }) {
  return typeof status === "string" ? html`<${Status} status=${status} />` : "—";
}

/** @param {any} row */
function amountOf(row) {
  const amount = row.amount ?? row.total;
  const isKnown = Number.isSafeInteger(amount) && typeof row.currency === "string";
  return isKnown ? html`<${Money} amount=${amount} currency=${row.currency} />` : "—";
}

/** @param {any} row */
function idOf(row) {
  return row.id;
}

/** @param {any} row */
function placeOfRow(row) {
  return `objects/${encodeURIComponent(row.id)}`;
}
