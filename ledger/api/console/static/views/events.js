// The feed, live: what is recorded appears within a moment; with filters, pause, and earlier pages.

import { formatCount, formatNumberOf } from "../lib/format.js";
import { useKeys } from "../lib/keyboard.js";
import { setQuery } from "../lib/router.js";
import { hasAnyScope, session } from "../lib/session.js";
import { parseTime } from "../lib/times.js";
import { classes, html, useEffect, useMemo, useState } from "../lib/ui.js";
import { Filters } from "../parts/forms.js";
import { Empty, Note, Notice, Page } from "../parts/notice.js";
import { Table } from "../parts/table.js";
import { Badge, IdLink, Time } from "../parts/values.js";
import { choose, loadTypes } from "./events/feed.js";
import { ItemPanel } from "./events/item.js";
import { useFeed } from "./events/live.js";
import { PublicList } from "./events/public-list.js";

/** @typedef {import("./events/feed.js").Item} Item */

/** @param {{ path: string[], query: URLSearchParams }} props */
export function View({ query }) {
  // A view of one feed at a time: another account means another page (the frame draws it anew).
  return hasAnyScope(["feed", "ledger_feed"]) ? html`<${FeedView} query=${query} />`
    : html`<${PublicList} query=${query} />`;
}

/** @param {{ query: URLSearchParams }} props */
function FeedView({ query }) {
  const { shown, suggestions, problem, unmatched, error } = useShown(query);
  const isPaused = query.has("paused");
  const feed = useFeed(shown, isPaused);
  const item = Number(query.get("item")) || null;
  const isLive = shown !== null && shown.to === null && shown.before === null;
  const toggle = () => setQuery({ paused: !isPaused }, { replace: true });
  const isBrowsing = query.has("before");
  const goOlder = () => setQuery({ before: feed.rows.at(-1)?.position ?? null });
  useKeys([
    ["Space", "pause, or go on", (event) => (isLive && !isControl(event.target) ? toggle() : false)],
    ["o", "earlier events", () => (feed.hasOlder ? goOlder() : false)],
    ["l", "back to the newest", () => (isBrowsing ? setQuery({ before: null }) : false)],
    ["x", "close the selected event", () => (item ? setQuery({ item: null }) : false)],
  ]);
  return html`
    <${Page} title="Events" lead="What is recorded, as it is recorded: the feed of the log.">
      <${State} feed=${feed} isPaused=${isPaused} isLive=${isLive} />
      ${isLive && html`<button type="button" onClick=${toggle}
        aria-pressed=${isPaused ? "true" : "false"}>${isPaused ? "Go on" : "Pause"}</button>`}
      ${isBrowsing && html`<button type="button" onClick=${() => setQuery({ before: null })}>Newest</button>`}
    </${Page}>
    <${Filters} query=${query} reset=${["before", "item"]} filters=${[
      { name: "types", label: "Types", placeholder: "charge.*, dispute.opened", suggestions, wide: true },
      { name: "object", label: "Object", placeholder: "du_…, cus_…" },
      { name: "from", label: "From", type: "time" },
      { name: "to", label: "To", type: "time" },
    ]} />
    ${problem && html`<${Note} tone="warning" title=${problem} />`}
    ${unmatched.length > 0 && html`<${Note} tone="info"
      title=${`No type of the ledger's own objects matches ${unmatched.join(", ")}.`}>
      <p>Events of such types are shown if another service publishes them.</p></${Note}>`}
    <${Notice} error=${error ?? feed.error} retry=${feed.reload} />
    <div class=${classes("events", item !== null && "events-open")}>
      <div class="events-list"><${Rows} feed=${feed} item=${item} isLive=${isLive} />
        <${Foot} feed=${feed} onOlder=${goOlder} /></div>
      ${item && html`<${ItemPanel} position=${item} rows=${feed.rows}
        onClose=${() => setQuery({ item: null })} />`}
    </div>`;
}

/** Whether a key belongs to what has the focus. @param {EventTarget | null} target */
function isControl(target) {
  return target instanceof Element && target.closest("button, a, summary, select, [role=tab]") !== null;
}

/**
 * What the URL asks for.
 * @param {URLSearchParams} query
 */
