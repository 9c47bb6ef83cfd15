// The keys of the account: who holds which, what each may do, when it was used last.

import { get } from "../../lib/api.js";
import { formatNumberOf, readClock } from "../../lib/format.js";
import { useList } from "../../lib/resource.js";
import { hrefOf } from "../../lib/router.js";
import { session } from "../../lib/session.js";
import { html, useEffect, useRef, useState } from "../../lib/ui.js";
import { Filters } from "../../parts/forms.js";
import { Empty, Loading, Note, Notice } from "../../parts/notice.js";
import { Pages, Table } from "../../parts/table.js";
import { Badge, Facts, Time } from "../../parts/values.js";
import { isOwn } from "./actions.js";
import { describeScope } from "./scopes.js";

const SOON_SECONDS = 7 * 86_400;
const PAGE = 100;
/** @type {Record<string, string>} */
const KIND_NAMES = { rk: "restricted", sk: "secret", pk: "publishable" };

/**
 * @param {{ query: URLSearchParams, turn: number, onAct: (act: "roll" | "revoke", key: any) => void }} props
 *    `turn`:
 *   asks again when it changes
 */
export function Keys({ query, turn, onAct }) {
  const chosen = query.get("key");
  const mode = query.get("mode");
  const list = useList("/internal/v1/keys", { mode }, { query });
  useEffect(() => { if (turn) list.reload(); }, [turn]);
  const keep = new URLSearchParams([...query].filter(([name]) => name !== "key"));
  /** @type {import("../../parts/table.js").Column[]} */
  const columns = [
    { title: "Name", cell: (row) => row.name || row.id },
    { title: "Key", class: "short", cell: (row) => html`<span class="id">${row.masked}</span>` },
    { title: "Kind", class: "short", cell: (row) => KIND_NAMES[row.kind] ?? row.kind },
    { title: "Mode", cell: (row) => html`<${Badge}
      tone=${row.livemode ? "ok" : "neutral"}>${row.mode}</${Badge}>` },
    { title: "Scopes", cell: (row) => sayScopes(row) },
    { title: "State", cell: (row) => html`<${KeyState} of=${row} />` },
    { title: "Last used", cell: (row) => (row.last_used_at === null ? html`<span class="faint">never</span>`
      : html`<${Time} at=${Math.floor(row.last_used_at)} />`) },
    { title: "Ends", cell: (row) => (row.expires_at === null ? html`<span class="faint">never</span>`
      : html`<${Time} at=${Math.floor(row.expires_at)} />`) },
  ];
  return html`${session.value?.livemode && html`<${Filters} query=${query} filters=${[
      { name: "mode", label: "Mode", type: "select", options: ["test", "live"] }]} />`}
    ${chosen && html`<${KeyPanel} id=${chosen} mode=${mode} turn=${turn} close=${`keys?${keep}`}
      onAct=${onAct} />`}
    <${Notice} error=${list.error} retry=${list.reload} />
    <${Table} label="Keys" columns=${columns} rows=${list.rows} rowKey=${(/** @type {any} */ row) => row.id}
      selected=${chosen}
      to=${(/** @type {any} */ row) => `keys?${new URLSearchParams([...keep, ["key", row.id]])}`}
        isLoading=${list.isLoading}
      empty=${list.data && html`<${Empty} title="No keys.">Create one; or choose another account or
        mode.</${Empty}>`} />
    <${Pages} list=${list} />`;
}

/** @param {any} key */
function sayScopes(key) {
  if (key.kind === "sk") return "all of Stripe's API";
  if (key.kind === "pk") return "client secrets only";
  if (key.scopes.length <= 3) return html`<code>${key.scopes.join(", ") || "none"}</code>`;
  const others = formatNumberOf(key.scopes.length - 2, "other");
  return html`<span><code>${key.scopes.slice(0, 2).join(", ")}</code> and ${others}</span>`;
}

