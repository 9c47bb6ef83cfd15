// The words of deliveries: states, codes, times, and the filters of the URL.

import { clock, formatNumberOf } from "../../lib/format.js";
import { html } from "../../lib/ui.js";
import { Badge, Time } from "../../parts/values.js";

/** @typedef {"ok" | "waiting" | "warning" | "danger" | "info" | "neutral"} Tone */

/** @type {Record<string, Tone>} */
const TONES = {
  delivered: "ok", pending: "waiting", failed: "danger", dropped: "neutral", forwarded: "info",
  running: "waiting", paused: "warning", completed: "ok", cancelled: "neutral",
};

/** @param {{ state: string }} props  of a delivery or a job */
export function State({ state }) {
  return html`<${Badge} tone=${TONES[state] ?? "neutral"}>${state}</${Badge}>`;
}

/** States that can be sent again, with what they mean. @type {[state: string, meaning: string][]} */
export const RETRIED_STATES = [
  ["failed", "given up after the last attempt"],
  ["dropped", "owed no more when it was dropped"],
  ["pending", "waits for its next attempt"],
  ["delivered", "accepted: the receiver gets it twice"],
];

/** Why an attempt got no answer. @type {[code: string, meaning: string][]} */
export const ERRORS = [
  ["timeout", "timeout"], ["refused", "connection refused"], ["connection", "connection lost"],
  ["dns", "name not found"], ["tls", "no valid certificate"], ["protocol", "no HTTP"],
  ["private_address", "private address"],
];

/** @type {Record<string, string>} */
const WAITS = {
  paused: "Webhooks are paused.",
  copy: "This database is a copy: nothing is sent from it.",
  endpoint_disabled: "The endpoint is disabled.",
  endpoint_deleted: "The endpoint is deleted.",
  endpoint_unreadable: "The endpoint cannot be read at the moment; the log of a worker says why.",
  breaker_open: "The endpoint failed over and over: it is tried now and then.",
  retry_after: "The receiver asked for a pause.",
  earlier_event: "An earlier Event of the same object is not delivered yet.",
  event_not_in_feed: "Its Event cannot be read at the moment.",
  fan_out: "Newer Events have no deliveries yet.",
};

/** What a code of `waits_for` means. @param {string} code */
export function describeWait(code) {
  return WAITS[code] ?? code;
}

/** @type {Record<string, string>} */
const LEFT_OUT = {
  endpoint_disabled: "the endpoint is disabled",
  endpoint_deleted: "the endpoint is deleted",
  in_other_job: "a job that has not ended sends them",
  attempts_exhausted: "attempted as often as one may be",
};

/** Lines on what is left out, and why. @param {Record<string, number>} leftOut */
export function describeLeftOut(leftOut) {
  return Object.entries(leftOut).map(([code, count]) =>
    `${formatNumberOf(count, "delivery", "deliveries")} left out: ${LEFT_OUT[code] ?? code}.`);
}

/**
 * The result of an attempt: its status, or why there was no answer.
 * @param {{ attempt: { status: number | null, error: string | null } | null }} props
 */
export function Result({ attempt }) {
  if (!attempt) return html`<span class="faint">—</span>`;
  const { status, error } = attempt;
  const isAccepted = status !== null && status >= 200 && status < 300;
  const text = error ? ERRORS.find(([code]) => code === error)?.[1] ?? error : String(status);
  return html`<span class=${isAccepted ? "ok" : "danger"}>${isAccepted ? "✓" : "✕"} ${text}</span>`;
}

/**
 * When a delivery is tried next. What is due and waits, for a worker or a paused endpoint, says so.
 * @param {{ at: number | null }} props
 */
export function NextTry({ at }) {
  const isDue = at !== null && at <= clock.peek();
  return html`<span class="number">${isDue && "due "}<${Time} at=${at} /></span>`;
}

/**
 * A time that somebody typed, in unix seconds: seconds, a date, or a date and time in UTC. Null: it is none.
 * @param {string} text
 */
export function parseTime(text) {
  const typed = text.trim();
  if (/^\d{1,12}$/.test(typed)) return Number(typed);
  const parts = /^(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d)?))?(?: ?UTC|Z)?$/.exec(typed);
  const at = parts ? Date.parse(`${parts[1]}T${parts[2] ?? "00:00"}Z`) : NaN;
  return Number.isNaN(at) ? null : at / 1000;
}

/** @param {string} text  words between commas or spaces */
export function splitWords(text) {
  return text.split(/[\s,]+/).filter(Boolean);
}

/**
 * The filters that the URL has, as the API takes them.
 * @param {URLSearchParams} query
 * @returns {{ endpoint: string | null, state: string[], types: string[], job: string | null,
 *   created: Record<string, number>, wrong: string | null }}  `wrong`: what is no time
 */
export function readFilters(query) {
  /** @type {Record<string, number>} */
  const created = {};
  let wrong = null;
  for (const [name, bound] of [["since", "gte"], ["until", "lt"]]) {
    const text = query.get(name ?? "") ?? "";
    const at = text ? parseTime(text) : null;
    if (text && at === null) wrong = text;
    if (at !== null && bound) created[bound] = at;
  }
  return {
    endpoint: query.get("endpoint"), state: splitWords(query.getAll("state").join(",")),
    types: splitWords(query.getAll("type").join(",")), job: query.get("job"), created, wrong,
  };
}

/**
 * Filters of a retry in words: "failed, dropped · charge.* · to we_1".
 * @param {any} filters  as the API shows them
 */
export function describeFilters(filters) {
  const { state, types, endpoint, event, created, status, error } = filters;
  const day = (/** @type {number} */ at) => new Date(at * 1000).toISOString().slice(0, 16).replace("T", " ");
  return [
    state.join(", "), types.join(", "), event && `of ${event}`, endpoint && `to ${endpoint}`,
    created.gte !== undefined && `since ${day(created.gte)}`,
    created.lt !== undefined && `before ${day(created.lt)}`,
    status && `last status ${status}`, error && `last error ${error}`,
  ].filter(Boolean).join(" · ");
}
