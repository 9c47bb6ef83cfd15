// All projections: how far each is, what is wrong with it and why, and the lag over time.

import { formatNumberOf, formatDuration } from "../../lib/format.js";
import { useResource } from "../../lib/resource.js";
import { hrefOf, navigate } from "../../lib/router.js";
import { html } from "../../lib/ui.js";
import { Action } from "../../parts/dialog.js";
import { Loading, Note, Notice, Page } from "../../parts/notice.js";
import { Table } from "../../parts/table.js";
import { Badge, Count, Time } from "../../parts/values.js";
import { post } from "../../lib/api.js";
import { liveOf, PROJECTIONS, stateOf } from "./api.js";
import { LagPlot } from "./lag-plot.js";
import { RebuildPanel } from "./rebuild.js";

const POLL_SECONDS = 2;
const SAMPLE_STREAMS = 100;

/** @typedef {import("./api.js").Projection} Projection */

/** @param {{ query: URLSearchParams }} props */
export function Overview({ query }) {
  const { data, error, reload } = useResource(PROJECTIONS, {}, { every: POLL_SECONDS });
  /** @type {Projection[]} */
  const rows = data?.data ?? [];
  return html`<${Page} title="Projections" lead="The read models behind lists, the feed and searches.">
      ${data && html`<${Workers} count=${data.workers} />`}
      ${data && html`<${VerifyAll} count=${rows.length} onDone=${reload} />`}
    </${Page}>
    <${Notice} error=${error} retry=${reload} />
    ${!data ? !error && html`<${Loading} lines=${8} />` : html`
      <${Problems} rows=${rows} />
      ${data.rebuilds.map((/** @type {any} */ rebuild) => html`<${RebuildPanel} key=${rebuild.id}
        rebuild=${rebuild} name=${rebuild.builds[0].projection} onDone=${reload} isLinked />`)}
      <${Table} label="Projections" rows=${rows} rowKey=${(/** @type {Projection} */ row) => row.name}
        to=${(/** @type {Projection} */ row) => placeOf(row.name)}
        columns=${COLUMNS} />
      <${LagPlot} query=${query} generations=${rows.flatMap((row) => row.generations)} />`}`;
}

/** @param {string} name */
function placeOf(name) {
  return `projections/${encodeURIComponent(name)}`;
}

/** @type {import("../../parts/table.js").Column[]} */
const COLUMNS = [
  { title: "Projection", cell: (row) => row.name },
  { title: "State", cell: (row) => html`<${State} live=${liveOf(row)} />` },
  { title: "Behind by", align: "end", cell: (row) => showLag(liveOf(row)) },
  { title: "Events", align: "end", cell: (row) => html`<${Small} value=${liveOf(row)?.events} />` },
  { title: "Parked", align: "end", cell: (row) => html`<${Problem} count=${liveOf(row)?.parked.length} />` },
  { title: "Differing", align: "end", cell: (row) => html`<${Problem} count=${liveOf(row)?.differing} />` },
  { title: "Generation", align: "end", narrow: "hide", cell: (row) => html`<${Count} value=${row.live} />` },
  { title: "Verified", narrow: "hide", cell: (row) => html`<${Verified} live=${liveOf(row)} />` },
];

/** @param {{ live: import("./api.js").Generation | null }} props */
export function State({ live }) {
  const [tone, text] = stateOf(live);
  return html`<${Badge} tone=${tone} title=${live?.cause?.message}>${text}</${Badge}>`;
}

/** @param {import("./api.js").Generation | null} live */
export function showLag(live) {
  if (!live) return html`<span class="faint">—</span>`;
  const isSmall = live.seconds <= 1;
  return html`<span class=${isSmall ? "number faint" : "number"}>${formatDuration(live.seconds)}</span>`;
}

/** A count; zero is what is hoped for. @param {{ value: number | undefined }} props */
export function Small({ value }) {
  return html`<span class=${value ? undefined : "faint"}><${Count} value=${value} /></span>`;
}

/** @param {{ count: number | undefined }} props */
function Problem({ count }) {
  return html`<span class=${count ? "number danger" : "number faint"}>${count ?? "—"}</span>`;
}

/** @param {{ live: import("./api.js").Generation | null }} props */
export function Verified({ live }) {
  if (!live?.verified) return html`<span class="faint">never</span>`;
  return html`<${Time} at=${live.verified.at} />`;
}

/** @param {{ count: number }} props */
function Workers({ count }) {
  const tone = count ? "ok" : "danger";
  return html`<${Badge} tone=${tone} title="Processes of this release that follow the log">${
    count ? formatNumberOf(count, "worker") : "no worker"}</${Badge}>`;
}

/** What is stalled, with the cause; where streams are parked. @param {{ rows: Projection[] }} props */
function Problems({ rows }) {
  /** @type {Map<string, Set<string>>} */
  const causes = new Map();
  for (const { name, generations } of rows) {
    for (const { cause } of generations) {
      if (cause) causes.set(cause.message, (causes.get(cause.message) ?? new Set()).add(name));
    }
  }
  const incomplete = rows.filter((row) => row.incomplete);
  return html`
    ${[...causes].map(([message, names]) => html`<${Note} key=${message} tone="danger"
      title=${`Stalled: ${names.size === rows.length ? "all projections" : [...names].join(", ")}`}>
      ${message}</${Note}>`)}
    ${incomplete.length > 0 && html`<${Note} tone="warning" title="Some objects are missing from lists">
      <p>Streams are parked in ${incomplete.map((row, place) => html`${place > 0 && ", "}<a key=${row.name}
        href=${hrefOf(placeOf(row.name))}>${row.name}</a>`)}: see there why, and retry them once it is mended.
      </p></${Note}>`}`;
}

/** @param {{ count: number, onDone: () => void }} props */
function VerifyAll({ count, onDone }) {
  const run = async () => {
    const { data } = await post(`${PROJECTIONS}/verify`, { sample: SAMPLE_STREAMS });
    const bad = data.filter((/** @type {any} */ each) =>
      each.differing || each.error || each.left_out.length);
    if (!bad.length) return html`<${Note} tone="ok" title=${`All ${count} are equal to the replay.`} />`;
    return html`<${Note} tone="warning" title=${`${bad.length} of ${data.length} need a look`}>
      <ul>${bad.map((/** @type {any} */ each) => html`<li key=${each.projection}><a
        href=${hrefOf(placeOf(each.projection))}
        onClick=${() => navigate(placeOf(each.projection))}>${each.projection}</a>: ${
        each.error ?? `${formatNumberOf(each.differing, "row")} differing, ${
          formatNumberOf(each.left_out.length, "stream")} left out`}</li>`)}</ul></${Note}>`;
  };
  return html`<${Action} label="Verify a sample" reason="none" run=${run} onDone=${onDone}
    confirm="Verify">
    <p>Replays about ${SAMPLE_STREAMS} objects of each of ${formatNumberOf(count, "projection")} from the log,
      and compares them with the live rows. Nothing is locked or changed.</p>
  </${Action}>`;
}
