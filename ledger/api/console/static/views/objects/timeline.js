// Every change of the object, newest first, a page at a time.

import { formatNumberOf } from "../../lib/format.js";
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
  return past.timelineError?.status === 500 ? html`<${UnreadTimeline} id=${id} query=${query} />`
    : html`<${ChangesTimeline} past=${past} query=${query} />`;
}

/** @param {{ past: Past, query: URLSearchParams }} props */
function ChangesTimeline({ past, query }) {
  const { changes, last, version, select, top } = past;
  useKeys([
    ["j", "an earlier change", () => select(version - 1)],
    ["k", "a later change", () => select(version + 1)],
  ], "Lists");
  const turn = (/** @type {number} */ to) => setQuery({ after: Math.min(to, last + 1) });
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
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const current = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => showIn(list.current, current.current), [version, rows]);
  return html`<ol class="timeline" ref=${list} role="list" aria-label="Changes" tabindex="0">
    ${rows.map((row) => html`<${Change} key=${row.version} row=${row} isCurrent=${row.version === version}
      place=${current} query=${query} />`)}
  </ol>`;
}

/**
 * Scroll a list to one of its rows; never the page, which stays where its reader is.
 * @param {HTMLElement | null} list
 * @param {HTMLElement | null} row
 */
function showIn(list, row) {
  if (!list || !row?.isConnected) return;
  const [box, place] = [list.getBoundingClientRect(), row.getBoundingClientRect()];
  if (place.top < box.top) list.scrollTop -= box.top - place.top;
  else if (place.bottom > box.bottom) list.scrollTop += place.bottom - box.bottom;
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
    ${row.changes?.length > 0 && html`<p class="timeline-paths mono">${listPaths(row.changes)}</p>`}
    ${row.events?.length > 0 && html`<${Events} position=${row.position} events=${row.events} />`}
  </li>`;
}

/**
 * The public Events that it made. The view of events opens one by its position, or by its id for a key
 * without the feed.
 * @param {{ position: number, events: { id: string, type: string }[] }} props
 */
function Events({ position, events }) {
  return html`<ul class="timeline-events">${events.map(({ id, type }) => html`<li key=${id}>Event${" "}
    <${Link} to="events" query=${{ item: position, event: id }} title=${id}>${type}</${Link}></li>`)}</ul>`;
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
    case "network_fact": return html`told by the network as <span class="id">${causation.reference}</span>`;
    case "import": return html`imported by <${IdLink} id=${causation.request_id}>a request</${IdLink}>`;
    case "event": return html`after Event <${IdLink} id=${causation.snapshot_event} />`;
    default: return html`because of change ${causation.version} of <${IdLink} id=${causation.object} />`;
  }
}

/**
 * Which members changed; of those inside one member, how many.
 * @param {{ path: string }[]} changes
 */
function listPaths(changes) {
  /** @type {Map<string, string[]>} */
  const members = new Map();
  for (const { path } of changes) {
    const member = path.split("[")[0] || "all of it";
    members.set(member, [...(members.get(member) ?? []), path]);
  }
  const named = [...members].map(([member, paths]) =>
    (paths.length === 1 ? paths[0] || member : `${member} (${paths.length})`));
  const more = named.length - PATHS_MAX;
  return named.slice(0, PATHS_MAX).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
