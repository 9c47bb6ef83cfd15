// Small values inside text and tables: times, amounts, ids, states.

import {
  clock, formatCount, formatMoney, formatRelative, formatTime, isId, showsFullTimes,
} from "../lib/format.js";
import { hrefOf } from "../lib/router.js";
import { classes, html, useComputed, useEffect, useSignal, useState } from "../lib/ui.js";

/**
 * A moment: "5 min ago", with the full time in UTC on hover; the key `t` shows all in full.
 * @param {{ at: number | null | undefined, full?: boolean }} props  unix seconds
 */
export function Time({ at, full = false }) {
  const moment = useSignal(at);
  moment.value = at;
  const text = useComputed(() => {
    const seconds = moment.value;
    if (seconds === null || seconds === undefined) return "—";
    return full || showsFullTimes.value ? formatTime(seconds) : formatRelative(seconds, clock.value);
  });
  if (at === null || at === undefined) return html`<span class="faint">—</span>`;
  const whole = formatTime(at);
  return html`<time class="time" datetime=${whole.replace(" UTC", "Z").replace(" ", "T")}
    title=${whole}>${text}</time>`;
}

/**
 * An amount in minor units.
 * @param {{ amount: number | bigint | string | null | undefined, currency: string }} props
 */
export function Money({ amount, currency }) {
  if (amount === null || amount === undefined) return html`<span class="faint">—</span>`;
  return html`<span class="number">${formatMoney(amount, currency)}</span>`;
}

/**
 * A whole number, with separators.
 * @param {{ value: number | null | undefined }} props
 */
export function Count({ value }) {
  if (value === null || value === undefined) return html`<span class="faint">—</span>`;
  return html`<span class="number">${formatCount(value)}</span>`;
}

/**
 * Where an id leads: requests to what they changed, all else to the object.
 * @param {string} id
 */
export function placeOf(id) {
  return id.startsWith("req_") ? `find?q=${encodeURIComponent(id)}` : `objects/${encodeURIComponent(id)}`;
}

/**
 * An id of several parts, which a narrow column may show in several lines.
 * @param {string} id
 */
function breakAtColons(id) {
  return id.split(/(?<=[:/])/).map((part, place) => html`${place > 0 && html`<wbr />`}${part}`);
}

/**
 * An id that leads to its object; a text that is no id is shown as it is.
 * @param {{ id: string | null | undefined, to?: string, children?: any }} props  `to`: somewhere else
 */
export function IdLink({ id, to, children }) {
  if (!id) return html`<span class="faint">—</span>`;
  if (!to && !isId(id)) return html`<span class="id">${breakAtColons(id)}</span>`;
  return html`<a class="id" href=${hrefOf(to ?? placeOf(id))}>${children ?? breakAtColons(id)}</a>`;
}

/**
 * A state, by text and shape: ok ● · waiting ○ · warning ▲ · danger ■ · info ◆ · neutral (no shape).
 * @param {{ tone?: "ok" | "waiting" | "warning" | "danger" | "info" | "neutral", children?: any, title?:
 *   string }} props
 */
export function Badge({ tone = "neutral", children, title }) {
  return html`<span class=${`badge badge-${tone}`} title=${title}>${children}</span>`;
}

/**
 * A button that copies a text.
 * @param {{ text: string, label?: string }} props
 */
export function Copy({ text, label = "Copy" }) {
  const [said, setSaid] = useState("");
  useEffect(() => {
    if (!said) return undefined;
    const timer = setTimeout(() => setSaid(""), 2000);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("Copied");
    } catch {
      setSaid("The browser does not allow it");
    }
  };
  return html`<button type="button" class="button-small" onClick=${copy}>
    <span aria-live="polite">${said || label}</span>
  </button>`;
}

/**
 * Names with their values, in two columns.
 * @param {{ rows: ([name: string, value: any] | null | false | undefined)[], class?: string }} props
 */
export function Facts({ rows, class: name }) {
  return html`<dl class=${classes("facts", name)}>
    ${rows.map((row) => row && html`<div key=${row[0]}><dt>${row[0]}</dt><dd>${row[1] ?? html`<span
      class="faint">—</span>`}</dd></div>`)}
  </dl>`;
}
