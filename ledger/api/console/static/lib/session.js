// Who is signed in: the key behind the session, and what it may do. The cookie itself is out of reach of
// scripts.

import { signal } from "./ui.js";

/**
 * The answer of GET /console/session.
 * @typedef {object} Session
 * @property {{ id: string, name: string, kind: string, masked: string }} key
 * @property {string} account
 * @property {string} account_name
 * @property {boolean} livemode
 * @property {string[]} scopes
 * @property {number} expires_at  unix seconds
 * @property {{ version: string, test_clock: boolean }} service
 * @property {number} [now]  the service's clock, unix seconds
 */

/**
 * "loading" until the service has said; "none": nobody is signed in; "over": the session ended while it was
 * used.
 * @typedef {"loading" | "none" | "over" | "open"} SessionState
 */

/** @type {import("@preact/signals").Signal<Session | null>} */
export const session = signal(null);

/** @type {import("@preact/signals").Signal<SessionState>} */
export const sessionState = signal("loading");

/**
 * What became of the action that was asked for when the session had ended; null if there was none.
 * @type {import("@preact/signals").Signal<"not done" | "not known" | null>}
 */
export const lastAction = signal(null);

/** What the service's clock is ahead of this machine's, in seconds. */
export const clockOffset = signal(0);

/** @param {Session} opened */
export function openSession(opened) {
  if (opened.now) clockOffset.value = opened.now - Date.now() / 1000;
  session.value = opened;
  lastAction.value = null;
  sessionState.value = "open";
}

/** The service says that there is no session (any more). */
export function endSession() {
  sessionState.value = sessionState.value === "open" || sessionState.value === "over" ? "over" : "none";
}

/** The user ended it. */
export function forgetSession() {
  session.value = null;
  sessionState.value = "none";
}

/**
 * Whether the session's key may do this. "a+b" asks for both.
 * @param {string} scope
 */
export function hasScope(scope) {
  const held = session.value?.scopes ?? [];
  const isSecretKey = session.value?.key.kind === "sk";
  return scope.split("+").every((each) => {
    const implied = each.startsWith("rak_") ? each.replace(/_read$/, "_write") : each;
    return (isSecretKey && each.startsWith("rak_")) || held.includes(each) || held.includes(implied);
  });
}

/**
 * Whether the key has one of these scopes at least; of none, always.
 * @param {string[]} scopes
 */
export function hasAnyScope(scopes) {
  return scopes.length === 0 || scopes.some(hasScope);
}
