// The scopes of restricted keys: what each lets a key do, in groups, and sets of them for common uses.
// A test compares them with those of the service (ledger/accounts.py).

/** Scopes of the internal API, each with what it opens. @type {[scope: string, text: string][]} */
export const INTERNAL_SCOPES = [
  ["audit", "read the whole history: past objects, the log, money, proofs, who looked at what"],
  ["personal_data", "with audit: see personal data, too"],
  ["feed", "follow the recorded events of the account and those connected to it"],
  ["webhooks", "see deliveries, replay Events, change secrets of endpoints"],
  ["projections", "see projections, rebuild, switch and verify them"],
  ["keys", "create, roll and revoke keys and accounts: whoever has it can get every other scope"],
  ["catalog", "report customers and charges that were made elsewhere, and import"],
  ["network", "report disputes, and what the card network decided"],
  ["publish", "publish objects of other services"],
  ["legal_holds", "place and release legal holds: what is held cannot be erased"],
  ["clock", "move the test clock"],
];

/**
 * What Stripe's API is most used for here; a key may have other resources, too. @type {[resource: string,
 *   text: string][]}
 */
export const RESOURCES = [
  ["charge", "charges and refunds"],
  ["customer", "customers and their sources"],
  ["customer_session", "customer sessions"],
  ["dispute", "disputes and their evidence"],
  ["event", "Events"],
  ["file", "files and file links"],
  ["payment_intent", "payment intents"],
  ["payment_method", "payment methods"],
  ["redaction_job", "redaction jobs, which erase personal data for good"],
  ["balance", "the balance"],
  ["balance_transaction", "balance transactions"],
  ["webhook", "webhook endpoints and event destinations"],
  ["account", "the account and those connected to it"],
];

/** @type {[name: string, scopes: string[]][]} */
export const PRESETS = [
  ["Auditor", ["audit"]],
  ["Operator", ["audit", "feed", "webhooks", "projections"]],
  ["Reads Stripe's API", RESOURCES.map(([resource]) => `rak_${resource}_read`)],
  ["Reports facts", ["catalog", "network", "publish"]],
  ["None", []],
];

/** @type {Record<string, string>} */
const TEXTS = {
  ...Object.fromEntries(INTERNAL_SCOPES),
  alerts: "see and clear alerts of the whole service, and choose who is told of them; only the command line "
    + "gives it",
  ledger_feed: "follow the recorded events of all accounts; only the command line gives it",
};

/** @param {string} scope @returns {string} what it lets a key do */
export function describeScope(scope) {
  const [, resource = "", access] = /^rak_(.*)_(read|write)$/.exec(scope) ?? [];
  if (!access) return TEXTS[scope] ?? "";
  const text = RESOURCES.find(([name]) => name === resource)?.[1] ?? resource.replaceAll("_", " ");
  return `${access === "read" ? "read" : "read and change"} ${text}`;
}
