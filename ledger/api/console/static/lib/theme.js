// Light, dark, or as the system has it. The choice stays in this browser.

import { effect, signal } from "./ui.js";

const KEY = "ledger-console-theme";

/** @typedef {"system" | "light" | "dark"} Theme */

/** @type {import("@preact/signals").Signal<Theme>} */
export const theme = signal(readTheme());

const dark = matchMedia("(prefers-color-scheme: dark)");

/** The system's theme, which may change under the page. */
export const systemTheme = signal(dark.matches ? "dark" : "light");

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
  dark.addEventListener("change", () => { systemTheme.value = dark.matches ? "dark" : "light"; });
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
    try {
      localStorage.setItem(KEY, theme.value);
    } catch {
      // It holds for this page only.
    }
  });
}
