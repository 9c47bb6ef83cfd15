// How alerts are said and shown: their severity and state, when, and where to look.

import { session } from "../../lib/session.js";
import { html } from "../../lib/ui.js";
import { Badge, Time } from "../../parts/values.js";

export const PATH = "/internal/v1/alerts";
export const SECONDS = 2;

/**
 * An alert of the API (internal API §8).
 * @typedef {{ id: string, kind: string, key: string, severity: string, state: string, summary: string,
 *   cause: string, remedy: { action: string, see: string }, details: Record<string, any>, raised_at: number,
 *   ended_at: number | null, condition_lasts: boolean, cleared_by: string | null, clear_reason: string | null
 *   }} Alert
 */

/** How bad it is, by text and shape. @param {{ severity: string }} props */
export function Severity({ severity }) {
  const tone = severity === "critical" ? "danger" : "warning";
  return html`<${Badge} tone=${tone}>${severity === "critical" ? "Critical" : "Warning"}</${Badge}>`;
}

/** Whether it is still so. @param {{ alert: Alert }} props */
export function State({ alert }) {
  if (alert.state === "active") return html`<${Badge} tone="danger">Active</${Badge}>`;
  if (alert.state === "resolved") return html`<${Badge} tone="ok">Resolved</${Badge}>`;
  const lasts = alert.condition_lasts;
  return html`<${Badge} tone=${lasts ? "waiting" : "neutral"}
    title=${lasts ? "Its condition is still there" : undefined}>${lasts ? "Cleared, lasts on"
    : "Cleared"}</${Badge}>`;
}

/**
 * When something happened to an alert: by the machine's own clock, which a test clock has left behind.
 * @param {{ at: number | null }} props
 */
export function Moment({ at }) {
  return html`<${Time} at=${at && Math.floor(at)} full=${session.value?.service.test_clock ?? false} />`;
}

/**
 * Where in the console to look.
 * @param {Alert} alert
 * @returns {{ to: string, query?: Record<string, any>, title: string } | null}
 */
export function findPlace({ kind, details }) {
  switch (kind) {
    case "worker_stalled":
      return { to: "projections", title: "Projections" };
    case "projection_stalled":
    case "projection_incomplete":
    case "projection_drift":
      return { to: `projections/${details.projection}`, title: `Projection ${details.projection}` };
    case "deadlines_overdue":
      return { to: "projections/deadlines", title: "Projection deadlines" };
    case "fan_out_stalled":
      return { to: "deliveries", title: "Deliveries" };
    case "endpoint_failing":
      return { to: "deliveries", query: { endpoint: details.endpoint }, title: "Its deliveries" };
    case "unsealed_events":
      return { to: "proof", title: "Proof" };
    case "disputes_due":
      return { to: "disputes", query: accountOf(details), title: "Disputes" };
    default:
      return null;
  }
}

/** @param {Record<string, any>} details */
function accountOf(details) {
  return details.account === session.value?.account ? {} : { account: details.account };
}
