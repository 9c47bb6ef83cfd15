// The keys of the log, current and retired, as whoever verifies elsewhere writes them down.

import { useResource } from "../../lib/resource.js";
import { html } from "../../lib/ui.js";
import { Empty, Notice } from "../../parts/notice.js";
import { Table } from "../../parts/table.js";
import { Badge, Copy, Time } from "../../parts/values.js";

/** The tab. */
export function Keys() {
  const list = useResource("/internal/v1/audit/keys");
  const columns = [
    { title: "Verifier key", cell: (/** @type {any} */ row) =>
      html`<span class="id verifier-key">${row.key}</span>` },
    { title: "Algorithm", cell: (/** @type {any} */ row) => html`${row.algorithm}
      ${row.algorithm !== "ed25519" && html`<span class="hint"> not checked by browsers</span>`}` },
    { title: "State", cell: (/** @type {any} */ row) =>
      (row.current ? html`<${Badge} tone="ok">signs now</${Badge}>`
      : html`<${Badge}>retired</${Badge}> <${Time} at=${row.retired} /> <span
        class="hint">${row.reason}</span>`) },
    { title: "Made", cell: (/** @type {any} */ row) => html`<${Time} at=${row.created} />` },
    { title: "", name: "Copy", cell: (/** @type {any} */ row) => html`<${Copy} text=${row.key} />` },
  ];
  return html`<${Notice} error=${list.error} retry=${list.reload} />
    <${Table} label="Keys of the log" columns=${columns} rows=${list.data?.data ?? []}
      rowKey=${(/** @type {any} */ row) => row.id}
      isLoading=${list.isLoading} keys=${false}
      empty=${list.data && html`<${Empty} title="The log has no key yet.">It is made with the first
        checkpoint.</${Empty}>`} />
    <p class="hint">A policy for <code>ledger verify</code> names such a key: <code>log KEY</code>. Compare it
      with what you wrote down elsewhere: a key that only this page shows proves nothing against whoever runs
      the service.</p>`;
}
