// One recorded event: what it is, what was recorded, and its public Events as snapshot and thin.

import { get } from "../../lib/api.js";
import { useResource } from "../../lib/resource.js";
import { hasScope, session } from "../../lib/session.js";
import { html, useEffect, useState } from "../../lib/ui.js";
import { Json } from "../../parts/json.js";
import { Empty, Loading, NeedsScope, Note, Notice } from "../../parts/notice.js";
import { Facts, IdLink, Time } from "../../parts/values.js";
import { readItem, toThinId } from "./feed.js";

/** @typedef {import("./feed.js").Item} Item */

/**
 * The item at a position, from the rows on the screen or from the service.
 * @param {{ position: number, rows: Item[], onClose: () => void }} props
 */
export function ItemPanel({ position, rows, onClose }) {
  const onScreen = rows.find((row) => row.position === position) ?? null;
  const [kept, setKept] = useState(onScreen);
  const [error, setError] = useState(/** @type {any} */ (null));
  const [isMissing, setMissing] = useState(false);
  const item = onScreen ?? (kept?.position === position ? kept : null);
  useEffect(() => {
    setError(null);
    setMissing(false);
    if (item) {
      setKept(item); // it stays when it leaves the screen
      return undefined;
    }
    const abort = new AbortController();
    readItem(position, abort.signal).then(
      (found) => (found ? setKept(found) : setMissing(true)),
      (failure) => abort.signal.aborted || setError(failure),
    );
    return () => abort.abort();
  }, [position, Boolean(item)]);
  return html`<section class="panel events-item" aria-label="Selected event">
    <header>
      <h2>${item ? html`<span class="mono">${item.type}</span>` : `Position ${position}`}</h2>
      <button type="button" class="button-small" onClick=${onClose}>Close</button>
    </header>
    <div class="panel-body">
      <${Notice} error=${error} />
      ${isMissing && html`<${Empty} title=${`This key may see no event at position ${position}.`}>
        It is of another account or mode, or the log does not go so far.</${Empty}>`}
      ${!item && !error && !isMissing && html`<${Loading} />`}
      ${item && html`<${ItemBody} key=${item.position} item=${item} />`}
    </div>
  </section>`;
}

/** @param {{ item: Item }} props */
function ItemBody({ item }) {
  return html`<${Facts} rows=${[
    ["Object", html`<${IdLink} id=${item.object}
      to=${`objects/${encodeURIComponent(item.object)}?at=position:${item.position}`} />`],
    ["Position", html`<span class="number">${item.position}</span>, version
      <span class="number">${" "}${item.version}</span> of the object`],
    ["Recorded", html`<${Time} at=${item.recorded_at} full />`],
    ["Account", html`<span class="id">${item.account}</span>`],
    ["Request", item.request && html`<${IdLink} id=${item.request}
      to=${`requests/${encodeURIComponent(item.request)}`} />`],
    ["Caused by", item.causation && html`<span class="id">${item.causation}</span>`],
  ]} />
  <h3 class="events-head">What was recorded</h3>
  <${Recorded} item=${item} />
  <${PublicEvents} item=${item} />`;
}

/** @param {{ item: Item }} props */
function Recorded({ item }) {
  const [isWhole, setWhole] = useState(false);
  const path = isWhole ? `/internal/v1/audit/log/${item.position}` : null;
  const { data, error } = useResource(path);
  if (item.unreadable) {
    return html`<${Note} tone="warning" title="This release cannot read the record.">
      <p>Why: <code>${item.unreadable}</code>. Its place in the log, its hash and its proof hold all the
      same.</p></${Note}>`;
  }
  return html`<${Json} label="What was recorded" value=${data ?? item.data} />
    <${Notice} error=${error} />
    ${!isWhole && hasScope("audit") && html`<p class="row"><button type="button" class="button-small"
      onClick=${() => setWhole(true)}>Show the whole record</button>${" "}
      <span class="hint">With what the feed leaves out; that you looked is recorded.</span></p>`}`;
}

/** @param {{ item: Item }} props */
function PublicEvents({ item }) {
  if (item.events === null) {
    return html`<h3 class="events-head">Public Events</h3>
      <p class="hint">Unknown: the record cannot be read.</p>`;
  }
  if (item.events.length === 0) {
    return html`<h3 class="events-head">Public Events</h3>
      <p class="hint">It makes none: nothing of it is in /v1/events, and no webhook is sent for it.</p>`;
  }
  return item.events.map(({ id, type }) => html`<${PublicEvent} key=${id} id=${id} type=${type}
    account=${item.account} />`);
}

/**
 * A public Event in its two forms.
 * @param {{ id: string, type: string, account: string | null }} props
 */
export function PublicEvent({ id, type, account }) {
  // The Event of a connected account is read as that account.
  const headers = account && account !== session.value?.account ? account : null;
  return html`<h3 class="events-head">Public Event <span class="mono">${type}</span></h3>
    <${NeedsScope} scope="rak_event_read" what="The public Event">
      <div class="events-forms">
        <${Form} title="Snapshot" id=${id} path="/v1/events" account=${headers} />
        <${Form} title="Thin" id=${toThinId(id)} path="/v2/core/events" account=${headers} />
      </div>
    </${NeedsScope}>`;
}

/** @param {{ title: string, id: string, path: string, account: string | null }} props */
function Form({ title, id, path, account }) {
  const [{ data, error }, setAnswer] = useState(/** @type {{ data?: any, error?: any }} */ ({}));
  useEffect(() => {
    const abort = new AbortController();
    setAnswer({});
    const options = { signal: abort.signal, ...(account ? { account } : {}) };
    get(`${path}/${encodeURIComponent(id)}`, {}, options).then(
      (found) => setAnswer({ data: found }),
      (failure) => abort.signal.aborted || setAnswer({ error: failure }),
    );
    return () => abort.abort();
  }, [path, id, account]);
  return html`<div class="events-form">
    <h4>${title} <span class="id faint">${id}</span></h4>
    ${error?.status === 404 ? html`<${Note} title="It is not in the API any more.">
        <p>Events are kept for 30 days. What was recorded stays: it is above, and the timeline of the object
        has all of it.</p></${Note}>`
      : html`<${Notice} error=${error} />`}
    ${!data && !error && html`<${Loading} lines=${3} />`}
    ${data && html`<${Json} label=${`${title} ${id}`} value=${data} />`}
  </div>`;
}
