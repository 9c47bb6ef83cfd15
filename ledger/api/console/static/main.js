// The console: its views, and its start.
//
// THE CONTRACT BETWEEN THE FRAME AND A VIEW
//
// A view is a row below and a file views/NAME.js that exports `View({ path, query })`: `path` is the list of
// the URL's segments after the name, `query` its URLSearchParams. Nothing that a reload must not lose is kept
// elsewhere: `setQuery` and `<Link to=…>` (lib/router.js) change the URL, and the view is drawn again. It is
// drawn anew, without its former state, when the name, the account or the session changes; `path` and `query`
// change under it.
//
// - Markup: html`…` from lib/ui.js, which has hooks and signals, too. In a template a line break is no space,
//   so write ${" "}. No text is ever parsed as markup, and there are no style attributes: a class of
//   console.css, or of views/NAME.css, which is loaded before the view if its row says `css: true`. A size
//   that is computed is set by a ref: element.style.setProperty(…).
// - A view is a column: its direct parts have 16 px between them. Boxes: <section
//   class="panel"><header><h2>…</h2> </header><div class="panel-body">; two of them side by side in class
//   "columns"; also "row", "stack", "facts".
// - Begin with <Page title="Events" lead="…">buttons</Page> (parts/notice.js): it has the view's <h1>.
// - Answers: `useResource`, `useList` (lib/resource.js), `get`, `post`, `postForm`, `remove` (lib/api.js),
//   `streamEvents` (lib/stream.js). A lost service, an ended session and a connected account are the frame's
//   matter.
// - Parts: parts/values.js (Time, Money, Count, IdLink, Badge, Copy, Facts) · parts/table.js (Table, Pages) ·
//   parts/forms.js (Field, Select, Checkbox, Filters, Tabs) · parts/dialog.js (Dialog, Action, ActionDialog)
//   · parts/notice.js (Page, Note, Notice, Empty, Loading, NeedsScope, MissingScope) · parts/json.js (Json) ·
//   parts/plot.js (Plot) · parts/progress.js (Progress).
// - Keys: `useKeys([["x", "what it does", run]])` (lib/keyboard.js). Taken: g, /, ?, t, Escape; j, k, Enter
//   (Table); n, p (Pages).
// - `scopes`: the view is open to a key with any one of them ("a+b": both), and without them the frame says
//   which is missing. What else a view needs it asks by `hasScope`, or wraps in <NeedsScope scope=… what=…>.
//
// docs/architecture.md, "A view of the console", says where the rest goes.

import { Frame } from "./frame/frame.js";
import { startClock } from "./lib/format.js";
import { startKeyboard } from "./lib/keyboard.js";
import { startRouter } from "./lib/router.js";
import { startSession } from "./lib/sign-in.js";
import { startTheme } from "./lib/theme.js";
import { html, render } from "./lib/ui.js";

/**
 * @typedef {object} ViewRow
 * @property {string} name  in the URL
 * @property {string} title
 * @property {string} key  after `g`
 * @property {string[]} scopes  any of them opens the view; none: it is open to every key
 * @property {() => Promise<{ View: (props: { path: string[], query: URLSearchParams }) => any }>} load
 * @property {boolean} [css]  whether there is a views/NAME.css
 * @property {string} [group]  the heading above it in the menu
 * @property {boolean} [hidden]  not in the menu
 */

const READ_SCOPES = ["audit", "rak_dispute_read", "rak_charge_read", "rak_customer_read"];

/** @type {ViewRow[]} */
export const VIEWS = [
  {
    name: "find", title: "Find", key: "f", scopes: READ_SCOPES,
    load: () => import("./views/find.js"), css: true,
  },
  {
    name: "objects", title: "Object", key: "o", scopes: READ_SCOPES, hidden: true,
    load: () => import("./views/objects.js"), css: true,
  },
  {
    name: "disputes", title: "Disputes", key: "d", scopes: ["rak_dispute_read"],
    load: () => import("./views/disputes.js"), css: true,
  },
  {
    name: "events", title: "Events", key: "e", scopes: ["feed", "rak_event_read"],
    load: () => import("./views/events.js"), css: true,
  },
  {
    name: "money", title: "Money", key: "m", scopes: ["audit"],
    load: () => import("./views/money.js"), css: true,
  },
  {
    name: "alerts", title: "Alerts", key: "a", scopes: ["alerts"], group: "Operation",
    load: () => import("./views/alerts.js"), css: true,
  },
  {
    name: "deliveries", title: "Deliveries", key: "l", scopes: ["webhooks"],
    load: () => import("./views/deliveries.js"), css: true,
  },
  {
    name: "projections", title: "Projections", key: "p", scopes: ["projections"],
    load: () => import("./views/projections.js"), css: true,
  },
  {
    name: "requests", title: "Requests", key: "r", scopes: ["audit"],
    load: () => import("./views/requests.js"), css: true,
  },
  {
    name: "proof", title: "Proof", key: "v", scopes: ["audit"], group: "Trust",
    load: () => import("./views/proof.js"), css: true,
  },
  {
    name: "keys", title: "Keys and accounts", key: "k", scopes: ["keys"],
    load: () => import("./views/keys.js"), css: true,
  },
];

startTheme();
startRouter();
startKeyboard();
startClock();
startSession();
const place = document.getElementById("console");
if (place) render(html`<${Frame} views=${VIEWS} />`, place);
