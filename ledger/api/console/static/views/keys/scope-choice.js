// The choice of scopes for a new restricted key.

import { html, useId } from "../../lib/ui.js";
import { Checkbox, Field } from "../../parts/forms.js";
import { INTERNAL_SCOPES, PRESETS, RESOURCES } from "./scopes.js";

/**
 * @param {{ scopes: string[], onChange: (scopes: string[]) => void, others: string,
 *   onOthers: (text: string) => void }} props  `others`: scopes that are typed
 */
export function ScopeChoice({ scopes, onChange, others, onOthers }) {
  const change = (/** @type {string} */ scope, /** @type {boolean} */ isHeld) =>
    onChange(isHeld ? [...scopes, scope] : scopes.filter((each) => each !== scope));
  return html`<div class="stack">
    <div class="row"><span class="soft">Take</span>${PRESETS.map(([name, preset]) =>
      html`<button type="button" class="button-small" key=${name}
        onClick=${() => onChange(preset)}>${name}</button>`)}</div>
    <fieldset class="scopes"><legend>Internal API</legend>
      ${INTERNAL_SCOPES.map(([scope, text]) => html`<${Checkbox} key=${scope} hint=${text}
        label=${html`<code>${scope}</code>`} checked=${scopes.includes(scope)}
        onChange=${(/** @type {boolean} */ isHeld) => change(scope, isHeld)} />`)}
    </fieldset>
    <fieldset class="scopes"><legend>Stripe's API</legend>
      ${RESOURCES.map(([resource, text]) => html`<${Access} key=${resource} resource=${resource} text=${text}
        scopes=${scopes} onChange=${onChange} />`)}
      <${Field} label="Other scopes" value=${others} onInput=${onOthers} mono
        placeholder="rak_invoice_read, …" />
    </fieldset>
  </div>`;
}

/**
 * @param {{ resource: string, text: string, scopes: string[], onChange: (scopes: string[]) => void }} props
 */
function Access({ resource, text, scopes, onChange }) {
  const id = useId();
  const [read, write] = [`rak_${resource}_read`, `rak_${resource}_write`];
  const held = scopes.includes(write) ? write : scopes.includes(read) ? read : "";
  const choose = (/** @type {string} */ scope) =>
    onChange([...scopes.filter((each) => each !== read && each !== write), ...(scope ? [scope] : [])]);
  return html`<div class="scope-access">
    <label for=${id}><code>${resource}</code> <span class="hint">${text}</span></label>
    <select id=${id} value=${held}
      onChange=${(/** @type {any} */ event) => choose(event.currentTarget.value)}>
      <option value="" selected=${held === ""}>no access</option>
      <option value=${read} selected=${held === read}>read</option>
      <option value=${write} selected=${held === write}>read and change</option>
    </select></div>`;
}
