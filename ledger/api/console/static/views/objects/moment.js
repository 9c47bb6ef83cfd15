// The moment that is shown: a slider over the versions, and a field for any time or position.

import { formatNumberOf, formatTime } from "../../lib/format.js";
import { useKeys } from "../../lib/keyboard.js";
import { setQuery } from "../../lib/router.js";
import { html, useEffect, useState } from "../../lib/ui.js";
import { Field } from "../../parts/forms.js";
import { Note, Notice } from "../../parts/notice.js";

/** @typedef {import("./history.js").Past} Past */

/** @param {{ past: Past, query: URLSearchParams }} props */
export function MomentBar({ past, query }) {
  const { version, last, select } = past;
  const step = (/** @type {number} */ by) => {
    if (last === 0) return false;
    select(version + by);
    return undefined;
  };
  useKeys([
    ["[", "one change back", () => step(-1)],
    ["]", "one change on", () => step(1)],
    ["{", "before its creation", () => step(-last)],
    ["}", "as it is now", () => step(last)],
  ]);
  return html`<section class="panel moment" aria-label="Moment">
    <div class="moment-slider">
      <button type="button" aria-label="One change back" title="One change back: [" disabled=${version === 0}
        onClick=${() => step(-1)}>‹</button>
      <${Slider} past=${past} />
      <button type="button" aria-label="One change on" title="One change on: ]" disabled=${version >= last}
        onClick=${() => step(1)}>›</button>
    </div>
    <p class="moment-text" aria-live="polite">${describe(past)}</p>
    <${MomentField} at=${query.get("at") ?? ""} />
    ${past.isBefore && html`<${Note} tone="warning" title="The object did not exist yet at this moment">
      <p><button type="button" onClick=${() => select(1)}>Show its creation</button></p></${Note}>`}
    <${Notice} error=${past.momentError} />
  </section>`;
}

/** @param {{ past: Past }} props */
function Slider({ past }) {
  const { version, last, select } = past;
  return html`<input type="range" class="moment-range" aria-label="Version of the object" min="0" max=${last}
    value=${version} disabled=${last === 0} aria-valuetext=${describe(past)}
    onInput=${(/** @type {any} */ event) => select(Number(event.currentTarget.value))} />`;
}

/**
 * Which version is shown, in words.
 * @param {Past} past
 */
function describe({ version, last, shown, change, isBefore, momentError }) {
  if (momentError) return `No version is shown, of ${last}`;
  if (version === 0 || isBefore) return `Before its creation, of ${formatNumberOf(last, "version")}`;
  const parts = [`Version ${version}${last ? ` of ${last}` : ""}`];
  if (change?.version === version) {
    parts.push(`${change.type} on ${formatTime(Math.floor(Date.parse(change.time) / 1000))}`);
  }
  const isShown = shown?.as_of.version === version && version < last;
  if (isShown) parts.push(`shown as of position ${shown.as_of.position}`);
  return parts.join(" · ");
}

/** @param {{ at: string }} props */
function MomentField({ at }) {
  const [text, setText] = useState(at);
  useEffect(() => setText(at), [at]);
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    const wanted = text.trim();
    setQuery({ at: /^[1-9]\d{0,8}$/.test(wanted) ? `position:${wanted}` : wanted });
  };
  return html`<form class="moment-field" onSubmit=${submit}>
    <${Field} label="Any moment" value=${text} onInput=${setText} mono=${true} maxlength="100"
      placeholder="2026-11-28 19:30 or position:88" />
    <button type="submit">Show</button>
    ${at && html`<button type="button" class="button-quiet"
      onClick=${() => setQuery({ at: null, after: null })}>Now</button>`}
  </form>`;
}
