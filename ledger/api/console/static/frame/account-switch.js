// For which account the page acts: the key's own, or one that is connected to it (`?account=`).

import { get } from "../lib/api.js";
import { route, switchAccount } from "../lib/router.js";
import { hasScope, session } from "../lib/session.js";
import { html, useEffect, useState } from "../lib/ui.js";
import { Dialog } from "../parts/dialog.js";
import { Field } from "../parts/forms.js";
import { Notice } from "../parts/notice.js";

const ACCOUNTS_MAX = 100;

/** The account, and the button that changes it. */
export function AccountSwitch() {
  const [isOpen, setOpen] = useState(false);
  const account = route.value.account;
  const own = session.value;
  return html`<div class="account">
    <button type="button" class="account-button" onClick=${() => setOpen(true)} aria-haspopup="dialog">
      <span class="account-name">${account ? "Connected account" : own?.account_name || "Account"}</span>
      <span class="id faint">${account ?? own?.account}</span>
    </button>
    ${isOpen && html`<${AccountDialog} current=${account} onClose=${() => setOpen(false)} />`}
  </div>`;
}

/** @param {{ current: string | null, onClose: () => void }} props */
function AccountDialog({ current, onClose }) {
  const [text, setText] = useState("");
  const { accounts, error } = useAccounts();
  const choose = (/** @type {string | null} */ account) => {
    onClose();
    if (account !== current) switchAccount(account);
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    const account = text.trim();
    if (account) choose(account === session.value?.account ? null : account);
  };
  const wanted = text.trim();
  const isId = wanted.startsWith("acct_");
  const matching = accounts.filter(({ id, name }) =>
    `${id} ${name}`.toLowerCase().includes(wanted.toLowerCase()));
  return html`<${Dialog} title="Act for an account" onClose=${onClose}>
    <form class="dialog-form" onSubmit=${submit}>
      <${Field} label="Connected account" value=${text} onInput=${setText} placeholder="acct_… or a name" mono
        hint="A key sees its own account and those connected to it." />
      <${Notice} error=${error} />
      <ul class="account-list">
        <li><button type="button" onClick=${() => choose(null)}
          aria-pressed=${current === null ? "true" : "false"}>
          <span>${session.value?.account_name || "Own account"} (the key's own)</span><span
            class="id faint">${session.value?.account}</span></button></li>
        ${matching.map(({ id, name }) => html`<li key=${id}><button type="button" onClick=${() => choose(id)}
          aria-pressed=${current === id ? "true" : "false"}>
          <span>${name || "Without a name"}</span><span class="id faint">${id}</span></button></li>`)}
      </ul>
      <footer class="dialog-foot"><button type="button" onClick=${onClose}>Leave it</button>
        <button type="submit" class="button-primary"
          disabled=${!isId}>Act for ${isId ? wanted : "it"}</button></footer>
    </form>
  </${Dialog}>`;
}

/**
 * The connected accounts, if the key may list them.
 * @returns {{ accounts: { id: string, name: string }[], error: any }}
 */
function useAccounts() {
  const [state, setState] = useState({ accounts: /** @type {any[]} */ ([]), error: null });
  useEffect(() => {
    if (!hasScope("keys")) return undefined;
    const abort = new AbortController();
    get("/internal/v1/accounts", { limit: ACCOUNTS_MAX }, { signal: abort.signal, account: null }).then(
      ({ data }) => {
        const connected = data.filter((/** @type {any} */ each) => each.id !== session.value?.account);
        setState({ accounts: connected, error: null });
      },
      (error) => abort.signal.aborted || setState({ accounts: [], error }),
    );
    return () => abort.abort();
  }, []);
  return state;
}
