// The lists of alerts: those that are active, and those that have ended.

import { formatDuration } from "../../lib/format.js";
import { useList, useResource } from "../../lib/resource.js";
import { Link } from "../../lib/router.js";
import { html, useState } from "../../lib/ui.js";
import { Empty, Loading, Note, Notice } from "../../parts/notice.js";
import { Pages, Table } from "../../parts/table.js";
import { ClearDialog } from "./clear.js";
import { findPlace, Moment, PATH, SECONDS, Severity, State } from "./words.js";

/** @typedef {import("./words.js").Alert} Alert */

const SHOWN_MAX = 100;
// A look takes place every 2 s, and another process goes on within 5 s.
const LOOK_SECONDS_MAX = 15;

/** What is wrong now: critical ones first, then the newest. */
export function ActiveAlerts() {
  const params = { state: "active", limit: SHOWN_MAX };
  const { data, error, reload } = useResource(PATH, params, { every: SECONDS });
  const [clearing, setClearing] = useState(/** @type {Alert | null} */ (null));
  if (!data) return error ? html`<${Notice} error=${error} retry=${reload} />` : html`<${Loading} />`;
  return html`<${Watch} seconds=${data.looked_seconds_ago} />
    <${Notice} error=${error} />
    <${Table} label="Active alerts" rows=${sortBySeverity(data.data)}
      rowKey=${(/** @type {Alert} */ row) => row.id}
      columns=${makeActiveColumns(setClearing)} to=${(/** @type {Alert} */ row) => `alerts/${row.id}`}
      empty=${html`<${Empty} title="Nothing is wrong.">A stalled worker or projection, unsealed events, drift,
        a failing webhook endpoint, overdue due dates and disputes that are due appear here within
        10 s.</${Empty}>`} />
    <div>${clearing && html`<${ClearDialog} alert=${clearing} onDone=${reload}
      onClose=${() => setClearing(null)} />`}</div>
    ${data.has_more && html`<p class="hint">There are more: these are the newest ${SHOWN_MAX}.</p>`}`;
}

/** @param {Alert[]} alerts  the newest first */
function sortBySeverity(alerts) {
  const isCritical = (/** @type {Alert} */ alert) => Number(alert.severity === "critical");
  return alerts.toSorted((one, other) => isCritical(other) - isCritical(one));
}

/** Whether somebody looks at all. @param {{ seconds: number | null }} props */
function Watch({ seconds }) {
  if (seconds !== null && seconds < LOOK_SECONDS_MAX) return null;
  const since = seconds === null ? "yet" : `for ${formatDuration(Math.round(seconds))}`;
  return html`<${Note} tone="warning" title=${`Nobody has looked at the service ${since}.`}>
    <p>What is shown may be out of date. Every process of the service looks, one at a time: the log of the
      processes says under <code>alerts</code> why none can. In a copy of the database nobody looks.</p>
  </${Note}>`;
}

/** @param {(alert: Alert) => void} clear */
function makeActiveColumns(clear) {
  return [
    { title: "What is wrong", cell: showSummary },
    { title: "Cause", class: "alert-cause", cell: showCause },
    { title: "Since", cell: (/** @type {Alert} */ alert) => html`<${Moment} at=${alert.raised_at} />` },
    { title: "Look at", cell: showPlace },
    { title: "", name: "", align: /** @type {const} */ ("end"),
      cell: (/** @type {Alert} */ alert) => html`<button type="button" class="button-small"
        onClick=${() => clear(alert)}>Clear</button>` },
  ];
}

/** @param {Alert} alert */
function showSummary(alert) {
  return html`<span class="alert-summary"><${Severity} severity=${alert.severity} />
    <span>${alert.summary}</span></span>`;
}

/** @param {Alert} alert */
function showCause(alert) {
  return html`<div class="alert-words"><p>${alert.cause}</p><p class="hint">${alert.remedy.action}</p></div>`;
}

/** @param {Alert} alert */
function showPlace(alert) {
  const place = findPlace(alert);
  return place && html`<${Link} to=${place.to} query=${place.query}>${place.title}</${Link}>`;
}

/** What was wrong, by pages. @param {{ query: URLSearchParams }} props */
export function EndedAlerts({ query }) {
  const list = useList(PATH, { state: "ended" }, { query, limit: 25, every: 5 });
  return html`<${Notice} error=${list.error} retry=${list.reload} />
    <${Table} label="Ended alerts" rows=${list.rows} rowKey=${(/** @type {Alert} */ row) => row.id}
      columns=${ENDED_COLUMNS} to=${(/** @type {Alert} */ row) => `alerts/${row.id}`}
      isLoading=${list.isLoading}
      empty=${!list.error && html`<${Empty} title="No alert has ended yet.">Those that resolve, and those
        that an operator clears, stay here for 400 days.</${Empty}>`} />
    <${Pages} list=${list} />`;
}

const ENDED_COLUMNS = [
  { title: "What was wrong", cell: showSummary },
  { title: "State", class: "alert-cause", cell: (/** @type {Alert} */ alert) => html`<div class="alert-words">
      <p><${State} alert=${alert} /></p>
      ${alert.cleared_by && html`<p class="hint">By <span class="id">${alert.cleared_by}</span>:${" "}
        ${alert.clear_reason}</p>`}
    </div>` },
  { title: "Raised", cell: (/** @type {Alert} */ alert) => html`<${Moment} at=${alert.raised_at} />` },
  { title: "Lasted", align: /** @type {const} */ ("end"), cell: (/** @type {Alert} */ alert) =>
    html`<span class="number">${formatDuration(Math.max(1,
      Math.round((alert.ended_at ?? alert.raised_at) - alert.raised_at)))}</span>` },
];
