// Single requests that are kept, newest first.

import { useList } from "../../lib/resource.js";
import { html } from "../../lib/ui.js";
import { Filters } from "../../parts/forms.js";
import { Empty, Notice } from "../../parts/notice.js";
import { Pages, Table } from "../../parts/table.js";
import { Time } from "../../parts/values.js";
import { Status } from "./groups.js";

const FILTERS = [
  { name: "status", label: "Status", placeholder: "404, 5xx" },
  { name: "operation", label: "Operation", placeholder: "POST /v1/customers", wide: true },
  { name: "code", label: "Code", placeholder: "resource_missing" },
  { name: "key", label: "Key", placeholder: "key_…" },
];

/**
 * @param {{ query: URLSearchParams, since: number | null, until: number | null | undefined,
 *   group: string | null, kept: string | undefined }} props
 */
export function RequestList({ query, since, until, group, kept }) {
  const chosen = Object.fromEntries(FILTERS.map(({ name }) => [name, group ? null : query.get(name)]));
  const params = { ...chosen, group, created: { gte: since, lte: until ?? null } };
  const list = useList("/internal/v1/requests", params, {
    query, every: until ? undefined : 5, cursorOf: (page) => page.next_request,
  });
  const isPartial = list.rows.length === 0 && list.next !== null;
  return html`
    ${!group && html`<${Filters} query=${query} filters=${FILTERS} />`}
    <${Notice} error=${list.error} retry=${list.reload} />
    <${Table} label="Requests" rows=${list.rows} rowKey=${(/** @type {any} */ row) => row.id}
      isLoading=${list.isLoading} to=${(/** @type {any} */ row) => `requests/${row.id}`}
      columns=${[
        { title: "Request", class: "requests-id",
          cell: (/** @type {any} */ row) => html`<span class="id">${row.id}</span>` },
        ...(group ? [] : [
          { title: "Status", cell: (/** @type {any} */ row) => html`<${Status} status=${row.status} />` },
        ]),
        { title: "Path", cell: (/** @type {any} */ row) =>
          html`<span class="mono">${row.method} ${row.path}</span>` },
        group ? { title: "Key", narrow: "hide", cell: showKey }
          : { title: "Error", cell: (/** @type {any} */ row) => row.error?.message ?? "" },
        { title: "Took", align: "end", narrow: "hide",
          cell: (/** @type {any} */ row) => `${row.duration_ms.toFixed(1)} ms` },
        { title: "Answered", align: "end",
          cell: (/** @type {any} */ row) => html`<${Time} at=${row.created} />` },
      ]}
      empty=${!list.error && html`<${Empty} title=${isPartial ? "None so far." : "No such request is kept."}>
        ${isPartial ? "The newest 2,500 were looked at. The next page looks further back."
          : kept === "all" ? "Other filters or a longer time may show some."
          : "Requests that fail are kept for 7 days. Other filters or a longer time may show some."}
      </${Empty}>`} />
    <${Pages} list=${list} />`;
}

/** @param {any} row */
function showKey({ key }) {
  return key ? html`<span class="id">${key}</span>` : html`<span class="faint">none</span>`;
}