/** @param {{ of: any }} props */
function KeyState({ of }) {
  const left = of.expires_at === null ? Infinity : of.expires_at - readClock();
  /** @type {["neutral" | "warning" | "ok", string]} */
  const [tone, text] = of.state !== "active" ? ["neutral", "ended"]
    : left < SOON_SECONDS ? ["warning", "ends soon"] : ["ok", "active"];
  return html`<span class="states"><${Badge} tone=${tone}>${text}</${Badge}>
    ${isOwn(of) && html`<${Badge} tone="info">this session</${Badge}>`}</span>`;
}

/** @param {string[]} scopes */
function listScopes(scopes) {
  return html`<ul class="scope-list">${scopes.map((scope) => html`<li key=${scope}><code>${scope}</code>
    ${" "}<span class="hint">${describeScope(scope)}</span></li>`)}</ul>`;
}

/**
 * @param {{ id: string, mode: string | null, turn: number, close: string,
 *   onAct: (act: "roll" | "revoke", key: any) => void }} props
 */
function KeyPanel({ id, mode, turn, close, onAct }) {
  const { found, error } = useKey(id, mode, turn);
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  // On a narrow page it is above what one sees of the list.
  useEffect(() => place.current?.scrollIntoView({ block: "nearest" }), [id, Boolean(found)]);
  const head = html`<h2 id="one-key">${found ? found.name || found.id : "Key"}</h2>`;
  return html`<section class="panel" aria-labelledby="one-key" ref=${place}>
    <header>${head}<span class="row">${found?.state === "active" && html`
      <button type="button" class="button-small" onClick=${() => onAct("roll", found)}>Roll</button>
      <button type="button" class="button-small button-danger"
        onClick=${() => onAct("revoke", found)}>Revoke</button>`}
      <a href=${hrefOf(close)}>Close</a></span></header>
    <div class="panel-body stack">
      <${Notice} error=${error} />
      ${found === undefined && !error && html`<${Loading} />`}
      ${found === null && html`<${Note} tone="warning" title=${`This account has no key ${id}.`}>
        <p>It may belong to another account or mode.</p></${Note}>`}
      ${found && html`<${Facts} rows=${[
        ["Id", html`<span class="id">${found.id}</span>`],
        ["Key", html`<span class="id">${found.masked}</span>, ${KIND_NAMES[found.kind]}, ${found.mode} mode`],
        ["Account", html`<span class="id">${found.account}</span>`],
        ["State", html`<${KeyState} of=${found} />`],
        ["Created", html`<${Time} at=${Math.floor(found.created_at)} full />`],
        ["Last used", found.last_used_at === null ? "never"
          : html`<${Time} at=${Math.floor(found.last_used_at)} />`],
        ["Ends", found.expires_at === null ? "never"
          : html`<${Time} at=${Math.floor(found.expires_at)} full />`],
        ["May", found.kind === "rk" ? listScopes(found.scopes) : sayScopes(found)],
      ]} />`}
    </div></section>`;
}

/**
 * One key of the account. The API lists them, so its pages are read until it is there.
 * @param {string} id @param {string | null} mode @param {number} turn
 * @returns {{ found: any, error: any }}  `found`: undefined while it is looked for, null if there is none
 */
function useKey(id, mode, turn) {
  const [state, setState] = useState(/** @type {{ found: any, error: any }} */
    ({ found: undefined, error: null }));
  useEffect(() => {
    const abort = new AbortController();
    findKey(id, mode, abort.signal).then(
      (found) => setState({ found, error: null }), (error) => abort.signal.aborted
        || setState({ found: undefined, error }));
    return () => abort.abort();
  }, [id, mode, turn]);
  return state;
}

/** @param {string} id @param {string | null} mode @param {AbortSignal} signal */
async function findKey(id, mode, signal) {
  let after = null;
  for (;;) {
    const page = /** @type {any} */ (await get("/internal/v1/keys",
      { mode, limit: PAGE, starting_after: after }, { signal }));
    const found = page.data.find((/** @type {any} */ each) => each.id === id);
    if (found || !page.has_more) return found ?? null;
    after = page.data.at(-1).id;
  }
}
