// An object for a key without the scope `audit`: as the public API shows it now, and what is missing.

import { formatName } from "../../lib/format.js";
import { hasScope } from "../../lib/session.js";
import { useResource } from "../../lib/resource.js";
import { html } from "../../lib/ui.js";
import { Json } from "../../parts/json.js";
import { Empty, Loading, MissingScope, Notice, Page } from "../../parts/notice.js";
import { Badge, Copy } from "../../parts/values.js";
import { Status, Title } from "./status.js";

/**
 * By prefix of ids that this service makes: the path of the public API, and what the scope is named after.
 * @type {Record<string, [path: string, permission: string]>}
 */
const PLACES = {
  ch: ["/v1/charges", "charge"],
  cus: ["/v1/customers", "customer"],
  dp: ["/v1/disputes", "dispute"],
  du: ["/v1/disputes", "dispute"],
  evt: ["/v1/events", "event"],
  file: ["/v1/files", "file"],
  link: ["/v1/file_links", "file_link"],
  pi: ["/v1/payment_intents", "payment_intent"],
  pm: ["/v1/payment_methods", "payment_method"],
  card: ["/v1/payment_methods", "payment_method"],
  re: ["/v1/refunds", "refund"],
  txn: ["/v1/balance_transactions", "balance_transaction"],
  we: ["/v1/webhook_endpoints", "webhook_endpoint"],
};

/** @param {{ id: string }} props */
export function PublicObject({ id }) {
  const [path, permission] = PLACES[id.slice(0, id.indexOf("_"))] ?? [null, null];
  const scope = `rak_${permission}_read`;
  const isAllowed = permission !== null && hasScope(scope);
  const found = useResource(isAllowed ? `${path}/${encodeURIComponent(id)}` : null);
  const object = found.data;
  const type = formatName(object?.object ?? "object");
  return html`
    <${Page} name=${`${type} ${id}`} title=${html`<${Title} type=${type} id=${id} />`}>
      ${object?.deleted && html`<${Badge} tone="danger">deleted</${Badge}>`}
      <${Status} status=${object?.status} />
      <${Copy} text=${id} label="Copy id" />
    </${Page}>
    <${Notice} error=${found.error} retry=${found.reload} />
    ${isAllowed && html`<${MissingScope} scopes=${["audit"]}
      what="Its timeline, its state at any moment, related objects, money and proof" />`}
    ${permission === null ? html`<${Empty} title="This id has no prefix that says what it is">
        With the scope <code>audit</code>, any id is found.</${Empty}>`
      : !isAllowed ? html`
        <${MissingScope} scopes=${[scope, "audit"]} what=${`This ${formatName(permission)}`} />`
      : found.isLoading ? html`<${Loading} lines=${8} />`
      : object && html`<${Json} label="The object as it is now" value=${object} />`}`;
}
