// How an object is named, and its state shown.

import { formatName } from "../../lib/format.js";
import { html } from "../../lib/ui.js";
import { Badge } from "../../parts/values.js";

/** @type {Record<string, "ok" | "waiting" | "warning" | "danger" | "info" | "neutral">} */
const TONES = {
  needs_response: "warning", warning_needs_response: "warning", warning_under_review: "waiting",
  under_review: "waiting", warning_closed: "neutral", won: "ok", lost: "danger", prevented: "ok",
  succeeded: "ok", paid: "ok", active: "ok", enabled: "ok", available: "ok", complete: "ok",
  failed: "danger", uncollectible: "danger", past_due: "danger", unpaid: "danger",
  pending: "waiting", processing: "waiting", open: "waiting", draft: "neutral", requires_capture: "waiting",
  requires_payment_method: "warning", requires_confirmation: "waiting", requires_action: "warning",
  disabled: "warning", canceled: "neutral", expired: "neutral", revoked: "neutral", void: "neutral",
};

/** @param {{ type: string, id: string }} props */
export function Title({ type, id }) {
  return html`<span class="object-type">${type}</span> <span class="id object-id">${id}</span>`;
}

/** The status of an object; nothing for one that has none. @param {{ status: unknown }} props */
export function Status({ status }) {
  if (typeof status !== "string" || status === "") return null;
  return html`<${Badge} tone=${TONES[status] ?? "info"}>${formatName(status)}</${Badge}>`;
}
