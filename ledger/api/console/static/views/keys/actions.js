// What is done to keys: create, roll, revoke. A secret is in the dialog that asked for it, and nowhere else.
// So the view draws the dialog, and not the row, which changes under it.

import { post } from "../../lib/api.js";
import { formatRelative, formatTime, readClock } from "../../lib/format.js";
import { session } from "../../lib/session.js";
import { html, useState } from "../../lib/ui.js";
import { ActionDialog } from "../../parts/dialog.js";
import { Checkbox, Field, Select } from "../../parts/forms.js";
import { Note } from "../../parts/notice.js";
import { Copy } from "../../parts/values.js";
import { ScopeChoice } from "./scope-choice.js";

const DAY = 86_400;

/** @type {[value: string, text: string][]} */
const LIFETIMES = [["0", "never"], ["1", "in a day"], ["7", "in 7 days"], ["30", "in 30 days"],
  ["90", "in 90 days"], ["365", "in a year"]];
/** @type {[value: string, text: string][]} */
const OVERLAPS = [["0", "none: it ends at once"], ["3600", "an hour"], [String(DAY), "a day"],
  [String(7 * DAY), "7 days"], [String(30 * DAY), "30 days"]];
/** @type {[value: string, text: string][]} */
const KINDS = [["rk", "restricted: only its scopes"], ["sk", "secret: all of Stripe's API"],
  ["pk", "publishable: for a page in a browser"]];

/** A secret, this once. @param {{ made: any, children?: any }} props */
function Secret({ made, children }) {
  return html`<div class="stack">
    <p>The key <b>${made.name || made.id}</b> is shown this once: the service keeps only its hash. Copy it to
      where it is used.</p>
    <pre class="command secret" tabindex="0" aria-label="The new key">${made.key}</pre>
    <div><${Copy} text=${made.key} label="Copy the key" /></div>${children}
  </div>`;
}

/** @param {{ onClose: () => void }} props */
export function CreateKey({ onClose }) {
  const [name, setName] = useState("");
  const [kind, setKind] = useState("rk");
  const [mode, setMode] = useState("test");
  const [days, setDays] = useState("90");
  const [scopes, setScopes] = useState(/** @type {string[]} */ ([]));
  const [others, setOthers] = useState("");
  const [now] = useState(readClock); // every try of this dialog asks for the same
  const typed = others.split(/[\s,]+/).filter(Boolean);
  const all = [...new Set([...scopes, ...typed])];
  const isMissing = !name.trim() || (kind === "rk" && !all.length);
  const create = async (/** @type {string} */ _, /** @type {string} */ idempotencyKey) => {
    const body = {
      name: name.trim(), kind, mode, scopes: kind === "rk" ? all : [],
      ...(days === "0" ? {} : { expires_at: now + Number(days) * DAY }),
    };
    const made = await post("/internal/v1/keys", body, { idempotencyKey });
    return html`<${Secret} made=${made} />`;
  };
  return html`<${ActionDialog} label="Create a key" confirm="Create it" reason="none" run=${create}
    onClose=${onClose} disabled=${isMissing}>
    <${Field} label="Name" value=${name} onInput=${setName} required maxlength="200"
      hint="Who or what uses it: it stands in the audit record." />
    <${Select} label="Kind" value=${kind} onChange=${setKind} options=${KINDS} />
    ${session.value?.livemode && html`<${Select} label="Mode" value=${mode} onChange=${setMode}
      options=${[["test", "test"], ["live", "live"]]} />`}
    <${Select} label="Ends" value=${days} onChange=${setDays} options=${LIFETIMES} />
    ${kind === "rk" && html`<${ScopeChoice} scopes=${scopes} onChange=${setScopes} others=${others}
      onOthers=${setOthers} />`}
    ${isMissing && html`<p class="hint">${name.trim() ? "Choose a scope at least." : "Give it a name."}</p>`}
  </${ActionDialog}>`;
}

/** Whether it is the key of this session. @param {any} key */
export function isOwn(key) {
  return session.value?.key.id === key.id;
}

/** @param {{ of: any, onClose: () => void }} props  `of`: the key */
export function RollKey({ of, onClose }) {
  const [overlap, setOverlap] = useState(String(DAY));
  // Without an overlap this session would end before its new key is copied.
  const overlaps = isOwn(of) ? OVERLAPS.filter(([seconds]) => seconds !== "0") : OVERLAPS;
  const roll = async (/** @type {string} */ _, /** @type {string} */ idempotencyKey) => {
    const made = await post(`/internal/v1/keys/${encodeURIComponent(of.id)}/roll`,
      { overlap_seconds: Number(overlap) }, { idempotencyKey });
    const end = overlap === "0" ? "The old key has ended."
      : `The old key ends ${formatTime(readClock() + Number(overlap))}.`;
    return html`<${Secret} made=${made}><p>${end}</p></${Secret}>`;
  };
  return html`<${ActionDialog} label="Roll" title=${`Roll ${of.name || of.id}`} confirm="Make a new key"
    reason="none" run=${roll} onClose=${onClose}>
    <p>A new key with the same rights takes the place of <span class="id">${of.masked}</span>,
      which ${sayUsed(of)}.</p>
    <${Select} label="The old one works for" value=${overlap} onChange=${setOverlap} options=${overlaps} />
    ${isOwn(of) && html`<${Note} tone="warning" title="It is the key of this session.">
      <p>The session ends with the old key. Copy the new one, and sign in with it.</p></${Note}>`}
  </${ActionDialog}>`;
}

/** @param {{ of: any, onClose: () => void }} props */
export function RevokeKey({ of, onClose }) {
  const [isSure, setSure] = useState(false);
  const revoke = async (/** @type {string} */ _, /** @type {string} */ idempotencyKey) => {
    await post(`/internal/v1/keys/${encodeURIComponent(of.id)}/revoke`, {}, { idempotencyKey });
    return html`<p>The key ${of.name || of.id} is revoked: every process refuses it within a second.</p>`;
  };
  return html`<${ActionDialog} label="Revoke" title=${`Revoke ${of.name || of.id}`} confirm="Revoke it" danger
    reason="none" run=${revoke} onClose=${onClose} disabled=${isOwn(of) && !isSure}>
    <p>Whatever uses <span class="id">${of.masked}</span> is refused within a second, and nothing brings the
      key back. It ${sayUsed(of)}. To replace it without a gap, roll it.</p>
    ${isOwn(of) && html`<${Note} tone="danger" title="It is the key of this session.">
        <p>You are signed out at once, and need another key to come back.</p></${Note}>
      <${Checkbox} label="I have another key" checked=${isSure} onChange=${setSure} />`}
  </${ActionDialog}>`;
}

/** @param {any} key */
function sayUsed(key) {
  if (key.last_used_at === null) return "was never used";
  const at = Math.floor(key.last_used_at);
  return `was used ${formatRelative(at, readClock())} (${formatTime(at)})`;
}
