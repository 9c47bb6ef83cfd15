// How a session begins and ends. Its secret is a cookie that scripts cannot read; a pasted key is sent once
// and kept nowhere.

import { ApiError, get, post, remove } from "./api.js";
import { endSession, forgetSession, openSession, sessionState } from "./session.js";
import { signal } from "./ui.js";

const PATH = "/console/session";
const LINK_PREFIX = "link_";

// The cookie is that of all pages of the browser: when one signs in or out, the others act with another key,
// and have to say so.
const others = new BroadcastChannel("ledger-console-session");

/** Why the link of `ledger console open` opened no session. */
export const linkError = signal(/** @type {any} */ (null));

/** Take up the session that the browser has, or open one by the link that led here. */
export async function startSession() {
  others.onmessage = readSession;
  const link = location.hash.slice(1);
  if (link.startsWith(LINK_PREFIX)) { // another one is a place of the page
    // The secret of the link goes out of the address bar and the history before anything else.
    history.replaceState(history.state, "", location.pathname + location.search);
    try {
      await signIn({ link });
      return;
    } catch (error) {
      linkError.value = error;
    }
  }
  await readSession();
}

/** Ask the service who is signed in. */
export async function readSession() {
  try {
    openSession(await get(PATH, {}, { account: null }));
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) endSession();
    else if (sessionState.value === "loading") sessionState.value = "none";
  }
}

/**
 * Open a session by a key or a link. Rejects with what the service says.
 * @param {{ key: string } | { link: string }} by
 */
export async function signIn(by) {
  openSession(await post(PATH, by, { account: null }));
  linkError.value = null;
  others.postMessage("signed in");
}

/** End the session, here and in the service. */
export async function signOut() {
  await remove(PATH, { account: null });
  forgetSession();
  others.postMessage("signed out");
}
