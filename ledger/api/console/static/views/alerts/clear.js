// Closing an alert by hand.

import { post } from "../../lib/api.js";
import { html } from "../../lib/ui.js";
import { Action } from "../../parts/dialog.js";
import { PATH } from "./words.js";

/**
 * A button that clears an alert, with a reason.
 * @param {{ alert: import("./words.js").Alert, onDone: () => void, small?: boolean }} props
 */
export function ClearAction({ alert, onDone, small }) {
  const run = async (/** @type {string} */ reason, /** @type {string} */ idempotencyKey) => {
    await post(`${PATH}/${alert.id}/clear`, { reason }, { idempotencyKey });
    return html`<p>Cleared. It is not raised again before its condition has ended once, or becomes more
      severe.</p>`;
  };
  return html`<${Action} label="Clear" title="Clear this alert" confirm="Clear the alert" reason="required"
    small=${small} run=${run} onDone=${onDone}>
    <p><strong>${alert.summary}</strong></p>
    <p>Its condition stays as it is: clearing mends nothing. Receivers are told that it was cleared. It is
      not raised again before the condition has ended once, or becomes more severe.</p>
  </${Action}>`;
}
