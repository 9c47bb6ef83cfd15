// Webhook deliveries of the Events that the changes on the timeline's page have made.

import { get } from "../../lib/api.js";
import { hasScope } from "../../lib/session.js";
import { html, useEffect, useState } from "../../lib/ui.js";
import { Empty, Loading, NeedsScope, Notice } from "../../parts/notice.js";
import { Table } from "../../parts/table.js";
import { Badge, Time } from "../../parts/values.js";
import { NextTry, Result } from "../deliveries/words.js";

const EVENTS_AT_ONCE = 20;
const DELIVERIES_MAX = 100;
const TONES = /** @type {Record<string, string>} */ (
  { delivered: "ok", pending: "waiting", failed: "danger", dropped: "neutral", forwarded: "info" });

/** @param {{ past: import("./history.js").Past }} props */
export function DeliveriesTab({ past }) {
  return html`<${NeedsScope} scope="webhooks" what="What was delivered">
    <${Deliveries} changes=${past.changes} chosen=${past.change} />
  </${NeedsScope}>`;
}

/** @param {{ changes: any[], chosen: any }} props */
function Deliveries({ changes, chosen }) {
  const isListed = !chosen || changes.some((each) => each.version === chosen.version);
  const all = isListed ? changes : [chosen, ...changes];
  const events = all.flatMap((change) => change.events ?? []).map((/** @type {any} */ event) => event.id);
  const { rows, hasMore, error, isLoading } = useDeliveries(events);
  const made = new Set((chosen?.events ?? []).map((/** @type {any} */ event) => event.id));
  if (isLoading) return html`<${Loading} />`;
  if (error) return html`<${Notice} error=${error} />`;
  return html`
    <${Table} label="Deliveries" columns=${COLUMNS} rows=${rows} rowKey=${idOf} to=${placeOf} keys=${false}
      selected=${rows.find((/** @type {any} */ row) => made.has(row.event))?.id ?? null}
      empty=${html`<${Empty} title="No deliveries">In the last 30 days no endpoint was to be sent an Event of
        the changes on this page of the timeline.</${Empty}>`} />
    <p class="hint">Of the changes on this page of the timeline.${hasMore && " There are more."}</p>`;
}

/** @type {import("../../parts/table.js").Column[]} */
const COLUMNS = [
  { title: "Event", class: "object-name", cell: (row) => html`${row.type}
      <span class="id faint">to ${row.endpoint}</span>` },
  { title: "State", cell: ({ state }) => html`<${Badge} tone=${TONES[state]}>${state}</${Badge}>` },
  { title: "Tries", align: "end", cell: (row) => row.attempt_count },
  { title: "Last result", cell: (row) => lastResult(row.last_attempt) },
  { title: "Next try", cell: (row) => html`<${NextTry} at=${row.next_attempt_at} />` },
];

/** @param {any} row */
function idOf(row) {
  return row.id;
}

/** @param {any} row */
function placeOf(row) {
  return `deliveries/${row.id}`;
}

/** @param {any} attempt */
function lastResult(attempt) {
  return html`<span><${Result} attempt=${attempt} /> ${attempt && html`<${Time} at=${attempt.at} />`}</span>`;
}

/**
 * The deliveries of these Events, newest first; asked for again when the Events change.
 * @param {string[]} events
 */
function useDeliveries(events) {
  const none = { of: null, rows: [], hasMore: false, error: null };
  const [state, setState] = useState(/** @type {any} */ (none));
  const wanted = events.join(" ");
  const isAllowed = hasScope("webhooks");
  useEffect(() => {
    if (!isAllowed) return undefined;
    const abort = new AbortController();
    fetchDeliveries(events, abort.signal).then(
      (found) => setState({ of: wanted, ...found, error: null }),
      (error) => {
        if (!abort.signal.aborted) setState({ ...none, of: wanted, error });
      },
    );
    return () => abort.abort();
  }, [wanted, isAllowed]);
  return { ...state, isLoading: state.of !== wanted };
}

/**
 * @param {string[]} events
 * @param {AbortSignal} signal
 */
async function fetchDeliveries(events, signal) {
  const chunks = [];
  for (let start = 0; start < events.length; start += EVENTS_AT_ONCE) {
    chunks.push(events.slice(start, start + EVENTS_AT_ONCE));
  }
  const pages = await Promise.all(chunks.map((event) => fetchPage(event, signal)));
  const rows = pages.flatMap((page) => page.data).sort((one, other) => other.created - one.created);
  return { rows, hasMore: pages.some((page) => page.has_more) };
}

/**
 * @param {string[]} event
 * @param {AbortSignal} signal
 */
async function fetchPage(event, signal) {
  try {
    return await get("/internal/v1/webhooks/deliveries", { event, limit: DELIVERIES_MAX }, { signal });
  } catch (/** @type {any} */ error) {
    // None of these Events is kept any more: after 30 days there are no deliveries of it either.
    if (error.code === "resource_missing") return { data: [], has_more: false };
    throw error;
  }
}
