// The statuses of a dispute as the board shows them.

/** @typedef {"ok" | "waiting" | "warning" | "danger" | "info" | "neutral"} Tone */

/**
 * `kind` says in a column of several statuses what sets this one apart.
 * @typedef {{ title: string, tone: Tone, kind?: string }} Status
 */

/** @type {Record<string, Status>} */
const STATUSES = {
  needs_response: { title: "Needs response", tone: "warning" },
  warning_needs_response: { title: "Inquiry, needs response", tone: "warning" },
  appeal_needs_response: { title: "Appeal, needs response", tone: "warning", kind: "appeal" },
  under_review: { title: "Under review", tone: "waiting" },
  warning_under_review: { title: "Inquiry, under review", tone: "waiting", kind: "inquiry" },
  appeal_under_review: { title: "Appeal, under review", tone: "waiting", kind: "appeal" },
  won: { title: "Won", tone: "ok" },
  lost: { title: "Lost", tone: "danger" },
  warning_closed: { title: "Inquiry closed", tone: "neutral", kind: "inquiry" },
  prevented: { title: "Prevented", tone: "info", kind: "prevented" },
};

/** In these a response is awaited, and the due date counts. */
export const AWAITING = ["needs_response", "warning_needs_response", "appeal_needs_response"];

/**
 * The columns of the board. Those that await a response are in the order of their due dates, the others begin
 * with the newest.
 * @type {{ name: string, title: string, statuses: string[], order: "due_by" | "created" }[]}
 */
export const COLUMNS = [
  {
    name: "response", title: "Needs response", order: "due_by",
    statuses: ["needs_response", "appeal_needs_response"],
  },
  { name: "inquiry", title: "Open inquiries", order: "due_by", statuses: ["warning_needs_response"] },
  {
    name: "review", title: "Under review", order: "created",
    statuses: ["under_review", "warning_under_review", "appeal_under_review"],
  },
  { name: "won", title: "Won", statuses: ["won"], order: "created" },
  { name: "lost", title: "Lost", statuses: ["lost"], order: "created" },
  { name: "closed", title: "Closed otherwise", statuses: ["warning_closed", "prevented"], order: "created" },
];

// As in ledger/domain/dispute_decisions.py.
export const REASONS = [
  "bank_cannot_process", "check_returned", "credit_not_processed", "customer_initiated",
  "debit_not_authorized", "duplicate", "fraudulent", "general", "incorrect_account_details",
  "insufficient_funds", "noncompliant", "product_not_received", "product_unacceptable",
  "subscription_canceled", "unrecognized",
];

/** @type {[value: string, text: string][]} */
export const STATUS_OPTIONS = [
  [AWAITING.join(","), "all that need a response"],
  .../** @type {[string, string][]} */ (Object.entries(STATUSES).map(([name, { title }]) => [name, title])),
];

/**
 * @param {string} status
 * @returns {Status}
 */
export function describeStatus(status) {
  return STATUSES[status] ?? { title: status.replaceAll("_", " "), tone: "neutral" };
}
