// How an object is named, and its state shown.

import { html } from "../../lib/ui.js";

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

/** @param {string} status */
export function toneOfStatus(status) {
  return TONES[status] ?? "info";
}
