// Loads a view, checks that the key may see it, and catches what fails in it.

import { hasAnyScope } from "../lib/session.js";
import { hrefOf } from "../lib/router.js";
import { Component, html, useEffect, useState } from "../lib/ui.js";
import { Empty, Loading, MissingScope, Page } from "../parts/notice.js";

/** @typedef {import("../main.js").ViewRow} ViewRow */

/**
 * @param {{ view: ViewRow | undefined, name: string, path: string[], query: URLSearchParams }} props
 */
export function ViewPlace({ view, name, path, query }) {
  if (!view) {
    return html`<${Page} title="No such view" /><${Empty} title=${`The console has no view “${name}”.`}>
      Choose one from the menu, or <a href=${hrefOf("find")}>find an object</a>.</${Empty}>`;
  }
  if (!hasAnyScope(view.scopes)) {
    return html`<${Page} title=${view.title} /><${MissingScope} scopes=${view.scopes} what=${view.title} />`;
  }
  return html`<${Loaded} key=${view.name} view=${view} path=${path} query=${query} />`;
}

/** @param {{ view: ViewRow, path: string[], query: URLSearchParams }} props */
function Loaded({ view, path, query }) {
  const [state, setState] = useState(/** @type {{ View?: any, error?: any }} */ ({}));
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let isCurrent = true;
    Promise.all([view.load(), view.css ? loadStyle(view.name) : null]).then(
      ([module]) => isCurrent && setState({ View: module.View }),
      (error) => isCurrent && setState({ error }),
    );
    return () => {
      isCurrent = false;
    };
  }, [turn]);
  if (state.error) {
    return html`<${Page} title=${view.title} /><${Failure} error=${state.error}
      what="could not be loaded" isLoad />`;
  }
  if (!state.View) return html`<${Loading} lines=${6} />`;
  return html`<${Boundary} title=${view.title} key=${turn} onAgain=${() => setTurn(turn + 1)}>
    <div class=${`view view-${view.name}`}><${state.View} path=${path} query=${query} /></div>
  </${Boundary}>`;
}

/**
 * A view's own style sheet: loaded once, before the view is drawn.
 * @param {string} name
 * @returns {Promise<void>}
 */
function loadStyle(name) {
  const href = `/console/static/views/${name}.css`;
  if (document.querySelector(`link[href="${href}"]`)) return Promise.resolve();
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = href;
  return new Promise((resolve) => {
    // Without its style a view is plain, but it works.
    link.onload = link.onerror = () => resolve();
    document.head.append(link);
  });
}

/** @param {{ error: any, what: string, isLoad?: boolean, onAgain?: () => void }} props */
function Failure({ error, what, isLoad, onAgain }) {
  return html`<div class="note note-danger" role="alert">
    <p class="note-title">This view ${what}.</p>
    <div class="note-text">
      <p><code>${String(error?.message ?? error)}</code></p>
      <p>${isLoad ? "The service may have been replaced by another release: load the page again."
        : "This is an error of the console, not of your data. Another view works all the same."}</p>
      <p>${onAgain && html`<button type="button" onClick=${onAgain}>Draw it again</button> `}
        <button type="button" onClick=${() => location.reload()}>Load the page again</button></p>
    </div>
  </div>`;
}

/** Shows what failed in a view in its place. */
class Boundary extends Component {
  /** @param {{ title: string, onAgain: () => void, children?: any }} props */
  constructor(props) {
    super(props);
    this.state = { error: null };
  }

  /** @param {any} error */
  static getDerivedStateFromError(error) {
    return { error };
  }

  /** @param {any} error */
  componentDidCatch(error) {
    console.error(error); // with its stack, for whoever mends the view
  }

  render() {
    const { title, onAgain, children } = /** @type {any} */ (this.props);
    const { error } = /** @type {any} */ (this.state);
    if (!error) return children;
    return html`<${Page} title=${title} /><${Failure} error=${error} what="failed" onAgain=${onAgain} />`;
  }
}
