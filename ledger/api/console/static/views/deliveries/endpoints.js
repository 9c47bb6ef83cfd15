// The endpoints with their health, above the list: which accept, which fail, and until when they are paused.

import { formatCount } from "../../lib/format.js";
import { useResource } from "../../lib/resource.js";
import { setQuery } from "../../lib/router.js";
import { hasScope } from "../../lib/session.js";
import { html } from "../../lib/ui.js";
import { Empty, Notice } from "../../parts/notice.js";
import { Table } from "../../parts/table.js";
import { Badge, Time } from "../../parts/values.js";
import { describeWait, NextTry, Result } from "./words.js";

// What waits is counted so far in the list.
const COUNTED_MAX = 1000;
const ENDPOINTS_MAX = 100;

/**
 * All endpoints of the account, asked again every two seconds.
 * @param {boolean} [isWanted]  false: nothing is asked
 */
export function useEndpoints(isWanted = true) {
  const path = isWanted ? "/internal/v1/webhooks/endpoints" : null;
  return useResource(path, { limit: ENDPOINTS_MAX }, { every: 2 });
}

/**
 * The URLs of endpoints by their ids, for a key that may read them: the internal API shows none.
 * @returns {Record<string, string>}
 */
function useUrls() {
  const mayRead = hasScope("rak_webhook_read");
  const { data } = useResource(mayRead ? "/v1/webhook_endpoints" : null, { limit: ENDPOINTS_MAX });
  return Object.fromEntries((data?.data ?? []).map((/** @type {any} */ each) => [each.id, each.url]));
}

/** @param {{ endpoint: any }} props */
function Health({ endpoint }) {
  const { status, breaker, failing } = endpoint;
  if (status === "disabled") return html`<${Badge} tone="neutral">disabled</${Badge}>`;
  if (status === null) return html`<${Badge} tone="warning">unreadable</${Badge}>`;
  if (breaker.state === "open") return html`<${Badge} tone="danger">paused</${Badge}>`;
  if (breaker.state === "half_open") return html`<${Badge} tone="warning">tried now</${Badge}>`;
  if (failing) return html`<${Badge} tone="danger">fails</${Badge}>`;
  return html`<${Badge} tone="ok">accepts</${Badge}>`;
}

/** @param {{ endpoint: any }} props */
function Failure({ endpoint }) {
  const { failing, failing_since: since, failed_attempts: attempts, last_failure: last, breaker } = endpoint;
  if (!failing) return html`<span class="faint">—</span>`;
  return html`<div class="delivery-stack"><span><${Result} attempt=${last} />${" "}<span class="faint">${
    attempts === 1 ? "once" : `${formatCount(attempts)} times`} since <${Time} at=${since} /></span></span>
    ${breaker.state === "open" && html`<span class="faint">one is tried <${Time}
      at=${breaker.next_probe_at} /></span>`}</div>`;
}

/** @param {number} count */
function showCount(count) {
  return count >= COUNTED_MAX ? `${formatCount(COUNTED_MAX)}+` : formatCount(count);
}

/** @param {{ endpoints: import("../../lib/resource.js").Resource, chosen: string | null }} props */
export function Endpoints({ endpoints, chosen }) {
  const urls = useUrls();
  const choose = (/** @type {any} */ row) =>
    setQuery({ endpoint: row.id === chosen ? null : row.id, after: null });
  const columns = [
    { title: "Endpoint", cell: (/** @type {any} */ row) => html`<span class="id">${row.id}</span>` },
    {
      title: "URL", narrow: /** @type {const} */ ("hide"),
      cell: (/** @type {any} */ row) => html`<span class="delivery-url">${urls[row.id] ?? "—"}</span>`,
    },
    { title: "State", cell: (/** @type {any} */ row) => html`<${Health} endpoint=${row} />` },
    { title: "Failure", cell: (/** @type {any} */ row) => html`<${Failure} endpoint=${row} />` },
    {
      title: "Pending", align: /** @type {const} */ ("end"),
      cell: (/** @type {any} */ row) => html`<span class="number">${showCount(row.pending)}${row.due > 0
        && html`<span class="faint"> (${showCount(row.due)} due)</span>`}</span>`,
    },
    {
      title: "Given up", align: /** @type {const} */ ("end"),
      cell: (/** @type {any} */ row) => showCount(row.given_up),
    },
    { title: "Next try", cell: (/** @type {any} */ row) => html`<${NextTry} at=${row.next_attempt_at} />` },
  ];
  const shown = columns.filter(({ title }) => title !== "URL" || Object.keys(urls).length > 0);
  const off = endpoints.data?.data[0]?.waits_for.find((/** @type {string} */ code) =>
    code === "paused" || code === "copy");
  return html`<section class="panel">
    <header><h2>Endpoints</h2>${off ? html`<strong class="warning">▲ ${describeWait(off)}</strong>`
      : endpoints.data?.data.length > 0 && html`<span class="faint">${
        chosen ? "choose it again to see those of all" : "choose one to see its deliveries"}</span>`}</header>
    ${endpoints.error && html`<div class="panel-body"><${Notice} error=${endpoints.error}
      retry=${endpoints.reload} /></div>`}
    <${Table} label="Endpoints" columns=${shown} rows=${endpoints.data?.data ?? []} keys=${false}
      rowKey=${(/** @type {any} */ row) => row.id} onOpen=${choose} selected=${chosen}
      isLoading=${endpoints.isLoading && !endpoints.data}
      empty=${endpoints.data && html`<div class="panel-body"><${Empty} title="No endpoints yet">
        Make one with the API (<code>POST /v1/webhook_endpoints</code>); Events recorded from then on are sent
        to it.</${Empty}></div>`} />
  </section>`;
}
