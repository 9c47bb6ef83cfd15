// The public Events of an account, for a key without the scope `feed`: asked for again and again.

import { useKeys } from "../../lib/keyboard.js";
import { useList } from "../../lib/resource.js";
import { setQuery } from "../../lib/router.js";
import { parseTime } from "../../lib/times.js";
import { classes, html } from "../../lib/ui.js";
import { Filters } from "../../parts/forms.js";
import { Empty, Note, Notice, Page } from "../../parts/notice.js";
import { Pages, Table } from "../../parts/table.js";
import { Badge, Facts, IdLink, Time } from "../../parts/values.js";
import { PublicEvent } from "./item.js";

const EVERY_SECONDS = 2;

/** @param {{ query: URLSearchParams }} props */
export function PublicList({ query }) {
  const isPaused = query.has("paused");
  const types = query.getAll("types").join(",").split(/[\s,]+/).filter(Boolean);
  const times = { from: parseTime(query.get("from")), to: parseTime(query.get("to")) };
  const params = {
    ...(types.length === 1 ? { type: types[0] } : { "types[]": types }),
    created: { gte: times.from ?? null, lte: times.to ?? null },
  };
  const list = useList("/v1/events", params, { query, every: isPaused ? undefined : EVERY_SECONDS });
  const chosen = query.get("event");
  const isControl = (/** @type {EventTarget | null} */ target) =>
    target instanceof Element && target.closest("button, a, summary, select") !== null;
  const toggle = () => setQuery({ paused: !isPaused }, { replace: true });
  useKeys([
    ["Space", "pause, or go on", (event) => (isControl(event.target) ? false : toggle())],
    ["x", "close the selected event", () => (chosen ? setQuery({ event: null }) : false)],
  ]);
  return html`
    <${Page} title="Events" lead="The public Events of the last 30 days.">
      <${Badge} tone=${isPaused ? "warning" : "waiting"}>${isPaused ? "Paused"
        : `Every ${EVERY_SECONDS} seconds`}</${Badge}>
      <button type="button" onClick=${toggle} aria-pressed=${isPaused ? "true" : "false"}>
        ${isPaused ? "Go on" : "Pause"}</button>
    </${Page}>
    <${Note} title="This key reads the list of public Events, not the feed.">
      <p>It is asked for again every ${EVERY_SECONDS} seconds. With the scope <code>feed</code> this view
      is live, goes back to the first event, and shows what makes no public Event.</p></${Note}>
    <${Filters} query=${query} reset=${["after", "event"]} filters=${[
      { name: "types", label: "Types", placeholder: "charge.*", wide: true },
      { name: "from", label: "From", type: "time" },
      { name: "to", label: "To", type: "time" },
    ]} />
    <${Notice} error=${list.error} retry=${list.reload} />
    <div class=${classes("events", chosen && "events-open")}>
      <div class="events-list"><${Rows} list=${list} chosen=${chosen} /><${Pages} list=${list} /></div>
      ${chosen && html`<${Chosen} id=${chosen} row=${list.rows.find(({ id }) => id === chosen)} />`}
    </div>`;
}

/** @param {{ list: import("../../lib/resource.js").List, chosen: string | null }} props */
function Rows({ list, chosen }) {
  return html`<${Table} label="Events" rows=${list.rows} rowKey=${(/** @type {any} */ each) => each.id}
    isLoading=${list.isLoading} selected=${chosen}
    onOpen=${(/** @type {any} */ each) => setQuery({ event: each.id })}
    columns=${[
      { title: "Type", class: "events-type",
        cell: (/** @type {any} */ each) => html`<span class="mono">${each.type}</span>` },
      { title: "Object", class: "events-extra",
        cell: (/** @type {any} */ each) => html`<${IdLink} id=${each.data.object.id} />` },
      { title: "Event", class: "events-extra", narrow: "hide",
        cell: (/** @type {any} */ each) => html`<span class="id">${each.id}</span>` },
      { title: "Created", align: "end",
        cell: (/** @type {any} */ each) => html`<${Time} at=${each.created} />` },
    ]}
    empty=${!list.error && html`<${Empty} title="No public Event in the last 30 days.">
      New ones appear here by themselves. Other filters may show more.</${Empty}>`} />`;
}

/** @param {{ id: string, row: any }} props */
function Chosen({ id, row }) {
  return html`<section class="panel events-item" aria-label="Selected event">
    <header><h2>${row ? html`<span class="mono">${row.type}</span>` : id}</h2>
      <button type="button" class="button-small" onClick=${() => setQuery({ event: null })}>Close</button>
    </header>
    <div class="panel-body">
      ${row && html`<${Facts} rows=${[
        ["Object", html`<${IdLink} id=${row.data.object.id} />`],
        ["Created", html`<${Time} at=${row.created} full />`],
        ["Request", row.request?.id && html`<${IdLink} id=${row.request.id} />`],
      ]} />`}
      <${PublicEvent} id=${id} type=${row?.type ?? ""} account=${null} />
    </div>
  </section>`;
}
