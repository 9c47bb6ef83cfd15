// What to say when something failed, is missing, or is not there yet.

import { hrefOf } from "../lib/router.js";
import { hasScope, session } from "../lib/session.js";
import { html, useEffect, useRef } from "../lib/ui.js";

/**
 * The head of a view: its one <h1>, a line on what it is, and its buttons. It also names the page.
 * @param {{ title: any, name?: string, lead?: any, children?: any }} props  `name`: for the page's title, if
 *   `title` is no text; children: buttons and badges at the right
 */
export function Page({ title, name, lead, children }) {
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  const text = name ?? String(title);
  useEffect(() => { document.title = `${text} · Ledger console`; }, [text]);
  return html`<header class="page-head">
    <div class="page-title"><h1 ref=${heading} tabindex="-1">${title}</h1>${lead && html`<p
      class="lead">${lead}</p>`}</div>
    ${children && html`<div class="page-actions">${children}</div>`}
  </header>`;
}

/**
 * Something to know. tone: "danger" (an error), "warning", "info", "ok".
 * @param {{ tone?: "danger" | "warning" | "info" | "ok", title?: any, children?: any }} props
 */
export function Note({ tone = "info", title, children }) {
  return html`<div class=${`note note-${tone}`} role=${tone === "danger" ? "alert" : "status"}>
    ${title && html`<p class="note-title">${title}</p>`}
    ${children && html`<div class="note-text">${children}</div>`}
  </div>`;
}

/** What to do, by the status or code of an error. @param {any} error */
function adviseOn(error) {
  if (error.code === "no_answer") return null;
  if (error.status === 403 && error.code === "more_permissions_required") {
    return "Sign in with a key that has this scope: Keys and accounts, or `ledger keys create`, makes one.";
  }
  if (error.status === 403 && session.value) {
    return "Choose another account, or sign in with a key that may see this one.";
  }
  if (error.status === 404) {
    return "Look for a slip in it. What belongs to another account or mode than this session's key is not "
      + "found either.";
  }
  if (error.status === 429) return "Wait a moment: the key has a limit of requests per second.";
  if (error.status >= 500) return "Look in the service's log for this request.";
  return null;
}

/**
 * An error: what happened, what to do, and the request id to look for in the log.
 * @param {{ error: any, retry?: () => void, title?: string }} props
 */
export function Notice({ error, retry, title }) {
  if (!error) return null;
  const advice = adviseOn(error);
  return html`<div class="note note-danger" role="alert">
    <p class="note-title">${title ?? error.message}</p>
    <div class="note-text">
      ${title && html`<p>${error.message}</p>`}
      ${error.param && html`<p>Parameter: <code>${error.param}</code></p>`}
      ${advice && html`<p>${advice}</p>`}
      ${error.requestId && html`<p class="faint">Request <code>${error.requestId}</code></p>`}
      ${retry && html`<p><button type="button" onClick=${retry}>Try again</button></p>`}
    </div>
  </div>`;
}

/**
 * Nothing to show: why, and what would show something.
 * @param {{ title: any, children?: any }} props
 */
export function Empty({ title, children }) {
  return html`<div class="empty"><p
    class="empty-title">${title}</p>${children && html`<p>${children}</p>`}</div>`;
}

/** Placeholder lines while an answer is awaited. @param {{ lines?: number }} props */
export function Loading({ lines = 4 }) {
  return html`<div class="loading" role="status"><span class="visually-hidden">Loading</span>
    ${Array.from({ length: lines }, (_, number) => html`<span class="loading-line" key=${number}
      aria-hidden="true"></span>`)}
  </div>`;
}

/**
 * The children if the key has the scope ("a+b": both), else which scope is missing and how to get it. `what`:
 * what would be here.
 * @param {{ scope: string, what: string, children?: any }} props
 */
export function NeedsScope({ scope, what, children }) {
  if (hasScope(scope)) return children;
  return html`<${MissingScope} scopes=${[scope]} what=${what} />`;
}

/**
 * @param {string} scope
 * @param {number} place  in the list
 */
function showScope(scope, place) {
  const names = scope.split("+").map((each, number) => html`${number > 0 && " and "}<code>${each}</code>`);
  return html`${place > 0 && " or "}${names}`;
}

// What no key can give to another.
const SHELL_SCOPES = new Set(["alerts", "ledger_feed"]);

/**
 * Which scope the session's key lacks, and how to get it.
 * @param {{ scopes: string[], what: string }} props  any of `scopes` would do
 */
export function MissingScope({ scopes, what }) {
  const names = scopes.flatMap((scope) => scope.split("+"));
  const { key, account = "acct_…" } = session.value ?? {};
  const command = `ledger keys create ${account} --kind rk --scope ${names.join(" --scope ")} --name console`;
  return html`<div class="note note-info" role="status">
    <p class="note-title">${what} needs a key with the scope ${scopes.map(showScope)}.</p>
    <div class="note-text">
      <p>This session's key ${key && html`(<span
        class="id">${key.masked}</span>) `}has not got it. ${names.some((name) => SHELL_SCOPES.has(name))
        ? "It is for all accounts, so it is given only"
        : html`Somebody with the scope <code>keys</code> can make one in <a
          href=${hrefOf("keys")}>Keys and accounts</a>;`} in a shell of the service:</p>
      <pre class="command">${command}</pre>
    </div>
  </div>`;
}
