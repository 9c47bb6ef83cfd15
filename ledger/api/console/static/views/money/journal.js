// The journal: each posting with the event that made it.

import { formatName } from "../../lib/format.js";
import { useList } from "../../lib/resource.js";
import { html } from "../../lib/ui.js";
import { Filters, Select } from "../../parts/forms.js";
import { Empty, Note, Notice } from "../../parts/notice.js";
import { Pages, Table } from "../../parts/table.js";
import { Count, IdLink, Money, Time } from "../../parts/values.js";
import { setQuery } from "../../lib/router.js";
import { LEDGER_ACCOUNTS } from "./ledger-accounts.js";

/** @type {import("../../parts/forms.js").Filter[]} */
const FILTERS = [
  { name: "ledger_account", label: "Ledger account", type: "select",
    options: LEDGER_ACCOUNTS.map((name) => /** @type {[string, string]} */ ([name, formatName(name)])) },
  { name: "currency", label: "Currency", placeholder: "usd" },
  { name: "object", label: "Object", placeholder: "ch_…, re_…, du_…" },
  { name: "transaction", label: "Balance transaction", placeholder: "txn_…" },
  { name: "from", label: "From", placeholder: "2026-11-28 19:30" },
  { name: "to", label: "To", placeholder: "now" },
  { name: "at", label: "As it was at", placeholder: "now" },
];

/** @type {import("../../parts/table.js").Column[]} */
const COLUMNS = [
  { title: "Time", cell: (row) => html`<${Time} at=${Date.parse(row.time) / 1000} />` },
  { title: "Event", cell: (row) => row.type },
  { title: "Ledger account", cell: (row) => formatName(row.ledger_account) },
  { title: "Debit", align: "end", cell: (row) =>
    html`<${Money} amount=${row.side === "debit" ? row.amount : null} currency=${row.currency} />` },
  { title: "Credit", align: "end", cell: (row) =>
    html`<${Money} amount=${row.side === "credit" ? row.amount : null} currency=${row.currency} />` },
  { title: "Of, in its balance transaction", cell: (row) => html`<span class="journal-of">
      <${IdLink} id=${row.source} /><${IdLink} id=${row.balance_transaction}
        to=${`money?tab=journal&transaction=${encodeURIComponent(row.balance_transaction)}`} /></span>` },
  { title: "Position", align: "end", cell: (row) => html`<${Count} value=${row.position} />` },
];

/** @param {{ query: URLSearchParams }} props */
export function Journal({ query }) {
  const order = query.get("order") ?? "desc";
  const params = Object.fromEntries(FILTERS.map(({ name }) => [name, query.get(name)]));
  const list = useList("/internal/v1/audit/journal", { ...params, order }, { query, limit: 50 });
  const isFiltered = FILTERS.some(({ name }) => query.has(name));
  return html`<${Filters} filters=${FILTERS} query=${query}>
      <${Select} label="Order" value=${order} options=${[["desc", "newest first"], ["asc", "oldest first"]]}
        onChange=${(/** @type {string} */ value) =>
          setQuery({ order: value === "desc" ? null : value, after: null })} />
    </${Filters}>
    <${Notice} error=${list.error} retry=${list.reload} title=${list.error && "The journal cannot be shown"}
      />
    ${list.data?.unreadable.length > 0 && html`<${Note} tone="warning"
      title="Records that cannot be read are left out.">
      <p>Positions ${list.data.unreadable.map((/** @type {any} */ each) =>
        each.position).join(", ")}.</p></${Note}>`}
    ${!list.error && html`<${Table} label="Postings" columns=${COLUMNS} rows=${list.rows}
      isLoading=${list.isLoading}
      rowKey=${(/** @type {any} */ row) => `${row.position}-${row.ordinal}`}
      to=${(/** @type {any} */ row) =>
        `objects/${encodeURIComponent(row.stream)}?at=position:${row.position}`}
      empty=${list.data && html`<${Empty} title=${isFiltered ? "No posting satisfies the filters."
        : "No money has moved yet."}>
        ${isFiltered ? "Clear one of them." : "Charges, refunds and disputes make postings."}</${Empty}>`}
          />`}
    <${Pages} list=${list} />`;
}
