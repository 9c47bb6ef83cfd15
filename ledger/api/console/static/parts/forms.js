// Fields, choices, filters, tabs.

import { setQuery } from "../lib/router.js";
import { classes, html, useEffect, useId, useRef, useState } from "../lib/ui.js";

/**
 * A labelled field. `onInput` and `onChange` get the text. `multiline` is a text area, `options` offers
 * suggestions.
 * @param {{ label: any, value?: string, onInput?: (text: string) => void, onChange?: (text: string) => void,
 *   type?: string, name?: string, placeholder?: string, hint?: any, error?: any, required?: boolean,
 *   multiline?: boolean, options?: string[], hideLabel?: boolean, mono?: boolean, inputRef?: any,
 *   autocomplete?: string, maxlength?: number, [attribute: string]: any }} props
 */
export function Field(props) {
  const { label, value, onInput, onChange, type = "text", hint, error, multiline, options, ...rest } = props;
  const { hideLabel, mono, inputRef, class: name, ...attributes } = rest;
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
  const shared = {
    id, value, ref: inputRef, "aria-describedby": described, "aria-invalid": error ? "true" : undefined,
    spellcheck: false, autocomplete: "off",
    onInput: (/** @type {any} */ event) => onInput?.(event.currentTarget.value),
    onChange: (/** @type {any} */ event) => onChange?.(event.currentTarget.value),
    class: classes(mono && "mono"), ...attributes,
  };
  return html`<div class=${classes("field", name)}>
    <label for=${id} class=${classes(hideLabel && "visually-hidden")}>${label}</label>
    ${multiline ? html`<textarea rows="3" ...${shared}></textarea>`
      : html`<input type=${type} list=${options && `${id}-options`} ...${shared} />`}
    ${options && html`<datalist id=${`${id}-options`}>${options.map((each) => html`<option key=${each}
      value=${each} />`)}</datalist>`}
    ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
    ${error && html`<p class="field-error" id=${`${id}-error`}>${error}</p>`}
  </div>`;
}

/**
 * A choice of a few. Options are texts, or [value, text].
 * @param {{ label: any, value: string, options: (string | [value: string, text: string])[],
 *   onChange: (value: string) => void, hideLabel?: boolean, [attribute: string]: any }} props
 */
export function Select({ label, value, options, onChange, hideLabel, class: name, ...attributes }) {
  const id = useId();
  return html`<div class=${classes("field", name)}>
    <label for=${id} class=${classes(hideLabel && "visually-hidden")}>${label}</label>
    <select id=${id} value=${value}
      onChange=${(/** @type {any} */ event) => onChange(event.currentTarget.value)} ...${attributes}>
      ${options.map((option) => (Array.isArray(option) ? option : [option, option])).map(([each, text]) =>
        html`<option key=${each} value=${each} selected=${each === value}>${text}</option>`)}
    </select>
  </div>`;
}

/**
 * A box to tick.
 * @param {{ label: any, checked: boolean, onChange: (checked: boolean) => void, hint?: any, [attribute:
 *   string]: any }} props
 */
export function Checkbox({ label, checked, onChange, hint, ...attributes }) {
  return html`<label class="checkbox">
    <input type="checkbox" checked=${checked}
      onChange=${(/** @type {any} */ event) => onChange(event.currentTarget.checked)} ...${attributes} />
    <span>${label}${hint && html`<span class="hint"> ${hint}</span>`}</span>
  </label>`;
}

/**
 * Filters kept in the URL. Each is { name, label, type: "text" | "select" | "time" | "number", options?,
 * placeholder? }; `name` is the URL's parameter. A change starts at the first page again (`reset`, by default
 * the cursor `after`).
 * @typedef {{ name: string, label: string, type?: "text" | "select" | "time" | "number", placeholder?:
 *   string, options?: (string | [value: string, text: string])[], suggestions?: string[], wide?: boolean }}
 *   Filter
 * @param {{ filters: Filter[], query: URLSearchParams, reset?: string[], children?: any }} props
 */
export function Filters({ filters, query, reset = ["after"], children }) {
  const cleared = Object.fromEntries(reset.map((name) => [name, null]));
  const isAny = filters.some(({ name }) => query.has(name));
  const unset = Object.fromEntries(filters.map(({ name }) => [name, null]));
  const clear = () => setQuery({ ...cleared, ...unset });
  return html`<form class="filters" role="search"
    onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    ${filters.map((filter) => html`<${FilterField} key=${filter.name} filter=${filter}
      value=${query.getAll(filter.name).join(", ")}
      onSet=${(/** @type {string} */ value) => setQuery({ ...cleared, [filter.name]: value || null })} />`)}
    ${children}
    ${isAny && html`<button type="button" class="button-quiet" onClick=${clear}>Clear</button>`}
  </form>`;
}

/** @param {{ filter: Filter, value: string, onSet: (value: string) => void }} props */
function FilterField({ filter, value, onSet }) {
  const { label, type = "text", options = [], placeholder, suggestions, wide } = filter;
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  if (type === "select") {
    // What the URL has, also where it is none of the options: else the list would seem not to be filtered.
    const isListed = !value || options.some((each) => (Array.isArray(each) ? each[0] : each) === value);
    return html`<${Select} label=${label} value=${value} onChange=${onSet}
      options=${[["", "any"], ...options, ...(isListed ? [] : [value])]} />`;
  }
  const hint = type === "time" ? "2026-11-28 19:30" : placeholder;
  return html`<${Field} label=${label} value=${text} onInput=${setText}
    onChange=${(/** @type {string} */ typed) => onSet(typed.trim())}
    placeholder=${hint} options=${suggestions} class=${wide ? "field-wide" : undefined}
    inputmode=${type === "number" ? "numeric" : undefined} />`;
}

/**
 * Tabs whose choice is in the URL as `name`. Arrows move between them.
 * @param {{ tabs: [id: string, title: any][], query: URLSearchParams, name?: string, label: string }} props
 */
export function Tabs({ tabs, query, name = "tab", label }) {
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const chosen = query.get(name) ?? tabs[0]?.[0];
  const choose = (/** @type {string} */ id) => {
    setQuery({ [name]: id === tabs[0]?.[0] ? null : id }, { replace: true });
  };
  const move = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const place = tabs.findIndex(([id]) => id === chosen);
    const next = tabs[(place + step + tabs.length) % tabs.length];
    if (!next) return;
    choose(next[0]);
    list.current?.querySelectorAll("button")[tabs.indexOf(next)]?.focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} ref=${list} onKeyDown=${move}>
    ${tabs.map(([id, title]) => html`<button type="button" role="tab" key=${id}
      aria-selected=${id === chosen ? "true" : "false"}
      tabindex=${id === chosen ? 0 : -1} onClick=${() => choose(id)}>${title}</button>`)}
  </div>`;
}
