// Closing an alert by hand.

import { post } from "../../lib/api.js";
import { html, useState } from "../../lib/ui.js";
import { ActionDialog } from "../../parts/dialog.js";
import { PATH } from "./words.js";

/** @typedef {import("./words.js").Alert} Alert */

/**
 * Asks why, and clears an alert. It is drawn beside the list: the alert's row goes when it is cleared.
 * @param {{ alert: Alert, onDone: () => void, onClose: () => void }} props
 */
export function ClearDialog({ alert, onDone, onClose }) {
  const run = async (/** @type {string} */ reason, /** @type {string} */ idempotencyKey) => {
    await post(`${PATH}/${alert.id}/clear`, { reason }, { idempotencyKey });
    return html`<p>Cleared, and receivers are told so. Your reason is on record.</p>`;
  };
  return html`<${ActionDialog} label="Clear" title="Clear this alert" confirm="Clear the alert"
    reason="required" run=${run} onDone=${onDone} onClose=${onClose}>
    <p><strong>${alert.summary}</strong></p>
    <p>Its condition stays as it is: clearing mends nothing. It is not raised again before the condition has
      ended once, or becomes more severe.</p>
  </${ActionDialog}>`;
}

/**
 * A button that clears an alert.
 * @param {{ alert: Alert, onDone: () => void }} props
 */
export function ClearAction({ alert, onDone }) {
  const [isOpen, setOpen] = useState(false);
  return html`<button type="button" onClick=${() => setOpen(true)}>Clear</button>
    ${isOpen && html`<${ClearDialog} alert=${alert} onDone=${onDone} onClose=${() => setOpen(false)} />`}`;
}
