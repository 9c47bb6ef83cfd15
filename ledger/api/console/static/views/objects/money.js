// The money legs of a charge, refund or dispute: its postings in the books, up to the moment.

import { useList } from "../../lib/resource.js";
import { Link, route } from "../../lib/router.js";
import { formatName } from "../../lib/format.js";
import { html } from "../../lib/ui.js";
import { Empty, Note, Notice } from "../../parts/notice.js";
import { Pages, Table } from "../../parts/table.js";
import { Money, Time } from "../../parts/values.js";

const LIMIT = 50;

/** @param {{ id: string, past: import("./history.js").Past }} props */
export function MoneyTab({ id, past }) {
  const at = past.shown ? `position:${past.shown.as_of.position}` : null;
  const list = useList(at ? "/internal/v1/audit/journal" : null, { object: id, at, order: "asc" },
    { query: route.value.query, name: "postings", limit: LIMIT });
  if (!at) return html`<p class="soft">There was nothing of it at this moment.</p>`;
  const isWhole = !list.next && !list.previous;
  return html`
    <${Notice} error=${list.error} retry=${list.reload} />
    <${Unreadable} records=${list.data?.unreadable ?? []} />
    ${list.data && html`<${Table} label="Postings" columns=${COLUMNS} rows=${list.rows} rowKey=${keyOf}
      empty=${html`<${Empty} title="No money has moved">
        A captured charge, a refund and a dispute that withdraws funds make postings.</${Empty}>`} />`}
    ${isWhole && list.rows.length > 0 && html`<${Totals} rows=${list.rows} />`}
    <${Pages} list=${list} />`;
}

/** @type {import("../../parts/table.js").Column[]} */
const COLUMNS = [
  { title: "When", cell: (row) => html`<${Time} at=${Date.parse(row.time) / 1000} />` },
  { title: "Account of the books", cell: (row) => formatName(row.ledger_account) },
  { title: "Debit", align: "end", cell: (row) => sideOf(row, "debit") },
  { title: "Credit", align: "end", cell: (row) => sideOf(row, "credit") },
  { title: "Because of", class: "object-cause", cell: (row) => html`<span>
      <${Link} to=${placeOf(row)}>${row.type}</${Link}>
      <span class="id faint">${row.balance_transaction}</span></span>` },
];

/** The object at the moment at which it moved the money. @param {any} row */
function placeOf({ stream, position }) {
  return `objects/${encodeURIComponent(stream)}?at=position:${position}`;
}

/** @param {any} row */
function keyOf(row) {
  return `${row.position} ${row.ordinal}`;
}

/**
 * @param {any} row
 * @param {string} side
 */
function sideOf(row, side) {
  if (row.side !== side) return html`<span class="faint">—</span>`;
  return html`<${Money} amount=${row.amount} currency=${row.currency} />`;
}

/** The sums by account of the books, which are only shown for all postings. @param {{ rows: any[] }} props */
function Totals({ rows }) {
  /** @type {Map<string, { account: string, currency: string, balance: number }>} */
  const sums = new Map();
  for (const { ledger_account: account, currency, side, amount } of rows) {
    const key = `${currency} ${account}`;
    const known = sums.get(key) ?? { account, currency, balance: 0 };
    sums.set(key, { ...known, balance: known.balance + (side === "debit" ? amount : -amount) });
  }
  return html`<h2>Debits less credits</h2><dl class="facts object-gap">${[...sums].map(([key, sum]) => html`
    <div key=${key}><dt>${formatName(sum.account)}</dt>
      <dd><${Money} amount=${sum.balance} currency=${sum.currency} /></dd></div>`)}</dl>`;
}

/** @param {{ records: { position: number, object: string, reason: string }[] }} props */
function Unreadable({ records }) {
  if (records.length === 0) return null;
  return html`<${Note} tone="warning" title="Records that cannot be read are left out">
    <ul>${records.map(({ position, reason }) => html`
      <li key=${position}>position ${position}: ${formatName(reason)}</li>`)}</ul></${Note}>`;
}