function useShown(query) {
  const [known, setKnown] = useState(/** @type {import("./events/feed.js").RecordedType[] | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  useEffect(() => {
    loadTypes().then(setKnown, setError);
  }, []);
  const key = ["types", "object", "from", "to", "before"].map((name) => query.getAll(name).join()).join("\n");
  return useMemo(() => {
    const patterns = query.getAll("types").join(",").split(/[\s,]+/).filter(Boolean);
    const [from, to] = [parseTime(query.get("from")), parseTime(query.get("to"))];
    const wrong = [from === undefined && "From", to === undefined && "To"].filter(Boolean);
    const problem = wrong.length === 0 ? null
      : `“${wrong.join("” and “")}” is no time: write 2026-11-28 19:30 (UTC), or unix seconds.`;
    if (!known) return { shown: null, suggestions: [], problem, unmatched: [], error };
    const chosen = choose(patterns, known);
    const shown = {
      ...chosen, key, object: query.get("object"), from: from ?? null, to: to ?? null,
      before: Number(query.get("before")) || null,
    };
    return { shown, suggestions: suggest(known), problem, unmatched: chosen.unmatched, error };
  }, [key, known, error]);
}

/** @param {import("./events/feed.js").RecordedType[]} known */
function suggest(known) {
  const all = known.flatMap(({ type, events }) => [type, ...(events ?? [])]);
  const families = all.map((type) => `${type.slice(0, type.lastIndexOf("."))}.*`);
  return [...new Set([...families, ...all])].sort();
}

/** @param {{ feed: import("./events/live.js").Feed, isPaused: boolean, isLive: boolean }} props */
function State({ feed, isPaused, isLive }) {
  if (feed.error) return html`<${Badge} tone="danger">Stopped</${Badge}>`;
  if (feed.state === "loading") return html`<${Badge} tone="waiting">Loading</${Badge}>`;
  if (!isLive) return html`<${Badge} tone="neutral">Earlier events</${Badge}>`;
  if (feed.state === "lost") return html`<${Badge} tone="warning">Not connected</${Badge}>`;
  if (isPaused) {
    return html`<span role="status"><${Badge} tone="warning">Paused · ${formatCount(feed.missed)} new</${
      Badge}></span>`;
  }
  return html`<${Badge} tone="ok">Live</${Badge}>`;
}

/** @param {{ feed: import("./events/live.js").Feed, item: number | null, isLive: boolean }} props */
function Rows({ feed, item, isLive }) {
  const isOthers = (/** @type {Item} */ row) => row.account !== session.value?.account;
  return html`<${Table} label="Events" rows=${feed.rows} rowKey=${(/** @type {Item} */ row) => row.position}
    isLoading=${feed.state === "loading" && !feed.error} selected=${item}
    onOpen=${(/** @type {Item} */ row) => setQuery({ item: row.position })}
    columns=${[
      { title: "Event", class: "events-type",
        cell: (/** @type {Item} */ row) => html`<span class="mono">${row.type}</span>` },
      { title: "Object", class: "events-extra",
        cell: (/** @type {Item} */ row) => html`<${IdLink} id=${row.object} />` },
      { title: "Public Events", class: "events-extra", cell: showPublic },
      { title: "Account", class: "events-extra events-account", narrow: "hide",
        cell: (/** @type {Item} */ row) => (isOthers(row) ? html`<span class="id">${row.account}</span>`
          : html`<span class="faint">own</span>`) },
      { title: "Position", align: "end", class: "events-extra", narrow: "hide",
        cell: (/** @type {Item} */ row) => html`<span class="number">${row.position}</span>` },
      { title: "Recorded", align: "end",
        cell: (/** @type {Item} */ row) => html`<${Time} at=${row.recorded_at} />` },
    ]}
    empty=${!feed.error && html`<${Empty} title=${isLive ? "No event so far." : "No event here."}>
      ${isLive ? "What is recorded from now on appears here by itself."
        : "Nothing that is chosen was recorded in this time."} Other filters may show more.</${Empty}>`} />`;
}

/** @param {Item} row */
function showPublic({ events }) {
  if (events === null) return html`<span class="faint">unknown</span>`;
  if (events.length === 0) return html`<span class="faint">none</span>`;
  return events.map(({ type }) => type).join(", ");
}

/** @param {{ feed: import("./events/live.js").Feed, onOlder: () => void }} props */
function Foot({ feed, onOlder }) {
  if (feed.rows.length === 0) return null;
  const came = feed.received > 0 ? `, ${formatNumberOf(feed.received, "came", "came")} since you look` : "";
  return html`<nav class="pages" aria-label="Pages">
    <span class="faint">${formatNumberOf(feed.rows.length, "event")} shown${came}</span>
    <span class="pages-buttons"><button type="button" disabled=${!feed.hasOlder}
      onClick=${onOlder}>Earlier →</button></span>
  </nav>`;
}
