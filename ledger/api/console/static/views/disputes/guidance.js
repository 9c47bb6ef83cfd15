// Which evidence counts for a reason, by what was sold.
//
// Source: the evidence that Stripe lists for each category and kind of product,
// https://docs.stripe.com/disputes/categories (read 2026-11). For all other reasons it lists none: there a
// bank looks at whatever explains the payment, in `uncategorized_text` and `uncategorized_file`.

/** @typedef {"goods" | "digital" | "service"} Sold */

/** @type {[value: Sold, text: string][]} */
export const SOLD = [
  ["goods", "physical goods"], ["digital", "digital goods or service"], ["service", "offline service"],
];

/** A page of the source, for people. */
export const SOURCE = "https://docs.stripe.com/disputes/categories";

const REFUND = ["refund_policy", "refund_policy_disclosure", "refund_refusal_explanation"];
const CANCELLATION = ["cancellation_policy", "cancellation_policy_disclosure", "cancellation_rebuttal"];
const SHIPPING = [
  "shipping_documentation", "shipping_address", "shipping_date", "shipping_carrier",
  "shipping_tracking_number",
];
const SERVICE = ["service_documentation", "service_date"];
const USER = ["customer_name", "customer_email_address", "customer_purchase_ip", "access_activity_log"];
const DUPLICATE = ["duplicate_charge_id", "duplicate_charge_explanation", "duplicate_charge_documentation"];
const TALK = "customer_communication";
const DELIVERED = {
  goods: [TALK, "customer_signature", ...SHIPPING],
  digital: USER,
  service: [TALK, "customer_signature", ...SERVICE],
};

/** @type {Record<string, Record<Sold, string[]>>} */
const FIELDS = {
  credit_not_processed: {
    goods: [...REFUND, TALK],
    digital: [...REFUND, ...CANCELLATION, TALK],
    service: [...REFUND, ...CANCELLATION, TALK],
  },
  duplicate: {
    goods: [...DUPLICATE, "shipping_documentation", TALK],
    digital: [...DUPLICATE, TALK],
    service: [...DUPLICATE, "service_documentation", TALK],
  },
  fraudulent: DELIVERED,
  product_not_received: { ...DELIVERED, digital: [...USER, TALK] },
  product_unacceptable: {
    goods: ["product_description", TALK, "refund_policy", "refund_policy_disclosure"],
    digital: [
      "product_description", TALK, "access_activity_log", "refund_policy", "refund_policy_disclosure",
    ],
    service: ["product_description", TALK, "refund_policy", "refund_policy_disclosure"],
  },
  subscription_canceled: {
    goods: [...CANCELLATION, TALK],
    digital: [...CANCELLATION, TALK],
    service: [...CANCELLATION, ...SERVICE, TALK],
  },
  unrecognized: DELIVERED,
};

/**
 * The fields that count, the most telling ones first; none are known for some reasons.
 * @param {string} reason
 * @param {Sold} sold
 * @returns {string[]}
 */
export function listFields(reason, sold) {
  return FIELDS[reason]?.[sold] ?? [];
}

/**
 * What was sold, as far as the evidence tells.
 * @param {Record<string, any>} evidence
 * @returns {Sold}
 */
export function guessSold(evidence) {
  if (SERVICE.some((name) => evidence[name])) return "service";
  if (evidence.access_activity_log && !SHIPPING.some((name) => evidence[name])) return "digital";
  return "goods";
}

/**
 * What a program of enhanced evidence still needs: its `required_actions` in words.
 * @type {Record<string, string>}
 */
export const REQUIRED_ACTIONS = {
  missing_customer_identifiers:
    "Two identifiers of the customer in each transaction, one of them a device or an IP address",
  missing_disputed_transaction_description: "What was sold by the disputed transaction",
  missing_merchandise_or_services: "Whether the disputed transaction sold merchandise or services",
  missing_prior_undisputed_transaction_description: "What was sold by the earlier transactions",
  missing_prior_undisputed_transactions: "Two earlier transactions that were not disputed",
};

/** @type {Record<string, string>} */
export const PROGRAMS = {
  mastercard_compliance: "Mastercard compliance",
  visa_compelling_evidence_3: "Visa Compelling Evidence 3.0",
  visa_compliance: "Visa compliance",
};
