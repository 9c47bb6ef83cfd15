// The disputes as a list in pages: for many rows, and for narrow pages.

import { formatName } from "../../lib/format.js";
import { useList } from "../../lib/resource.js";
import { html } from "../../lib/ui.js";
import { Empty, Notice } from "../../parts/notice.js";
import { Pages, Table } from "../../parts/table.js";
import { Badge, IdLink, Money, Time } from "../../parts/values.js";
import { describeEvidence } from "./board.js";
import { Due } from "./due.js";
import { AWAITING, describeStatus } from "./statuses.js";

const EVERY_SECONDS = 5;

/** @type {import("../../parts/table.js").Column[]} */
const TABLE = [
  { title: "Dispute", cell: ({ id }) => html`<span class="id">${id}</span>` },
  {
    title: "Status",
    cell: ({ status }) => {
      const { title, tone } = describeStatus(status);
      return html`<${Badge} tone=${tone}>${title}</${Badge}>`;
    },
  },
  {
    title: "Due",
    cell: (row) => (AWAITING.includes(row.status) ? html`<${Due} dispute=${row} />`
      : html`<span class="faint">—</span>`),
  },
  {
    title: "Amount", align: "end",
    cell: ({ amount, currency }) => html`<${Money} amount=${amount} currency=${currency} />`,
  },
  { title: "Reason, evidence", cell: (row) => html`<span class="dispute-of">${formatName(row.reason)}
      <span class="faint">${describeEvidence(row)}</span></span>` },
  { title: "Charge, customer", narrow: "hide", class: "dispute-charge",
    cell: ({ charge, customer }) => html`<span class="dispute-of">
      <${IdLink} id=${charge} />${customer && html`<${IdLink} id=${customer} />`}</span>` },
  { title: "Opened", cell: ({ created }) => html`<${Time} at=${created} />` },
];

/** @param {{ query: URLSearchParams, reason: string | null, bounds: Record<string, any> }} props */
export function List({ query, reason, bounds }) {
  const isBounded = Object.keys(bounds).length > 0;
  const chosen = query.get("status")?.split(",") ?? [];
  const statuses = chosen.length === 0 && isBounded ? AWAITING : chosen;
  const order = isBounded ? null : query.get("order");
  const params = { status: statuses, reason, order, ...bounds };
  const list = useList("/internal/v1/disputes", params, { query, every: EVERY_SECONDS });
  const empty = !list.error && html`<${Empty} title="No disputes match.">Clear a filter, or choose another
    account.</${Empty}>`;
  return html`${list.error && html`<${Notice} error=${list.error} retry=${list.reload} />`}
    <${Table} label="Disputes" columns=${TABLE} rows=${list.rows} isLoading=${list.isLoading} empty=${empty}
      rowKey=${(/** @type {any} */ row) => row.id}
      to=${(/** @type {any} */ row) => `disputes/${encodeURIComponent(row.id)}`} />
    <${Pages} list=${list} />`;
}
