// Keys and accounts: who may do what, and what is done about it.

import { html, useState } from "../lib/ui.js";
import { Tabs } from "../parts/forms.js";
import { Page } from "../parts/notice.js";
import { Accounts, CreateAccount } from "./keys/accounts.js";
import { CreateKey, RevokeKey, RollKey } from "./keys/actions.js";
import { Keys } from "./keys/keys.js";

/** @type {[id: string, title: string][]} */
const TABS = [["keys", "Keys"], ["accounts", "Accounts"]];

/**
 * @typedef {{ act: "create" | "account" | "roll" | "revoke", key?: any }} Asked  an action whose dialog is
 *   open
 */

/** @param {{ path: string[], query: URLSearchParams }} props */
export function View({ query }) {
  const tab = query.get("tab") ?? "keys";
  const [asked, setAsked] = useState(/** @type {Asked | null} */ (null));
  const [turn, setTurn] = useState(0);
  const close = () => {
    setAsked(null);
    setTurn((count) => count + 1);
  };
  const label = tab === "accounts" ? "Create an account" : "Create a key";
  return html`<${Page} title="Keys and accounts"
      lead="A key acts for its account, in its mode, as far as its scopes reach. Its secret is shown once.">
      <button type="button" onClick=${() => setAsked({ act: tab === "accounts" ? "account"
        : "create" })}>${label}</button>
    </${Page}>
    <${Tabs} tabs=${TABS} query=${query} label="Keys and accounts" />
    ${tab === "accounts" ? html`<${Accounts} query=${query} turn=${turn} />`
      : html`<${Keys} query=${query} turn=${turn}
          onAct=${(/** @type {"roll" | "revoke"} */ act, /** @type {any} */ key) => setAsked({ act, key })}
            />`}
    ${asked?.act === "create" && html`<${CreateKey} onClose=${close} />`}
    ${asked?.act === "account" && html`<${CreateAccount} onClose=${close} />`}
    ${asked?.act === "roll" && html`<${RollKey} of=${asked.key} onClose=${close} />`}
    ${asked?.act === "revoke" && html`<${RevokeKey} of=${asked.key} onClose=${close} />`}`;
}
