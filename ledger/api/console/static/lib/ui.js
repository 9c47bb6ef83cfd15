// What every component imports: templates, hooks and signals, from one place.

import htm from "../vendor/htm.js";
import { h } from "../vendor/preact.js";

export { Component, createContext, Fragment, render } from "../vendor/preact.js";
export {
  useCallback, useContext, useEffect, useId, useLayoutEffect, useMemo, useReducer, useRef, useState,
} from "../vendor/hooks.js";
export { batch, computed, effect, signal, untracked, useComputed, useSignal, useSignalEffect }
  from "../vendor/signals.js";

/** @typedef {import("preact").ComponentChildren} Children */
/** @typedef {import("preact").VNode<any>} Node */

// Characters that turn the direction of the text around them: a name could make its line read as another one.
const TURNS_TEXT = /[\u202a-\u202e\u2066-\u2069]/g;

/**
 * Markup as a template: html`<p class="lead">${text}</p>`. Every value in it is text, an attribute or another
 * template; none is ever read as markup, and none turns the text around it.
 * @type {(strings: TemplateStringsArray, ...values: any[]) => any}
 */
export const html = htm.bind((/** @type {any} */ type, /** @type {any} */ props, ...children) =>
  h(type, props, ...children.map(makePrintable)));

/**
 * A text with such characters as escapes: \u202e. Anything else is as it is.
 * @param {any} child
 * @returns {any}
 */
function makePrintable(child) {
  if (Array.isArray(child)) return child.map(makePrintable);
  if (typeof child !== "string") return child;
  return child.replace(TURNS_TEXT, (letter) => `\\u${letter.charCodeAt(0).toString(16)}`);
}

/**
 * One class attribute of several: classes("row", isNew && "new").
 * @param {...(string | false | null | undefined)} names
 */
export function classes(...names) {
  return names.filter(Boolean).join(" ") || undefined;
}
