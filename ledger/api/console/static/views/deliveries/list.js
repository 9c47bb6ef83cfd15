// All deliveries that match the filters of the URL, newest first, below the endpoints and the jobs that run.

import { hrefOf } from "../../lib/router.js";
import { useKeys } from "../../lib/keyboard.js";
import { useList } from "../../lib/resource.js";
import { html, useState } from "../../lib/ui.js";
import { Filters } from "../../parts/forms.js";
import { Empty, Note, Notice, Page } from "../../parts/notice.js";
import { Pages, Table } from "../../parts/table.js";
import { Time } from "../../parts/values.js";
import { Endpoints, useEndpoints } from "./endpoints.js";
import { RunningJobs, useJobs } from "./jobs.js";
import { ReplayDialog } from "./replay-dialog.js";
import { RetryDialog } from "./retry-dialog.js";
import { NextTry, readFilters, Result, State } from "./words.js";

/** @type {[value: string, text: string][]} */
const STATES = [
  ["failed,dropped", "given up (failed, dropped)"], ["failed", "failed"], ["dropped", "dropped"],
  ["pending", "pending"], ["delivered", "delivered"], ["forwarded", "forwarded to a listener"],
];
const COLUMNS = [
  { title: "Event", class: "delivery-event", cell: (/** @type {any} */ row) => html`${row.type}
      <span class="id faint">${row.event}</span>` },
  { title: "State", cell: (/** @type {any} */ row) => html`<${State} state=${row.state} />` },
  { title: "Endpoint", cell: (/** @type {any} */ row) => html`<span class="id">${row.endpoint}</span>` },
  {
    title: "Tries", align: /** @type {const} */ ("end"),
    cell: (/** @type {any} */ row) => row.attempt_count,
  },
  { title: "Last result", cell: (/** @type {any} */ row) => html`<${Result} attempt=${row.last_attempt} />` },
  {
    title: "Next try",
    cell: (/** @type {any} */ row) => (row.in_flight ? html`<span class="faint">under way</span>`
      : html`<${NextTry} at=${row.next_attempt_at} />`),
  },
  { title: "Made", cell: (/** @type {any} */ row) => html`<${Time} at=${row.created} />` },
];

/** @param {{ endpoints: any[], query: URLSearchParams }} props */
function DeliveryFilters({ endpoints, query }) {
  const filters = [
    { name: "endpoint", label: "Endpoint", type: "select", options: endpoints.map((each) => each.id) },
    { name: "state", label: "State", type: "select", options: STATES },
    { name: "type", label: "Type", placeholder: "charge.*" },
    { name: "since", label: "Made since (UTC)", placeholder: "2026-11-28 19:30" },
    { name: "until", label: "Made before (UTC)", placeholder: "2026-11-28 20:00" },
    ...(query.has("job") ? [{ name: "job", label: "Job", placeholder: "wrt_… or whr_…" }] : []),
  ];
  const chosen = query.get("endpoint");
  if (chosen && !endpoints.some(({ id }) => id === chosen)) filters[0]?.options?.push(chosen);
  return html`<${Filters} filters=${filters} query=${query} />`;
}

/** @param {{ query: URLSearchParams }} props */
export function Deliveries({ query }) {
  const endpoints = useEndpoints();
  const jobs = useJobs();
  const filters = readFilters(query);
  const [dialog, setDialog] = useState("");
  const list = useList(filters.wrong === null ? "/internal/v1/webhooks/deliveries" : null, {
    endpoint: filters.endpoint, state: filters.state, type: filters.types, replay: filters.job,
    created: filters.created,
  }, { query, every: 2 });
  useKeys([
    ["s", "send again all that match", () => setDialog("retry")],
    ["w", "replay a window to an endpoint", () => setDialog("replay")],
  ]);
  const known = endpoints.data?.data ?? [];
  return html`
    <${Page} title="Deliveries" lead="What was sent to webhook endpoints in the last 30 days, or will be.">
      <a class="button" href=${hrefOf("deliveries/jobs")}>All jobs</a>
      <button type="button" onClick=${() => setDialog("replay")}>Replay a window …</button>
      <button type="button" onClick=${() => setDialog("retry")}>Send again all that match …</button>
    </${Page}>
    <${RunningJobs} jobs=${jobs} />
    <${Endpoints} endpoints=${endpoints} chosen=${filters.endpoint} />
    <${DeliveryFilters} endpoints=${known} query=${query} />
    ${filters.wrong !== null && html`<${Note} tone="danger" title=${`"${filters.wrong}" is no time`}>
      Write 2026-11-28, 2026-11-28 19:30 (in UTC), or unix seconds.</${Note}>`}
    <${Notice} error=${list.error} retry=${list.reload} />
    <${Table} label="Deliveries" columns=${COLUMNS} rows=${list.rows}
      rowKey=${(/** @type {any} */ row) => row.id} isLoading=${list.isLoading && !list.data}
      to=${(/** @type {any} */ row) => `deliveries/${row.id}`}
      empty=${list.data && html`<${NoDeliveries} query=${query} />`} />
    <${Pages} list=${list} />
    ${dialog === "retry" && html`<${RetryDialog} filters=${filters} onDone=${jobs.reload}
      onClose=${() => setDialog("")} />`}
    ${dialog === "replay" && html`<${ReplayDialog} endpoints=${known} filters=${filters} onDone=${jobs.reload}
      onClose=${() => setDialog("")} />`}`;
}

/** @param {{ query: URLSearchParams }} props */
function NoDeliveries({ query }) {
  const isFiltered = [...query.keys()].length > 0;
  return html`<${Empty} title=${isFiltered ? "No delivery matches" : "No deliveries yet"}>
    ${isFiltered ? "Widen the filters. Deliveries are kept for 30 days."
      : "Each Event is delivered to every endpoint that is subscribed to its type."}</${Empty}>`;
}
