// The list of the keys that work now.

import { isHelpOpen, listKeys } from "../lib/keyboard.js";
import { html, useMemo } from "../lib/ui.js";
import { Dialog } from "../parts/dialog.js";

/** The dialog that `?` opens. */
export function KeyHelp() {
  const groups = useMemo(listKeys, []).filter(([, bindings]) => bindings.length > 0);
  return html`<${Dialog} title="Keyboard" onClose=${() => { isHelpOpen.value = false; }} wide>
    <div class="key-help">
      ${groups.map(([group, bindings]) => html`<section key=${group}><h3>${group}</h3>
        <dl>${bindings.map(([keys, what]) => html`<div key=${keys}>
          <dt>${keys.split(" ").map((key) => html`<kbd key=${key}>${key}</kbd> `)}</dt><dd>${what}</dd>
          </div>`)}</dl>
      </section>`)}
    </div>
    <p class="hint">Tab goes from part to part, Enter opens. Keys do nothing while you type.</p>
  </${Dialog}>`;
}
