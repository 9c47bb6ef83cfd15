// The request log: how many requests there were, how they failed, and each one that did.

import { formatCount, readClock } from "../lib/format.js";
import { useKeys } from "../lib/keyboard.js";
import { useResource } from "../lib/resource.js";
import { setQuery } from "../lib/router.js";
import { parseTime } from "../lib/times.js";
import { html, useMemo } from "../lib/ui.js";
import { Select, Tabs } from "../parts/forms.js";
import { Loading, Note, Notice, Page } from "../parts/notice.js";
import { GroupHead, Groups } from "./requests/groups.js";
import { RequestList } from "./requests/list.js";
import { Plots } from "./requests/plots.js";
import { OneRequest } from "./requests/one.js";

const EVERY_SECONDS = 5;
const DAY = 86_400;
/** @type {[value: string, text: string, seconds: number][]} */
const SPANS = [
  ["1h", "last hour", 3600], ["6h", "last 6 hours", 6 * 3600], ["24h", "last 24 hours", DAY],
  ["7d", "last 7 days", 7 * DAY],
];
const SPAN = "24h";

/** @param {{ path: string[], query: URLSearchParams }} props */
export function View({ path, query }) {
  return path[0] ? html`<${OneRequest} id=${path[0]} />` : html`<${Overview} query=${query} />`;
}

/** @param {{ query: URLSearchParams }} props */
function Overview({ query }) {
  const window = useWindow(query);
  const { data, error, reload } = useResource("/internal/v1/requests/groups", window.params, {
    every: window.isOpen ? EVERY_SECONDS : undefined,
  });
  const group = query.get("group");
  const tab = query.get("tab") ?? "groups";
  useKeys([
    ["u", "all groups", () => (group ? setQuery({ group: null, after: null }) : false)],
    ["r", "groups, or single requests", () => setQuery({ tab: tab === "groups" ? "requests" : null })],
  ]);
  return html`
    <${Page} title="Requests" lead="Both APIs, this account and those connected to it.">
      ${window.isOpen && html`<${Select} label="Time" hideLabel value=${window.span}
        options=${SPANS.map(([value, text]) => [value, text])} onChange=${chooseSpan} />`}
      ${!window.isOpen && html`<button type="button"
        onClick=${() => setQuery({ from: null, to: null, after: null })}>Up to now</button>`}
    </${Page}>
    ${window.problem && html`<${Note} tone="warning" title=${window.problem} />`}
    <${Notice} error=${error} retry=${reload} />
    <${Kept} data=${data} />
    ${data ? html`<${Plots} data=${data} />` : !error && html`<${Loading} />`}
    ${group ? html`<${GroupHead} id=${group} data=${data} />`
      : html`<${Tabs} label="What is listed" query=${query} tabs=${[
        ["groups", `Groups of errors${data ? ` (${formatCount(data.groups.length)})` : ""}`],
        ["requests", "Single requests"],
      ]} />`}
    ${group || tab === "requests" ? html`<${RequestList} query=${query}
        since=${window.since} until=${window.until}
        group=${group} kept=${data?.kept} />`
      : data && html`<${Groups} data=${data} query=${query} />`}`;
}

/** @param {string} span */
function chooseSpan(span) {
  setQuery({ span: span === SPAN ? null : span, after: null });
}

/**
 * What the service keeps, where that is not what one expects.
 * @param {{ data: any }} props
 */
function Kept({ data }) {
  if (data?.kept === "none") {
    return html`<${Note} tone="warning" title="This service keeps no requests.">
      <p>Its setting <code>LEDGER_REQUEST_LOG</code> is <code>none</code>. With <code>errors</code> or
      <code>${" all"}</code> it counts them, and keeps those that fail, or all.</p></${Note}>`;
  }
  if (!data?.left_out) return null;
  return html`<${Note} tone="info" title=${`${formatCount(data.left_out)} failed requests are only counted.`}>
    <p>There were more than 500 of one process in a second: they are in the plot and in the groups, and not
    among the single requests.</p></${Note}>`;
}

/**
 * The time that the URL asks for: a span up to now, or from one moment to another.
 * @param {URLSearchParams} query
 */
function useWindow(query) {
  const [from, to, span] = [query.get("from"), query.get("to"), query.get("span") ?? SPAN];
  return useMemo(() => {
    const [start, end] = [parseTime(from), parseTime(to)];
    const isWrong = start === undefined || end === undefined;
    const problem = isWrong && "The URL has a time that is none: write 2026-11-28 19:30, or unix seconds.";
    const isOpen = from === null && to === null;
    const seconds = (SPANS.find(([value]) => value === span) ?? ["", "", DAY])[2];
    const params = isOpen || isWrong ? { seconds } : { from: start, to: end };
    const since = isOpen || isWrong ? readClock() - seconds : start;
    return { params, since: since ?? null, until: isWrong ? null : end, isOpen, span, problem };
  }, [from, to, span]);
}
