// How far something has come.

import { formatCount } from "../lib/format.js";
import { html, useId } from "../lib/ui.js";

/**
 * A bar with its numbers. Without `total` it says only that work goes on.
 * @param {{ label: any, value?: number, total?: number | null, noun?: string, detail?: any }} props
 *   `detail`: rate, estimate
 */
export function Progress({ label, value = 0, total, noun = "", detail }) {
  const id = useId();
  const isKnown = typeof total === "number" && total > 0;
  const percent = isKnown ? Math.min(100, Math.floor((100 * value) / total)) : null;
  return html`<div class="progress">
    <div class="progress-text"><span id=${id}>${label}</span>
      <span class="number">${formatCount(value)}${isKnown && ` of ${formatCount(total)}`} ${noun}${
        percent !== null && ` · ${percent} %`}</span></div>
    <progress aria-labelledby=${id} value=${isKnown ? value : undefined} max=${isKnown ? total : undefined}>
      </progress>
    ${detail && html`<p class="hint">${detail}</p>`}
  </div>`;
}
