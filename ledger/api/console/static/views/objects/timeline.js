// Every change of the object, newest first, a page at a time.

import { formatName, formatNumberOf } from "../../lib/format.js";
import { useKeys } from "../../lib/keyboard.js";
import { useList } from "../../lib/resource.js";
import { hrefOf, Link, setQuery } from "../../lib/router.js";
import { classes, html, useEffect, useRef } from "../../lib/ui.js";
import { Notice } from "../../parts/notice.js";
import { Pages } from "../../parts/table.js";
import { IdLink, Time } from "../../parts/values.js";
import { PAGE_CHANGES } from "./history.js";

const PATHS_MAX = 4;

/** @typedef {import("./history.js").Past} Past */

/** @param {{ id: string, past: Past, query: URLSearchParams }} props */
export function Timeline({ id, past, query }) {
  const isUnreadable = past.unreadable && past.last === 0;
  return isUnreadable ? html`<${UnreadTimeline} id=${id} query=${query} />`
    : html`<${ChangesTimeline} past=${past} query=${query} />`;
}

/** @param {{ past: Past, query: URLSearchParams }} props */
function ChangesTimeline({ past, query }) {
  const { changes, last, version, select } = past;
  useKeys([
    ["j", "an earlier change", () => select(version - 1)],
    ["k", "a later change", () => select(version + 1)],
  ], "Lists");
  const top = Number(query.get("after") ?? last + 1);
  const turn = (/** @type {number} */ to) => setQuery({ after: to > last ? null : to });
  const list = /** @type {any} */ ({
    next: top - PAGE_CHANGES > 1 ? () => turn(top - PAGE_CHANGES) : null,
    previous: top <= last ? () => turn(top + PAGE_CHANGES) : null,
  });
  return html`<section class="object-timeline" aria-label="Timeline">
    <h2>Timeline</h2>
    <${Notice} error=${past.timelineError} />
    <${Rows} rows=${changes} version=${version} query=${query} />
    <${Pages} list=${list}>${changes.length > 0
      && `${changes.at(-1).version} to ${changes[0].version} of ${formatNumberOf(last, "change")}`}</${Pages}>
  </section>`;
}

/**
 * Of an object that cannot be folded: what the log says of its events without their content.
 * @param {{ id: string, query: URLSearchParams }} props
 */
function UnreadTimeline({ id, query }) {
  const list = useList("/internal/v1/audit/log", { object: id }, { query, limit: PAGE_CHANGES });
  return html`<section class="object-timeline" aria-label="Timeline">
    <h2>Timeline</h2>
    <${Notice} error=${list.error} />
    <${Rows} rows=${list.rows} version=${0} query=${query} />
    <${Pages} list=${list} />
  </section>`;
}

/** @param {{ rows: any[], version: number, query: URLSearchParams }} props */
function Rows({ rows, version, query }) {
  const current = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    current.current?.scrollIntoView({ block: "nearest" });
  }, [version, rows]);
  return html`<ol class="timeline">
    ${rows.map((row) => html`<${Change} key=${row.version} row=${row} isCurrent=${row.version === version}
      place=${current} query=${query} />`)}
  </ol>`;
}

/** @param {{ row: any, isCurrent: boolean, place: any, query: URLSearchParams }} props */
function Change({ row, isCurrent, place, query }) {
  const at = `position:${row.position}`;
  const href = hrefOf(location.pathname, { ...Object.fromEntries(query), at });
  const name = classes("timeline-row", isCurrent && "timeline-current");
  return html`<li class=${name} ref=${isCurrent ? place : undefined}>
    <div class="timeline-head">
      <a href=${href} aria-current=${isCurrent ? "true" : undefined}>
        <span class="timeline-version">${row.version}</span> ${row.type}</a>
      <${Time} at=${Date.parse(row.time) / 1000} />
    </div>
    <p class="soft"><${Cause} row=${row} /></p>
    ${row.events === null && html`<p class="danger">This record cannot be read.</p>`}
    ${row.changes?.length > 0 && html`<p class="timeline-paths">${listPaths(row.changes)}</p>`}
    ${row.events?.length > 0 && html`<p class="timeline-events">Events: ${row.events.map(
      (/** @type {any} */ event, /** @type {number} */ place) => html`${place > 0 && ", "}
        <${Link} key=${event.id} to=${`events/${event.id}`} title=${event.id}>${event.type}</${Link}>`)}</p>`}
  </li>`;
}

/** Who or what made it. @param {{ row: any }} props */
function Cause({ row }) {
  const { actor, request_id: request, causation } = row;
  return html`
    ${actor ? html`by ${actor.name || html`<span class="id">${actor.id}</span>`}` : "by the service"}
    ${request && html` · <${IdLink} id=${request}>request</${IdLink}>`}
    ${causation && html` · ${describeCausation(causation)}`}`;
}

/** @param {any} causation */
function describeCausation(causation) {
  switch (causation.type) {
    case "clock": return "because its time had come";
    case "network_fact": return html`reported by the network as <span class="id">${causation.reference}</span>`;
    case "import": return html`imported by <${IdLink} id=${causation.request_id}>a request</${IdLink}>`;
    case "event": return html`after Event <${IdLink} id=${causation.snapshot_event} />`;
    default: return html`with <${IdLink} id=${causation.object}
      to=${`objects/${encodeURIComponent(causation.object)}`}>change ${causation.version} of ${causation.object}</${IdLink}>`;
  }
}

/** @param {{ path: string }[]} changes */
function listPaths(changes) {
  const paths = changes.slice(0, PATHS_MAX).map(({ path }) => (path === "" ? "all of it" : formatName(path)));
  const more = changes.length - paths.length;
  return paths.join(", ") + (more > 0 ? ` and ${more} more` : "");
}
