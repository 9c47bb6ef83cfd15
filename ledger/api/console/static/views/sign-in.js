// The way in: a key pasted once, or a link of `ledger console open`.

import { lastAction } from "../lib/session.js";
import { linkError, signIn } from "../lib/sign-in.js";
import { html, useEffect, useState } from "../lib/ui.js";
import { Field } from "../parts/forms.js";
import { Note, Notice } from "../parts/notice.js";

const HINT = "A restricted key (rk_) or a secret key (sk_). It is sent once, becomes a session of a few "
  + "hours, and is kept nowhere. What the key may do is what you can see and do here.";

const LAST_ACTION = {
  "not done": "What you asked for last was not done: the session had ended before. Ask for it again then.",
  "not known": "Whether what you asked for last was done is not known: there was no answer before the "
    + "session ended. Look before you ask for it again.",
};

/** @param {{ isOver: boolean }} props  whether a session ended while it was used */
export function SignIn({ isOver }) {
  const [key, setKey] = useState("");
  const [state, setState] = useState(/** @type {{ isBusy: boolean, error?: any }} */ ({ isBusy: false }));
  useEffect(() => { document.title = "Sign in · Ledger console"; }, []);
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!key.trim()) return;
    setState({ isBusy: true });
    try {
      await signIn({ key: key.trim() });
    } catch (error) {
      setState({ isBusy: false, error });
    }
  };
  return html`<main class="sign-in" id="main" tabindex="-1">
    <form class="sign-in-box" onSubmit=${submit}>
      <h1><span class="logo" aria-hidden="true"></span>Ledger console</h1>
      ${isOver && html`<${Note} tone="warning"
        title="Your session has ended."><p>Sign in again: this page then goes on where it was.</p>
        ${lastAction.value && html`<p>${LAST_ACTION[lastAction.value]}</p>`}</${Note}>`}
      <${Notice} error=${linkError.value} title=${linkError.value && "The link opened no session"} />
      <${Field} label="API key" type="password" value=${key} onInput=${setKey}
        placeholder="rk_test_…" mono autofocus
        hint=${HINT} />
      <${Notice} error=${state.error} />
      <button type="submit" class="button-primary"
        disabled=${state.isBusy || !key.trim()}>${state.isBusy ? "Signing in …" : "Sign in"}</button>
      <p class="hint">Without a key: whoever has a shell of the service can print a link that opens the${" "}
        console once.</p>
      <pre class="command">ledger console open</pre>
    </form>
  </main>`;
}
