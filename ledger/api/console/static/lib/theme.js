// Light, dark, or as the system has it. The choice stays in this browser.

import { effect, signal } from "./ui.js";

const KEY = "ledger-console-theme";

/** @typedef {"system" | "light" | "dark"} Theme */

/** @type {import("@preact/signals").Signal<Theme>} */
export const theme = signal(readTheme());

/** @returns {Theme} */
function readTheme() {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : "system";
  } catch {
    return "system"; // a browser that keeps nothing
  }
}

/** Apply the theme now, and whenever it changes. */
export function startTheme() {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
    try {
      localStorage.setItem(KEY, theme.value);
    } catch {
      // It holds for this page only.
    }
  });
}
