// One delivery: how it stands, what it waits for, and each attempt with what the receiver answered.

import { post } from "../../lib/api.js";
import { formatDuration, formatNumberOf } from "../../lib/format.js";
import { useResource } from "../../lib/resource.js";
import { html } from "../../lib/ui.js";
import { Action } from "../../parts/dialog.js";
import { Empty, Loading, Note, Notice, Page } from "../../parts/notice.js";
import { Copy, Facts, IdLink, Time } from "../../parts/values.js";
import { describeWait, NextTry, Result, State } from "./words.js";

/** @param {{ id: string }} props */
export function Delivery({ id }) {
  const path = `/internal/v1/webhooks/deliveries/${encodeURIComponent(id)}`;
  const { data, error, reload } = useResource(path, {}, { every: 2 });
  if (!data) {
    return html`<${Page} title="Delivery" />${error ? html`<${Notice} error=${error} retry=${reload} />`
      : html`<${Loading} />`}`;
  }
  return html`
    <${Page} title=${data.type} name=${`Delivery of ${data.type}`}
      lead=${html`<span class="id">${id}</span> <${Copy} text=${id} />`}>
      <${State} state=${data.state} /><${Retry} delivery=${data} onDone=${reload} />
    </${Page}>
    <${Notice} error=${error} retry=${reload} />
    ${data.waits_for.length > 0 && html`<${Note} tone="warning" title="It waits">
      ${data.waits_for.map((/** @type {string} */ code) => html`<p key=${code}>${describeWait(code)}</p>`)}
    </${Note}>`}
    <div class="delivery-columns">
      <section class="panel"><header><h2>Delivery</h2></header>
        <div class="panel-body"><${DeliveryFacts} delivery=${data} /></div></section>
      <${Attempts} delivery=${data} />
    </div>`;
}

/** @param {{ delivery: any }} props */
function DeliveryFacts({ delivery }) {
  const { endpoint, replay } = delivery;
  const isListener = endpoint.startsWith("wsl_");
  return html`<${Facts} rows=${[
    ["State", html`<${State} state=${delivery.state} />`],
    ["Event", html`<${IdLink} id=${delivery.event} />`],
    ["Endpoint", isListener ? html`<span class="id">${endpoint}</span> (a listener of the Stripe CLI)`
      : html`<${IdLink} id=${endpoint} to=${`deliveries?endpoint=${encodeURIComponent(endpoint)}`} />`],
    ["Account of the Event", html`<span class="id">${delivery.account}</span>`],
    ["Event recorded", html`<${Time} at=${delivery.event_created} />`],
    ["Made", html`<${Time} at=${delivery.created} />`],
    ["Tries", String(delivery.attempt_count)],
    ["Next try", delivery.in_flight ? "one is under way"
      : html`<${NextTry} at=${delivery.next_attempt_at} />`],
    ["Job", replay && html`<${IdLink} id=${replay} to=${`deliveries/${replay}`} />`],
  ]} />`;
}

/** @param {{ delivery: any, onDone: () => void }} props */
function Retry({ delivery, onDone }) {
  if (delivery.state === "forwarded") return null;
  const run = async (/** @type {string} */ _reason, /** @type {string} */ idempotencyKey) => {
    const path = `/internal/v1/webhooks/deliveries/${encodeURIComponent(delivery.id)}/retry`;
    await post(path, {}, { idempotencyKey });
  };
  return html`<${Action} label="Send again" title="Send this delivery again" reason="none" run=${run}
    onDone=${onDone}>
    <p>It is due at once, with the whole schedule of attempts before it. ${delivery.state === "delivered"
      && "The receiver has accepted this Event: it gets it once more."} ${delivery.in_flight
      && "An attempt is under way: only if it fails is another one made."}</p>
  </${Action}>`;
}

/** @param {{ delivery: any }} props */
function Attempts({ delivery }) {
  const attempts = [...delivery.attempts].reverse();
  const missing = delivery.attempt_count - attempts.length;
  return html`<section class="panel"><header><h2>Attempts</h2><span class="faint">newest first</span></header>
    <div class="panel-body stack">
      ${attempts.length === 0 && html`<${Empty} title="No attempt yet" />`}
      ${attempts.map((attempt) => html`<${Attempt} key=${attempt.number} attempt=${attempt} />`)}
      ${missing > 0 && html`<p class="hint">${formatNumberOf(missing, "more attempt")} not shown: the newest
        100 are, and those missed while the endpoint was disabled were not made.</p>`}
    </div>
  </section>`;
}

/** @param {{ attempt: any }} props */
function Attempt({ attempt }) {
  const { number, at, duration_ms: duration, answer } = attempt;
  return html`<article class="attempt">
    <header class="row"><span class="faint">#${number}</span><strong><${Result} attempt=${attempt} /></strong>
      <span class="faint">after ${formatDuration(duration / 1000)}</span><${Time} at=${at} /></header>
    ${answer && html`<pre class="attempt-answer" tabindex="0" aria-label=${`Answer to attempt ${number}`}
      role="region">${answer}</pre>`}
    ${attempt.answer_is_cut && html`<p class="hint">It may have been longer: the first 2 KiB are kept.</p>`}
    ${attempt.answer_is_text === false && html`<p class="hint">Bytes that are no text are shown in hex.</p>`}
    ${answer === "" && html`<p class="hint">The answer was empty.</p>`}
  </article>`;
}
