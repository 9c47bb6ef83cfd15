// What is around every view: the menu, who is signed in, whether the service answers.

import { outage } from "../lib/connection.js";
import { isHelpOpen, useKeys } from "../lib/keyboard.js";
import { showsFullTimes } from "../lib/format.js";
import { repeat } from "../lib/resource.js";
import { navigate, route } from "../lib/router.js";
import { hasAnyScope, session, sessionState } from "../lib/session.js";
import { readSession } from "../lib/sign-in.js";
import { classes, html, useEffect, useRef, useState } from "../lib/ui.js";
import { Loading } from "../parts/notice.js";
import { SignIn } from "../views/sign-in.js";
import { KeyHelp } from "./key-help.js";
import { Menu } from "./menu.js";
import { ViewPlace } from "./view-place.js";

/** @typedef {import("../main.js").ViewRow} ViewRow */

const CLOCK_MS = 3_000;

/** @param {{ views: ViewRow[] }} props */
export function Frame({ views }) {
  const state = sessionState.value;
  if (state === "loading") return html`<${Outage} /><main class="sign-in" aria-busy="true"><${Loading} />
    </main>`;
  if (state !== "open") return html`<${Outage} /><${SignIn} isOver=${state === "over"} />`;
  return html`<${Console} views=${views} />`;
}

/** The strip at the top while the service does not answer. */
function Outage() {
  return html`<div class="outage-place" role="status" aria-live="polite">
    ${outage.value && html`<p class="outage">${outage.value}</p>`}</div>`;
}

/**
 * The view that a URL without one leads to: the first that the key may see.
 * @param {ViewRow[]} views
 */
function findFirst(views) {
  return views.find((view) => !view.hidden && hasAnyScope(view.scopes)) ?? views[0];
}

/** @param {{ views: ViewRow[] }} props */
function Console({ views }) {
  const [isMenuOpen, setMenuOpen] = useState(false);
  const main = useRef(/** @type {HTMLElement | null} */ (null));
  const { name, path, query, account, url } = route.value;
  const view = views.find((each) => each.name === name);
  useEffect(() => {
    if (!name) navigate(findFirst(views)?.name ?? "find", { replace: true });
  }, [name]);
  useViewKeys(views);
  useTestClock();
  useEffect(() => setMenuOpen(false), [url]);
  useFocusOnChange(main, name + path.join("/"));
  const identity = `${name} ${account} ${session.value?.key.id} ${session.value?.account}`;
  return html`<div class=${classes("console", isMenuOpen && "menu-open")}>
    <a class="skip" href="#main">Skip to the view</a>
    <${Outage} />
    <${Menu} views=${views} current=${name} isOpen=${isMenuOpen} onToggle=${() => setMenuOpen(!isMenuOpen)} />
    <main id="main" class="main" tabindex="-1" ref=${main}>
      ${name && html`<${ViewPlace} key=${identity} view=${view} name=${name} path=${path} query=${query} />`}
    </main>
    ${isHelpOpen.value && html`<${KeyHelp} />`}
  </div>`;
}

/** @param {ViewRow[]} views */
function useViewKeys(views) {
  const shown = views.filter((view) => !view.hidden);
  useKeys(shown.map((view) => [`g ${view.key}`, view.title, () => navigate(view.name)]), "Go to");
  useKeys([
    ["/", "find", focusFind],
    ["?", "these keys", () => { isHelpOpen.value = true; }],
    ["t", "times in full, or relative", () => { showsFullTimes.value = !showsFullTimes.value; }],
  ], "Everywhere");
}

/** A test clock may be moved under the page, and the session tells the service's time. */
function useTestClock() {
  const hasTestClock = session.value?.service.test_clock;
  useEffect(() => {
    if (!hasTestClock) return undefined;
    const abort = new AbortController();
    repeat(readSession, CLOCK_MS, abort.signal);
    return () => abort.abort();
  }, [hasTestClock]);
}

function focusFind() {
  const boxes = document.querySelectorAll("[data-find]");
  const shown = [...boxes].find((box) => box instanceof HTMLElement && box.offsetParent !== null);
  if (!(shown instanceof HTMLInputElement)) {
    navigate("find");
    return;
  }
  shown.focus();
  shown.select();
}

/**
 * A reader by ear or keyboard begins at the heading of a place that was gone to; not at the start, and not
 * when only parameters changed.
 * @param {{ current: HTMLElement | null }} main
 * @param {string} place
 */
function useFocusOnChange(main, place) {
  const former = useRef(place);
  useEffect(() => {
    if (former.current === place) return;
    former.current = place;
    scrollTo(0, 0);
    if (!(document.activeElement instanceof HTMLInputElement)) main.current?.focus({ preventScroll: true });
  }, [place]);
}
