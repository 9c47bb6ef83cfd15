// The menu: where one can go, for whom, and in which mode. On a narrow page it opens from a bar at the top.

import { isHelpOpen } from "../lib/keyboard.js";
import { useResource } from "../lib/resource.js";
import { hrefOf, navigate } from "../lib/router.js";
import { hasAnyScope, hasScope, session } from "../lib/session.js";
import { signOut } from "../lib/sign-in.js";
import { theme } from "../lib/theme.js";
import { classes, html, useState } from "../lib/ui.js";
import { Select } from "../parts/forms.js";
import { Time } from "../parts/values.js";
import { AccountSwitch } from "./account-switch.js";

/** @typedef {import("../main.js").ViewRow} ViewRow */

const ALERTS_SECONDS = 5;

/** @param {{ views: ViewRow[], current: string, isOpen: boolean, onToggle: () => void }} props */
export function Menu({ views, current, isOpen, onToggle }) {
  const alerts = useActiveAlerts();
  const title = views.find((view) => view.name === current)?.title ?? "Console";
  return html`<header class="top">
      <button type="button" class="button-quiet menu-button" aria-expanded=${isOpen ? "true" : "false"}
        aria-controls="menu" onClick=${onToggle}>
        <span class="menu-lines" aria-hidden="true"></span><span class="visually-hidden">Menu</span></button>
      <span class="top-title">${title}</span>
      ${alerts !== 0 && html`<a class="count-badge" href=${hrefOf("alerts")}>${alerts}<span
        class="visually-hidden"> active alerts</span></a>`}
      <${Mode} />
    </header>
    <nav class="menu" id="menu" aria-label="Console">
      <div class="menu-head">
        <a class="brand" href=${hrefOf("find")}><span class="logo" aria-hidden="true"></span>Ledger</a>
          <${Mode} />
      </div>
      <${FindBox} />
      <${AccountSwitch} />
      <ul class="menu-list">
        ${views.filter((view) => !view.hidden).map((view) => html`<${Entry} key=${view.name} view=${view}
          isCurrent=${view.name === (current === "objects" ? "find" : current)}
          count=${view.name === "alerts" ? alerts : 0} />`)}
      </ul>
      <${Foot} />
    </nav>`;
}

/** Test or live: always to be seen, because it is the key's and cannot be changed here. */
function Mode() {
  const isLive = session.value?.livemode;
  return isLive ? html`<span class="mode mode-live">Live mode</span>`
    : html`<span class="mode mode-test">Test mode</span>`;
}

function FindBox() {
  const [text, setText] = useState("");
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (text.trim()) navigate("find", { query: { q: text.trim() } });
    setText("");
  };
  return html`<form class="find-box" role="search" onSubmit=${submit}>
    <input type="search" aria-label="Find an id, request, key or e-mail address"
      placeholder="Find an id, e-mail …" data-find value=${text}
      autocomplete="off" spellcheck=${false}
      onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)} />
    <kbd aria-hidden="true">/</kbd>
  </form>`;
}

/** @param {{ view: ViewRow, isCurrent: boolean, count: number | string }} props */
function Entry({ view, isCurrent, count }) {
  const isOpen = hasAnyScope(view.scopes);
  const missing = `needs the scope ${view.scopes.join(" or ").replaceAll("+", " and ")}`;
  return html`${view.group && html`<li class="menu-group" aria-hidden="true">${view.group}</li>`}
    <li><a href=${hrefOf(view.name)} class=${classes("menu-link", !isOpen && "menu-closed")}
      aria-current=${isCurrent ? "page" : undefined}
      aria-label=${isOpen ? undefined : `${view.title}, ${missing}`}
      title=${isOpen ? `g ${view.key}` : missing}>
      <span>${view.title}</span>
      ${!isOpen && html`<span class="menu-lock"
        aria-hidden="true"></span>`}
      ${count !== 0 && html`<span class="count-badge">${count}<span class="visually-hidden"> active</span>
        </span>`}
    </a></li>`;
}

/** How many alerts are active, as far as the key may know: a number, or "100+". */
function useActiveAlerts() {
  const asks = hasScope("alerts") && session.value?.account;
  const path = asks ? "/internal/v1/alerts" : null;
  const { data } = useResource(path, { state: "active", limit: 100 }, { every: ALERTS_SECONDS });
  const shown = data?.data?.length ?? 0;
  return data?.has_more ? `${shown}+` : shown;
}

function Foot() {
  const { key, expires_at: end, service } = session.value ?? {};
  return html`<div class="menu-foot">
    <${Select} label="Theme" value=${theme.value}
      options=${[["system", "As the system"], ["light", "Light"], ["dark", "Dark"]]}
      onChange=${(/** @type {any} */ value) => { theme.value = value; }} />
    <p class="session"><span class="session-key" title=${key?.name}>${key?.name || "Key"} <span
      class="id faint">${key?.masked}</span></span>
      <span class="faint">Session ends <${Time} at=${end} /></span></p>
    <p class="menu-buttons">
      <button type="button" class="button-small"
        onClick=${() => { isHelpOpen.value = true; }}>Keyboard <kbd>?</kbd></button>
      <button type="button" class="button-small" onClick=${signOut}>Sign out</button>
    </p>
    <p class="faint version">Ledger ${service?.version}${service?.test_clock && " · test clock"}</p>
  </div>`;
}
