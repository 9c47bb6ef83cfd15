// One alert: what is wrong and what to do, its events, and whom each was sent to.

import { formatName } from "../../lib/format.js";
import { useResource } from "../../lib/resource.js";
import { Link } from "../../lib/router.js";
import { html } from "../../lib/ui.js";
import { Json } from "../../parts/json.js";
import { Loading, Notice, Page } from "../../parts/notice.js";
import { Badge, Facts } from "../../parts/values.js";
import { ClearAction } from "./clear.js";
import { findPlace, Moment, PATH, SECONDS, Severity, State } from "./words.js";

/** @typedef {import("./words.js").Alert & { events: AlertEvent[] }} Record */
/**
 * @typedef {{ id: string, type: string, at: number, severity: string, summary: string, cause: string,
 *   who: string | null, reason: string | null, notices: Notice[] }} AlertEvent
 */
/**
 * @typedef {{ receiver: string, host: string, removed: boolean, state: string, attempts: number,
 *   attempted_at: number | null, status: number | null, error: string | null, duration_ms: number | null,
 *   next_attempt_at: number | null }} Notice
 */

/** @param {{ id: string }} props */
export function AlertRecord({ id }) {
  const path = `${PATH}/${encodeURIComponent(id)}`;
  const { data: alert, error, reload } = useResource(path, {}, { every: SECONDS });
  const back = html`<${Link} to="alerts" class="button">All alerts</${Link}>`;
  if (!alert) {
    return html`<${Page} title="Alert" lead=${html`<span class="id">${id}</span>`}>${back}</${Page}>
      ${error ? html`<${Notice} error=${error} retry=${reload} />` : html`<${Loading} />`}`;
  }
  return html`<${Page} title=${alert.summary} name="Alert" lead=${alert.cause}>
      <${Severity} severity=${alert.severity} /> <${State} alert=${alert} />
      ${alert.state === "active" && html`<${ClearAction} alert=${alert} onDone=${reload} />`} ${back}
    </${Page}>
    <${Notice} error=${error} />
    <div class="columns">
      <${Explanation} alert=${alert} />
      <${Timeline} events=${alert.events} />
    </div>`;
}

/** @param {{ alert: Record }} props */
function Explanation({ alert }) {
  const place = findPlace(alert);
  return html`<section class="panel">
    <header><h2>What to do</h2>
      ${place && html`<${Link} to=${place.to} query=${place.query}>${place.title}</${Link}>`}</header>
    <div class="panel-body stack">
      <p>${alert.remedy.action}</p>
      <p class="hint">Explained in ${alert.remedy.see}</p>
      <${Facts} rows=${[
        ["Kind", formatName(alert.kind)],
        ["Key", html`<span class="id">${alert.key}</span>`],
        ["Alert", html`<span class="id">${alert.id}</span>`],
        ["Raised", html`<${Moment} at=${alert.raised_at} />`],
        ["Ended", alert.ended_at && html`<${Moment} at=${alert.ended_at} />`],
        alert.cleared_by && ["Cleared by", html`<span class="id">${alert.cleared_by}</span>`],
        alert.clear_reason && ["Why", alert.clear_reason],
      ]} />
      <h3>Details</h3>
      <${Json} value=${alert.details} />
    </div>
  </section>`;
}

/** @type {{ [type: string]: [tone: string, title: string] }} */
const TYPES = {
  raised: ["warning", "Raised"],
  elevated: ["danger", "Elevated"],
  resolved: ["ok", "Resolved"],
  cleared: ["neutral", "Cleared"],
};

/** The events, the newest first. @param {{ events: AlertEvent[] }} props */
function Timeline({ events }) {
  return html`<section class="panel">
    <header><h2>Timeline</h2></header>
    <ol class="panel-body alert-events">
      ${events.toReversed().map((event) => html`<li key=${event.id}>
        <p class="row"><${EventBadge} type=${event.type} /> <${Severity} severity=${event.severity} />
          <span class="faint"><${Moment} at=${event.at} /></span></p>
        ${event.who ? html`<p>By <span class="id">${event.who}</span>: ${event.reason}</p>`
          : html`<p class="soft">${event.cause}</p>`}
        ${event.notices.length > 0 ? html`<ul class="alert-notices">${event.notices.map((notice) =>
            html`<li key=${notice.receiver}><${NoticeLine} notice=${notice} /></li>`)}</ul>`
          : html`<p class="hint">There was no receiver to be told.</p>`}
      </li>`)}
    </ol>
  </section>`;
}

/** @param {{ type: string }} props */
function EventBadge({ type }) {
  const [tone, title] = TYPES[type] ?? ["neutral", formatName(type)];
  return html`<${Badge} tone=${tone}>${title}</${Badge}>`;
}

/** @type {{ [state: string]: [tone: string, title: string] }} */
const NOTICE_STATES = {
  pending: ["waiting", "To be sent"],
  delivered: ["ok", "Delivered"],
  failed: ["danger", "Given up"],
  dropped: ["neutral", "Receiver removed"],
};

/** To whom an event was sent, and how that went. @param {{ notice: Notice }} props */
function NoticeLine({ notice }) {
  const [tone, title] = NOTICE_STATES[notice.state] ?? ["neutral", notice.state];
  const answer = notice.error ?? (notice.status === null ? null : `status ${notice.status}`);
  const tries = notice.attempts === 1 ? "1 attempt" : `${notice.attempts} attempts`;
  return html`<${Badge} tone=${tone}>${title}</${Badge}>
    <span class="id">${notice.host}</span>
    <span class="faint">${[answer, notice.attempts > 0 && tries].filter(Boolean).join(", ")}
      ${notice.next_attempt_at !== null && notice.attempts > 0 && html`, next <${Moment}
        at=${notice.next_attempt_at} />`}</span>`;
}
