// The key's own account and those connected to it.

import { post } from "../../lib/api.js";
import { useList } from "../../lib/resource.js";
import { route, switchAccount } from "../../lib/router.js";
import { session } from "../../lib/session.js";
import { html, useEffect, useState } from "../../lib/ui.js";
import { ActionDialog } from "../../parts/dialog.js";
import { Field } from "../../parts/forms.js";
import { Notice } from "../../parts/notice.js";
import { Pages, Table } from "../../parts/table.js";
import { Badge, Copy } from "../../parts/values.js";

/** @param {{ query: URLSearchParams, turn: number }} props */
export function Accounts({ query, turn }) {
  const list = useList("/internal/v1/accounts", {}, { query });
  useEffect(() => { if (turn) list.reload(); }, [turn]);
  const own = session.value?.account;
  const current = route.value.account ?? own;
  /** @type {import("../../parts/table.js").Column[]} */
  const columns = [
    { title: "Name", cell: (row) => row.name || "Without a name" },
    { title: "Id", cell: (row) => html`<span class="id">${row.id}</span>` },
    { title: "Which", cell: (row) => (row.id === own ? "the key's own" : "connected") },
    { title: "API version", cell: (row) => row.api_version ?? "—", narrow: "hide" },
    { title: "", name: "Act", cell: (row) => html`<span class="row">${row.id === current
      ? html`<${Badge} tone="info">acted for now</${Badge}>`
      : html`<button type="button" class="button-small"
        onClick=${() => switchAccount(row.id === own ? null : row.id)}>Act for it</button>`}
      <${Copy} text=${row.id} label="Copy the id" /></span>` },
  ];
  return html`<${Notice} error=${list.error} retry=${list.reload} />
    <${Table} label="Accounts" columns=${columns} rows=${list.rows}
      rowKey=${(/** @type {any} */ row) => row.id} isLoading=${list.isLoading} keys=${false} />
    <${Pages} list=${list} />
    <p class="hint">A key sees its own account and those connected to it. What is done for a connected account
      is sent with <code>Stripe-Account</code>, and recorded as done by this key.</p>`;
}

/** @param {{ onClose: () => void }} props */
export function CreateAccount({ onClose }) {
  const [name, setName] = useState("");
  const create = async (/** @type {string} */ _, /** @type {string} */ idempotencyKey) => {
    const made = await post("/internal/v1/accounts", { name: name.trim() }, { idempotencyKey });
    return html`<p>The account <b>${made.name}</b> is
      connected: <span class="id">${made.id}</span> <${Copy} text=${made.id} /></p>`;
  };
  return html`<${ActionDialog} label="Create an account" confirm="Create it" reason="none" run=${create}
    onClose=${onClose} disabled=${!name.trim()}>
    <p>It is connected to the account that this page acts for, which may then act on it.</p>
    <${Field} label="Name" value=${name} onInput=${setName} required maxlength="200" />
  </${ActionDialog}>`;
}
