// One request: how it was answered, and what it changed.

import { useResource } from "../../lib/resource.js";
import { Link } from "../../lib/router.js";
import { html } from "../../lib/ui.js";
import { Empty, Loading, Note, Notice, Page } from "../../parts/notice.js";
import { Table } from "../../parts/table.js";
import { Facts, IdLink, Time } from "../../parts/values.js";
import { Status } from "./groups.js";

/** @param {{ id: string }} props */
export function OneRequest({ id }) {
  const { data, error } = useResource("/internal/v1/requests", { request: id });
  const request = data?.data[0];
  return html`
    <${Page} title=${html`Request <span class="id">${id}</span>`} name=${`Request ${id}`}>
      <${Link} to="requests" class="button">All requests</${Link}>
    </${Page}>
    <${Notice} error=${error} />
    ${!data && !error && html`<${Loading} />`}
    ${data && (request ? html`<${Answer} request=${request} />` : html`<${NotKept} kept=${data.kept} />`)}
    <${Changes} id=${id} />`;
}

/** @param {{ kept: string }} props */
function NotKept({ kept }) {
  return html`<${Note} title="It is not in the request log.">
    <p>${kept === "none" ? "This service keeps no requests (LEDGER_REQUEST_LOG)."
      : kept === "errors" ? "It succeeded, is older than 7 days, or is of another account or mode."
      : "It is older than 7 days, or of another account or mode."} What it changed is in the log of events for
    good, below.</p></${Note}>`;
}

/** @param {{ request: any }} props */
function Answer({ request }) {
  const { error } = request;
  return html`<section class="panel" aria-label="Answer">
    <header><h2>${error ? error.message ?? error.code ?? "Error" : "Succeeded"}</h2>
      <${Status} status=${request.status} /></header>
    <div class="panel-body"><${Facts} rows=${[
      ["Request", html`<span class="mono">${request.method} ${request.path}</span>`],
      ["Operation", html`<span class="mono">${request.operation}</span>`],
      ["Answered", html`<${Time} at=${request.created} full />`],
      ["Took", html`<span class="number">${request.duration_ms.toFixed(1)} ms</span>`],
      ["Account", request.account ? html`<span class="id">${request.account}</span>`
        : "none: it had no valid key"],
      ["Key", request.key && html`<${IdLink} id=${request.key}
        to=${`keys?key=${encodeURIComponent(request.key)}`} />`],
      error && ["Type", html`<code>${error.type}</code>`],
      error?.code && ["Code", html`<code>${error.code}</code>`],
      error?.param && ["Parameter", html`<code>${error.param}</code>`],
      error && ["Alike", html`<${Link} to="requests" query=${{ group: request.group, span: "7d" }}>
        Requests that failed alike</${Link}>`],
    ]} /></div>
  </section>`;
}

/** @param {{ id: string }} props */
function Changes({ id }) {
  const { data, error } = useResource("/internal/v1/audit/log", { request: id, order: "asc", limit: 100 });
  return html`<section class="panel" aria-label="What it changed">
    <header><h2>What it changed</h2></header>
    ${error && html`<div class="panel-body"><${Notice} error=${error} /></div>`}
    ${!data && !error && html`<div class="panel-body"><${Loading} /></div>`}
    ${data && html`<${Table} label="What it changed" rows=${data.data}
      rowKey=${(/** @type {any} */ row) => row.position} to=${(/** @type {any} */ row) =>
        `objects/${encodeURIComponent(row.stream)}?at=position:${row.position}`}
      columns=${[
        { title: "Event", cell: (/** @type {any} */ row) => html`<span class="mono">${row.type}</span>` },
        { title: "Object", cell: (/** @type {any} */ row) => html`<span class="id">${row.stream}</span>` },
        { title: "Position", align: "end",
          cell: (/** @type {any} */ row) => html`<span class="number">${row.position}</span>` },
        { title: "Recorded", align: "end",
          cell: (/** @type {any} */ row) => html`<${Time} at=${Date.parse(row.time) / 1000} />` },
      ]}
      empty=${html`<div class="panel-body"><${Empty} title="Nothing.">
        No event was recorded by this request.</${Empty}></div>`} />`}
  </section>`;
}
