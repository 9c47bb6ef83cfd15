// What was found by a text, and where it leads.

/**
 * By kind: its name, and what the text is.
 * @type {Record<string, [name: string, what: string]>}
 */
export const KINDS = {
  object: ["object", "Any object by its id, also a deleted one or one that another service has published"],
  event: ["Event", "An Event or thin event by its id, however old: leads to the object as of then"],
  position: ["position", "A recorded event by its position in the log, such as 31077"],
  request: ["request", "A request by its id: leads to what it changed"],
  idempotency_key: ["idempotency key", "The requests that were sent with this Idempotency-Key"],
  balance_transaction: ["balance transaction", "A balance transaction: leads to its charge or dispute"],
  payment_method: ["card", "A card by its id: leads to the customers, charges and intents that have it"],
  email: ["e-mail address", "Customers by the e-mail address that they have now"],
  key: ["API key", "An API key of the account, by its id"],
  account: ["account", "The account, or one connected to it"],
  delivery: ["delivery", "A webhook delivery by its id"],
  replay: ["job", "A retry of many deliveries, or a replay of Events to an endpoint, by its id"],
  alert: ["alert", "An alert of the service by its id, or a receiver of alerts"],
};

/**
 * Where the id of an alert or of a receiver leads. They belong to no account, so the search does not know
 * them. Null: it is neither.
 * @param {string} text
 */
export function placeOfAlert(text) {
  if (!/^al(rt|rc)_\w+$/.test(text)) return null;
  return text.startsWith("alrt_") ? `alerts/${text}` : "alerts?tab=receivers";
}

/**
 * Where a hit leads, as for hrefOf.
 * @param {any} hit
 */
export function placeOfHit(hit) {
  const id = encodeURIComponent(hit.id);
  if (hit.kind === "delivery" || hit.kind === "replay") return `deliveries/${id}`;
  if (hit.kind === "key") return `keys?key=${id}`;
  if (hit.kind === "account") return "keys?tab=accounts";
  const object = `objects/${encodeURIComponent(hit.object_id)}`;
  return hit.position && hit.kind !== "object" ? `${object}?at=position:${hit.position}` : object;
}
