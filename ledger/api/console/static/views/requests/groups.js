// Failed requests in groups: the same operation, status, code and parameter.

import { setQuery } from "../../lib/router.js";
import { html, useMemo } from "../../lib/ui.js";
import { Select } from "../../parts/forms.js";
import { Empty, Note } from "../../parts/notice.js";
import { Table } from "../../parts/table.js";
import { Badge, Count, Facts, IdLink, Time } from "../../parts/values.js";

/** @type {[value: string, text: string][]} */
const ORDERS = [["count", "most first"], ["last", "newest first"]];

/** @param {{ data: any, query: URLSearchParams }} props */
export function Groups({ data, query }) {
  const order = query.get("sort") === "last" ? "last" : "count";
  const groups = useMemo(() => (order === "count" ? data.groups
    : [...data.groups].sort((one, other) => other.last_at - one.last_at)), [data, order]);
  return html`
    ${data.groups.length > 1 && html`<div class="requests-order"><${Select} label="Order" value=${order}
      options=${ORDERS} onChange=${(/** @type {string} */ sort) => setQuery({ sort })} /></div>`}
    <${Table} label="Groups of failed requests" rows=${groups} rowKey=${(/** @type {any} */ row) => row.id}
      onOpen=${(/** @type {any} */ row) => setQuery({ group: row.id, after: null })}
      columns=${[
        { title: "Error", cell: (/** @type {any} */ row) => describe(row) },
        { title: "Status", cell: (/** @type {any} */ row) => html`<${Status} status=${row.status} />` },
        { title: "Operation",
          cell: (/** @type {any} */ row) => html`<span class="mono">${row.operation}</span>` },
        { title: "Requests", align: "end",
          cell: (/** @type {any} */ row) => html`<${Count} value=${row.count} />` },
        { title: "First", align: "end", narrow: "hide",
          cell: (/** @type {any} */ row) => html`<${Time} at=${row.first_at} />` },
        { title: "Last", align: "end",
          cell: (/** @type {any} */ row) => html`<${Time} at=${row.last_at} />` },
      ]}
      empty=${html`<${Empty} title="No request failed in this time.">
        What fails appears here a second later.</${Empty}>`} />
    ${data.has_more_groups && html`<p class="hint">Only the 200 largest groups are shown: a shorter time has
      fewer.</p>`}`;
}

/**
 * What went wrong, in one line.
 * @param {any} group
 */
function describe({ code, param, message, error_type: type }) {
  return html`<span class="requests-message">${message ?? code ?? type ?? "an error without a body"}</span>
    <span class="requests-code">${[code, param && `parameter ${param}`].filter(Boolean).join(" · ")}</span>`;
}

/** A status, by text and shape. @param {{ status: number }} props */
export function Status({ status }) {
  const tone = status >= 500 ? "danger" : status >= 400 ? "warning" : "ok";
  return html`<${Badge} tone=${tone}>${status || "none"}</${Badge}>`;
}

/**
 * The group that is open. `data` may not have it: of another time.
 * @param {{ id: string, data: any }} props
 */
export function GroupHead({ id, data }) {
  const group = data?.groups.find((/** @type {any} */ each) => each.id === id);
  const back = html`<button type="button" class="button-small"
    onClick=${() => setQuery({ group: null, after: null })}>All groups</button>`;
  if (!group) {
    return html`<${Note} title="No request of this group in this time."><p>${back}</p></${Note}>`;
  }
  return html`<section class="panel" aria-label="Group">
    <header><h2>${group.message ?? group.code ?? "Error"}</h2>${back}</header>
    <div class="panel-body"><${Facts} rows=${[
      ["Operation", html`<span class="mono">${group.operation}</span>`],
      ["Answered", html`<${Status} status=${group.status} />${" "}
        <span class="mono">${group.error_type}</span>`],
      ["Code", group.code && html`<code>${group.code}</code>`],
      ["Parameter", group.param && html`<code>${group.param}</code>`],
      ["Requests", html`<${Count} value=${group.count} />`],
      ["From", html`<${Time} at=${Math.floor(group.first_at)} full />`],
      ["To", html`<${Time} at=${Math.floor(group.last_at)} full />`],
      ["Newest", group.newest.length > 0 && html`<${IdLink} id=${group.newest[0]}
        to=${`requests/${group.newest[0]}`} />`],
    ]} /></div>
  </section>`;
}
