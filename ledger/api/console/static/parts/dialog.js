// Dialogs, and actions: said before they are done, kept on record with a reason, done once.

import { ApiError, newIdempotencyKey } from "../lib/api.js";
import { html, useEffect, useId, useRef, useState } from "../lib/ui.js";
import { Field } from "./forms.js";
import { Notice } from "./notice.js";

/**
 * A dialog over the page. Escape and the button close it.
 * @param {{ title: any, onClose: () => void, children?: any, footer?: any, wide?: boolean }} props
 */
export function Dialog({ title, onClose, children, footer, wide }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const id = useId();
  useEffect(() => {
    const opener = document.activeElement;
    element.current?.showModal();
    return () => {
      if (opener instanceof HTMLElement) opener.focus();
    };
  }, []);
  return html`<dialog ref=${element} class=${wide ? "dialog dialog-wide" : "dialog"} aria-labelledby=${id}
    onCancel=${(/** @type {Event} */ event) => { event.preventDefault(); onClose(); }}>
    <header class="dialog-head"><h2 id=${id} tabindex="-1" autofocus>${title}</h2>
      <button type="button" class="button-quiet" aria-label="Close" onClick=${onClose}>✕</button></header>
    <div class="dialog-body">${children}</div>
    ${footer && html`<footer class="dialog-foot">${footer}</footer>`}
  </dialog>`;
}

/**
 * A button for an action. It asks first: `children` say what will happen, with numbers; a reason is kept on
 * record. `run` gets the reason and an Idempotency-Key, the same for every try of one dialog; what it returns
 * is shown as the result, and nothing closes the dialog at once.
 * @param {{ label: any, title?: any, confirm?: any, danger?: boolean, reason?: "required" | "optional" |
 *   "none", run: (reason: string, idempotencyKey: string) => Promise<any>, onDone?: () => void, disabled?:
 *   boolean, disabledReason?: string, small?: boolean, children?: any }} props
 */
export function Action({ label, small, disabled, disabledReason, danger, ...rest }) {
  const [isOpen, setOpen] = useState(false);
  const name = [small && "button-small", danger && "button-danger"].filter(Boolean).join(" ");
  return html`<button type="button" class=${name || undefined} disabled=${disabled}
    title=${disabled ? disabledReason : undefined}
      onClick=${() => setOpen(true)}>${label}</button>
    ${isOpen && html`<${ActionDialog} label=${label} danger=${danger} ...${rest}
      onClose=${() => setOpen(false)} />`}`;
}

// The error of a secret that is made once only: an earlier try has made it.
const DONE_BEFORE = "secret_shown_once";

/** @typedef {{ is: "asked" | "busy" | "done", error?: any, result?: any }} ActionState */

/**
 * The dialog of an action, for views that open it themselves. Props as for `Action`, and `onClose`.
 * @param {{ label: any, title?: any, confirm?: any, danger?: boolean, reason?: "required" | "optional" |
 *   "none", run: (reason: string, idempotencyKey: string) => Promise<any>, onDone?: () => void, onClose: ()
 *   => void, disabled?: boolean, children?: any }} props  `disabled`: not yet, for example until a dry run
 *   has counted
 */
export function ActionDialog(props) {
  const { label, title, confirm, danger, reason = "optional", run, onDone, onClose } = props;
  const [text, setText] = useState("");
  const [state, setState] = useState(/** @type {ActionState} */ ({ is: "asked" }));
  const key = useRef(newIdempotencyKey());
  const isMissing = reason === "required" && !text.trim();
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (state.is !== "asked" || isMissing || props.disabled) return;
    setState({ is: "busy" });
    try {
      const result = await run(text.trim(), key.current);
      onDone?.();
      setState({ is: "done", result });
      if (result === undefined) onClose();
    } catch (error) {
      // The service keeps a refusal under the key; with other parameters it would be refused for that. What
      // was done by a try without an answer must not be done again.
      const isRefusal = error instanceof ApiError && error.status >= 400 && error.status < 500;
      if (isRefusal && error.code !== DONE_BEFORE) key.current = newIdempotencyKey();
      setState({ is: "asked", error });
    }
  };
  if (state.is === "done") {
    return html`<${Dialog} title=${title ?? label} onClose=${onClose}
      footer=${html`<button type="button" class="button-primary" onClick=${onClose}>Close</button>`}>
      <div role="status">${state.result}</div></${Dialog}>`;
  }
  return html`<${Dialog} title=${title ?? label} onClose=${onClose}>
    <form onSubmit=${submit} class="dialog-form">
      ${props.children}
      ${reason !== "none" && html`<${Field} label="Why" value=${text} onInput=${setText}
        hint="It is kept on record." autofocus
        required=${reason === "required"} maxlength="500" />`}
      <${Notice} error=${state.error} title=${state.error && (state.error.code === DONE_BEFORE
        ? "It was done, but the answer with the secret was lost" : "Nothing is confirmed yet")} />
      <footer class="dialog-foot">
        <button type="button" onClick=${onClose}>Leave it</button>
        <button type="submit" class=${danger ? "button-danger" : "button-primary"}
          disabled=${state.is === "busy" || isMissing || props.disabled}>
          ${state.is === "busy" ? "Working …" : confirm ?? label}</button>
      </footer>
    </form>
  </${Dialog}>`;
}
