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

/**
 * Markup as a template: html`<p class="lead">${text}</p>`. Every value in it is text, an attribute or another
 * template; none is ever read as markup.
 * @type {(strings: TemplateStringsArray, ...values: any[]) => any}
 */
export const html = htm.bind(h);

/**
 * One class attribute of several: classes("row", isNew && "new").
 * @param {...(string | false | null | undefined)} names
 */
export function classes(...names) {
  return names.filter(Boolean).join(" ") || undefined;
}
