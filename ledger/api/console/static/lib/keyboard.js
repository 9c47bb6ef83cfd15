// Keys. A component declares those it understands, with what they do; `?` lists all that work now.

import { signal, useEffect, useRef } from "./ui.js";

const SEQUENCE_MS = 1500;

/**
 * A key and what it does: ["j", "next row", run]. A sequence is written with a space: "g e". `run` may return
 * false to leave the key to whoever is asked next.
 * @typedef {[keys: string, what: string, run: (event: KeyboardEvent) => void | boolean]} Binding
 */

/** @type {Set<{ bindings: Binding[], group: string }>} */
const groups = new Set();

/** The first key of a sequence that was begun. */
let begun = "";
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/** Whether the list of keys is shown. */
export const isHelpOpen = signal(false);

/**
 * Understand these keys while the component is on the page, and not while something is typed or a dialog is
 * open. The component that came last is asked first.
 * @param {Binding[]} bindings
 * @param {string} [group]  the heading in the list of keys
 */
export function useKeys(bindings, group = "This view") {
  const entry = useRef({ bindings, group });
  entry.current.bindings = bindings;
  useEffect(() => {
    const own = entry.current;
    groups.add(own);
    return () => {
      groups.delete(own);
    };
  }, []);
}

/** All keys that work now, by group. @returns {[string, Binding[]][]} */
export function listKeys() {
  /** @type {Map<string, Binding[]>} */
  const found = new Map();
  for (const { group, bindings } of groups) {
    const known = found.get(group) ?? [];
    found.set(group, [...known, ...bindings.filter(([keys]) => !known.some(([other]) => other === keys))]);
  }
  return [...found];
}

/** @param {EventTarget | null} target */
function isTyped(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "range"].includes(target.type);
  return target.isContentEditable || target.matches("textarea, select");
}

/** @param {KeyboardEvent} event */
function handleKey(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (isTyped(event.target) || document.querySelector("dialog[open]")) return;
  const key = event.key === " " ? "Space" : event.key; // a space divides the keys of a sequence
  const keys = begun ? `${begun} ${key}` : key;
  begun = "";
  clearTimeout(timer);
  if (run(keys, event)) return;
  if ([...groups].some(({ bindings }) => bindings.some(([each]) => each.startsWith(`${keys} `)))) {
    begun = keys;
    timer = setTimeout(() => { begun = ""; }, SEQUENCE_MS);
  }
}

/**
 * @param {string} keys
 * @param {KeyboardEvent} event
 */
function run(keys, event) {
  for (const { bindings } of [...groups].reverse()) {
    for (const [each, , action] of bindings) {
      if (each === keys && action(event) !== false) {
        event.preventDefault();
        return true;
      }
    }
  }
  return false;
}

/** Listen to the keyboard. */
export function startKeyboard() {
  document.addEventListener("keydown", handleKey);
}
