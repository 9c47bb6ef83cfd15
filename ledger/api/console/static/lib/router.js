// The URL is the state of the page: /console/NAME/REST?query. What a reload must not lose is in it.

import { computed, html, signal } from "./ui.js";

const ROOT = "/console/";

/**
 * Where the page is.
 * @typedef {object} Route
 * @property {string} name  the view's
 * @property {string[]} path  the segments after the name, decoded
 * @property {URLSearchParams} query  without `account`, which the frame keeps
 * @property {string | null} account  the connected account that the page acts for
 * @property {string} url  path and query as they are
 */

/** @returns {Route} */
function readRoute() {
  const [name = "", ...path] = location.pathname.slice(ROOT.length).split("/").filter(Boolean).map(decode);
  const query = new URLSearchParams(location.search);
  const account = query.get("account");
  query.delete("account");
  return { name, path, query, account, url: location.pathname + location.search };
}

/** @param {string} segment */
function decode(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment; // a percent sign that begins no escape
  }
}

export const route = signal(readRoute());

// Apart, so that what has links is drawn again for another account, and not for each change of the URL.
const currentAccount = computed(() => route.value.account);

/** Read the URL again after the history moved. */
function update() {
  route.value = readRoute();
}

/**
 * The URL of a place in the console: hrefOf("objects/dp_1", { at: "position:88" }). It keeps the account.
 * Values that are null, undefined or "" are left out; an array is a parameter that is repeated.
 * @param {string} to  "NAME/REST", with segments encoded where they hold more than ids do, or a whole URL
 * @param {Record<string, any>} [query]
 */
export function hrefOf(to, query = {}) {
  const url = new URL(to, location.origin + ROOT);
  for (const [name, value] of Object.entries(query)) setValue(url.searchParams, name, value);
  const account = currentAccount.value;
  if (account && !url.searchParams.has("account")) url.searchParams.set("account", account);
  return url.pathname + url.search;
}

/**
 * @param {URLSearchParams} query
 * @param {string} name
 * @param {any} value
 */
function setValue(query, name, value) {
  query.delete(name);
  for (const each of Array.isArray(value) ? value : [value]) {
    if (![null, undefined, "", false].includes(each)) query.append(name, String(each));
  }
}

/**
 * Go to another place. `replace` leaves no entry in the browser's history; `state` is kept with the entry.
 * @param {string} to  as for `hrefOf`
 * @param {{ query?: Record<string, any>, replace?: boolean, state?: any }} [options]
 */
export function navigate(to, { query, replace = false, state = null } = {}) {
  const href = hrefOf(to, query);
  if (replace) history.replaceState(state, "", href);
  else history.pushState(state, "", href);
  update();
}

/**
 * Change parameters of the URL, and leave the others: setQuery({ status: "lost", after: null }).
 * @param {Record<string, any>} changes
 * @param {{ replace?: boolean, state?: any }} [options]
 */
export function setQuery(changes, options = {}) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) setValue(query, name, value);
  const search = query.toString();
  navigate(location.pathname + (search ? `?${search}` : ""), options);
}

/**
 * Act for a connected account from now on, or for the key's own (null).
 * @param {string | null} account
 */
export function switchAccount(account) {
  const { name } = route.peek();
  history.pushState(null, "", ROOT + name + (account ? `?${new URLSearchParams({ account })}` : ""));
  update();
}

/**
 * A link inside the console.
 * @param {{ to: string, query?: Record<string, any>, class?: string, children?: any, [attribute: string]: any
 *   }} props
 */
export function Link({ to, query, children, ...attributes }) {
  return html`<a href=${hrefOf(to, query)} ...${attributes}>${children}</a>`;
}

/** @param {MouseEvent} event */
function followLink(event) {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  if (!link.pathname.startsWith(ROOT) || link.pathname.startsWith(`${ROOT}static/`)) return;
  if (link.hash && link.pathname === location.pathname) return;
  event.preventDefault();
  navigate(link.pathname + link.search);
}

/** Follow links inside the console without loading the page again. */
export function startRouter() {
  addEventListener("popstate", update);
  document.addEventListener("click", followLink);
}
