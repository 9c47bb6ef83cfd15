// Where alerts are sent: add a receiver (its secret is shown once), test it, remove it.

import { newIdempotencyKey, post, remove } from "../../lib/api.js";
import { useResource } from "../../lib/resource.js";
import { html, useState } from "../../lib/ui.js";
import { Action } from "../../parts/dialog.js";
import { Field } from "../../parts/forms.js";
import { Empty, Loading, Notice } from "../../parts/notice.js";
import { Table } from "../../parts/table.js";
import { Badge, Copy, Count } from "../../parts/values.js";
import { Moment, PATH } from "./words.js";

const RECEIVERS = `${PATH}/receivers`;

/**
 * @typedef {{ id: string, host: string, description: string, created_at: number, pending: number,
 *   last_attempt: { at: number, status: number | null, error: string | null, duration_ms: number } | null
 *   }} Receiver
 */

export function Receivers() {
  const { data, error, reload } = useResource(RECEIVERS, {}, { every: 5 });
  if (!data) return error ? html`<${Notice} error=${error} retry=${reload} />` : html`<${Loading} />`;
  return html`<div class="row receivers-head">
      <p class="soft">Each event of an alert is POSTed to every receiver, signed as a webhook, in order, and
        tried again for a day.</p>
      <${AddReceiver} onDone=${reload} />
    </div>
    <${Notice} error=${error} />
    <${Table} label="Receivers of alerts" rows=${data.data} rowKey=${(/** @type {Receiver} */ row) => row.id}
      columns=${makeColumns(reload)}
      empty=${html`<${Empty} title="Nobody is told of alerts.">Add a receiver: any URL that takes a POST, such
        as a pager or a chat.</${Empty}>`} />`;
}

/** @param {() => void} reload */
function makeColumns(reload) {
  return [
    { title: "Receiver", cell: (/** @type {Receiver} */ row) => html`<div>
      <p class="id">${row.host}</p>${row.description && html`<p class="soft">${row.description}</p>`}
    </div>` },
    { title: "Id", narrow: /** @type {const} */ ("hide"),
      cell: (/** @type {Receiver} */ row) => html`<span class="id faint">${row.id}</span>` },
    { title: "Last attempt", cell: showAttempt },
    { title: "To be sent", align: /** @type {const} */ ("end"),
      cell: (/** @type {Receiver} */ row) => html`<${Count} value=${row.pending} />` },
    { title: "", name: "", align: /** @type {const} */ ("end"),
      cell: (/** @type {Receiver} */ row) => html`<span class="row receiver-actions">
        <${TestReceiver} receiver=${row} onDone=${reload} />
        <${RemoveReceiver} receiver=${row} onDone=${reload} /></span>` },
  ];
}

/** @param {Receiver} receiver */
function showAttempt({ last_attempt: last }) {
  if (!last) return html`<span class="faint">none yet</span>`;
  const isAccepted = last.status !== null && last.status >= 200 && last.status < 300;
  return html`<span class="row"><${Badge} tone=${isAccepted ? "ok" : "danger"}>${isAccepted ? "Accepted"
      : last.error ?? `Status ${last.status}`}</${Badge}>
    <span class="faint"><${Moment} at=${last.at} /></span></span>`;
}

/** @param {{ onDone: () => void }} props */
function AddReceiver({ onDone }) {
  const [url, setUrl] = useState("");
  const [description, setDescription] = useState("");
  const run = async (/** @type {string} */ _, /** @type {string} */ idempotencyKey) => {
    const added = await post(RECEIVERS, { url, description }, { idempotencyKey });
    setUrl("");
    setDescription("");
    return html`<div class="stack">
      <p><span class="id">${added.host}</span> is told of every alert from now on.</p>
      <p>Its signing secret, which is shown this once:</p>
      <p class="row"><code class="secret">${added.secret}</code> <${Copy} text=${added.secret} /></p>
    </div>`;
  };
  return html`<${Action} label="Add a receiver" confirm="Add the receiver" reason="none" run=${run}
    onDone=${onDone} disabled=${false}>
    <${Field} label="URL" type="url" value=${url} onInput=${setUrl} required
      placeholder="https://alerts.example.com/hook" hint="It is stored encrypted, and never shown again." />
    <${Field} label="Description" value=${description} onInput=${setDescription} maxlength="200"
      hint="For people: which pager, which chat." />
  </${Action}>`;
}

/** @param {{ receiver: Receiver, onDone: () => void }} props */
function TestReceiver({ receiver, onDone }) {
  const run = async () => {
    const result = await post(`${RECEIVERS}/${receiver.id}/test`, {},
      { idempotencyKey: newIdempotencyKey() });
    const answer = result.error ?? `status ${result.status}`;
    return html`<p class="row"><${Badge} tone=${result.delivered ? "ok" : "danger"}>${result.delivered
      ? "Accepted" : "Not accepted"}</${Badge}> <span>${answer}, ${result.duration_ms} ms</span></p>`;
  };
  return html`<${Action} label="Test" title="Test a receiver" confirm="Send it" reason="none" small run=${run}
    onDone=${onDone}>
    <p>One signed event <code>alert.test</code>, which means nothing, is sent to${" "}
      <span class="id">${receiver.host}</span> now.</p>
  </${Action}>`;
}

/** @param {{ receiver: Receiver, onDone: () => void }} props */
function RemoveReceiver({ receiver, onDone }) {
  const run = async (/** @type {string} */ _, /** @type {string} */ idempotencyKey) => {
    await remove(`${RECEIVERS}/${receiver.id}`, { idempotencyKey }); // its row goes, and this dialog with it
  };
  return html`<${Action} label="Remove" title="Remove a receiver" confirm="Remove the receiver" danger small
    reason="none" run=${run} onDone=${onDone}>
    <p>Nothing more is sent to <span class="id">${receiver.host}</span>${receiver.pending > 0
      && html`, and ${receiver.pending} that wait are dropped`}. Its URL and secret are forgotten.</p>
  </${Action}>`;
}
