// One projection: its generations, its rebuild and how that compared, parked streams, and its history.

import { formatCount, formatNumberOf } from "../../lib/format.js";
import { useKeys } from "../../lib/keyboard.js";
import { useResource } from "../../lib/resource.js";
import { hrefOf, navigate } from "../../lib/router.js";
import { html, useMemo, useState } from "../../lib/ui.js";
import { Action, ActionDialog } from "../../parts/dialog.js";
import { Loading, Note, Notice, Page } from "../../parts/notice.js";
import { Table } from "../../parts/table.js";
import { Badge, Count, IdLink, Time } from "../../parts/values.js";
import { act, liveOf, runAction, timeOf } from "./api.js";
import { Comparison } from "./comparison.js";
import { LagPlot } from "./lag-plot.js";
import { showLag, Small, State, Verified } from "./overview.js";
import { BeginRebuild, RebuildPanel, Stages } from "./rebuild.js";

const POLL_SECONDS = 1;
const SAMPLE_STREAMS = 1000;

/** @typedef {import("./api.js").Projection} Projection */
/** @typedef {import("./api.js").Generation} Generation */
/** @typedef {import("./api.js").Operation} Operation */

/** @param {{ name: string, query: URLSearchParams }} props */
export function ProjectionPage({ name, query }) {
  const path = `projections/${encodeURIComponent(name)}`;
  const { data, error, reload } = useResource(`/internal/v1/${path}`, {}, { every: POLL_SECONDS });
  useKeys([["s", "step through its events", () => navigate(`${path}/step`)]]);
  const back = html`<a href=${hrefOf("projections")}>Projections</a>`;
  if (!data) {
    return html`<${Page} title=${name} lead=${back} />
      <${Notice} error=${error} retry=${reload} />${!error && html`<${Loading} lines=${8} />`}`;
  }
  /** @type {Projection} */
  const projection = data;
  const live = liveOf(projection);
  const lead = html`${back} · ${live ? `generation ${live.generation} is live, at position ${
    formatCount(live.position)}` : "no generation is live yet"}`;
  return html`<${Page} title=${html`${name} <${State} live=${live} />`} name=${name} lead=${lead}>
      <a class="button" href=${hrefOf(`${path}/step`)}>Step through events</a>
      <${Verify} name=${name} onDone=${reload} />
      <${RollBack} projection=${projection} onDone=${reload} />
      <${BeginRebuild} name=${name} onDone=${reload} disabled=${Boolean(projection.rebuild)}
        disabledReason="It is being rebuilt" />
    </${Page}>
    <${Notice} error=${error} retry=${reload} />
    <${Troubles} live=${live} />
    ${projection.rebuild
      ? html`<${RebuildPanel} rebuild=${projection.rebuild} name=${name} onDone=${reload} />`
      : html`<${LastRebuild} operations=${projection.operations ?? []} />`}
    <${Parked} projection=${projection} path=${path} onDone=${reload} />
    <${Generations} projection=${projection} onDone=${reload} />
    <${Comparison} projection=${projection} />
    <${LagPlot} query=${query} name=${name} generations=${projection.generations} />
    <${History} operations=${projection.operations ?? []} />`;
}

/** @param {{ live: Generation | null }} props */
function Troubles({ live }) {
  if (!live) return null;
  const { cause, verified, differing } = live;
  return html`
    ${cause && html`<${Note} tone="danger" title=${`Stalled for ${showSeconds(live.seconds)}`}>
      ${cause.message}</${Note}>`}
    ${differing > 0 && html`<${Note} tone="warning"
      title=${`${formatNumberOf(differing, "row")} of it ${
        differing === 1 ? "differs" : "differ"} from a replay of the log`}>
      <p>Rebuild it: that compares all rows and switches to new ones. A full verification that finds none ends
        this note.</p>
      ${verified && verified.keys.length > 0 && html`<p>${verified.keys.map((key, place) => html`${
        place > 0 && ", "}<${IdLink} key=${key} id=${key} />`)}</p>`}</${Note}>`}`;
}

/** @param {number} seconds */
function showSeconds(seconds) {
  return `${formatCount(Math.round(seconds))} s`;
}

/** How the last rebuild ended. @param {{ operations: Operation[] }} props */
function LastRebuild({ operations }) {
  const id = operations.find((each) => each.action === "rebuild")?.details.rebuild;
  const end = operations.find((each) => ["switch", "cancel"].includes(each.action)
    && each.details.rebuild === id);
  if (id === undefined || !end) return null;
  const isSwitched = end.action === "switch";
  return html`<section class="panel" aria-label="Last rebuild">
    <header><h2>Last rebuild: ${id}</h2><${Badge} tone=${isSwitched ? "ok" : "neutral"}>${
      isSwitched ? "switched" : "cancelled"}</${Badge}></header>
    <div class="panel-body stack">
      ${isSwitched && html`<${Stages} state="switched" ended />`}
      <p class="soft">${isSwitched ? `Generation ${end.generation} became live` : "It was ended"}${" "}
        <${Time} at=${timeOf(end)} />, by <span class="id">${end.who}</span>${
        end.details.accepted && ", although rows differed"}.</p>
    </div>
  </section>`;
}

/** @param {{ projection: Projection, path: string, onDone: () => void }} props */
function Parked({ projection, path, onDone }) {
  const { name, generations } = projection;
  const rows = useMemo(() => {
    const found = new Map();
    for (const each of generations) {
      for (const parked of each.parked) {
        const known = found.get(parked.stream);
        found.set(parked.stream, { ...parked, generations: [...known?.generations ?? [], each.generation] });
      }
    }
    return [...found.values()];
  }, [generations]);
  // Here and not in its row, which is gone once the retry has succeeded.
  const [retried, setRetried] = useState(/** @type {any} */ (null));
  return html`${retried && html`<${Retry} key=${retried.stream} name=${name} row=${retried} onDone=${onDone}
      onClose=${() => setRetried(null)} />`}
  ${rows.length > 0 && html`<section class="panel panel-table">
    <header><h2>Parked streams</h2><span class="faint">${formatNumberOf(rows.length, "object")} of which later
      events are not applied</span></header>
    <${Table} label="Parked streams" rows=${rows} keys=${false}
      rowKey=${(/** @type {any} */ row) => row.stream} columns=${[
        { title: "Object", cell: (/** @type {any} */ row) => html`<${IdLink} id=${row.stream} />` },
        { title: "From", cell: (/** @type {any} */ row) => html`<a href=${hrefOf(`${path}/step`,
          { position: row.position, stream: row.stream })}>${formatCount(row.position)}</a>` },
        { title: "Event", cell: (/** @type {any} */ row) => html`<code>${row.topic ?? "—"}</code>` },
        { title: "Why", cell: (/** @type {any} */ row) => row.error },
        { title: "Generations", cell: (/** @type {any} */ row) => row.generations.join(", ") },
        { title: "", name: "Action", align: "end", cell: (/** @type {any} */ row) => html`<button
          type="button" class="button-small" onClick=${() => setRetried(row)}>Retry</button>` },
      ]} />
  </section>`}`;
}

/** @param {{ name: string, row: any, onDone: () => void, onClose: () => void }} props */
function Retry({ name, row, onDone, onClose }) {
  const run = async (/** @type {string} */ reason, /** @type {string} */ key) => {
    const done = await act(name, `parked/${encodeURIComponent(row.stream)}/retry`, { reason }, key);
    if (done.healed) {
      return html`<${Note} tone="ok" title="All its events are applied; it is parked no longer." />`;
    }
    return html`<${Note} tone="warning" title=${`It is still parked in generation ${
      done.left_out_of.join(", ")}.`}>The cause is still there: see “Why”.</${Note}>`;
  };
  return html`<${ActionDialog} label="Retry" title=${`Retry ${row.stream}`} run=${run} onDone=${onDone}
    onClose=${onClose}>
    <p>Applies the events of this object from position ${formatCount(row.position)} on, in order. If one fails
      again, it stays parked.</p>
  </${ActionDialog}>`;
}

/** @param {{ projection: Projection, onDone: () => void }} props */
function Generations({ projection, onDone }) {
  const { name, generations } = projection;
  const tones = { live: "ok", kept: "neutral", building: "info" };
  const actions = (/** @type {Generation} */ each) => each.state === "kept" && html`
    <span class="row row-end">
      <${Action} label="Switch to it" small title=${`Switch ${name} to generation ${each.generation}`}
        confirm="Switch" onDone=${onDone} run=${runAction(name, "switch", { generation: each.generation })}>
        <p>Readers see generation ${each.generation} from then on, at once; the live one is kept.</p>
      </${Action}>
      <${Action} label="Retire" small danger title=${`Retire generation ${each.generation} of ${name}`}
        confirm="Drop it" onDone=${onDone} run=${runAction(name, "retire", { generation: each.generation })}>
        <p>Its tables are dropped: nobody can roll back to it. The live rows stay.</p>
      </${Action}>
    </span>`;
  return html`<section class="panel panel-table">
    <header><h2>Generations</h2></header>
    <${Table} label="Generations" rows=${generations} keys=${false}
      rowKey=${(/** @type {Generation} */ row) => row.generation}
      columns=${[
        { title: "Generation", cell: (/** @type {Generation} */ row) => row.generation },
        { title: "State", cell: (/** @type {Generation} */ row) => html`<${Badge}
          tone=${/** @type {any} */ (tones)[row.state]}>${row.state}</${Badge}>` },
        { title: "Position", align: "end", cell: (/** @type {any} */ row) => html`<${Count}
          value=${row.position} />` },
        { title: "Behind by", align: "end", cell: showLag },
        { title: "Events", align: "end", cell: (/** @type {any} */ row) => html`<${Small}
          value=${row.events} />` },
        { title: "Parked", align: "end", cell: (/** @type {any} */ row) => html`<${Small}
          value=${row.parked.length} />` },
        { title: "Verified", cell: (/** @type {any} */ row) => html`<${Verified} live=${row} />` },
        { title: "", name: "Action", align: "end", cell: actions },
      ]} />
  </section>`;
}

/** @param {{ name: string, onDone: () => void }} props */
function Verify({ name, onDone }) {
  const run = async () => {
    const done = await act(name, "verify", { sample: SAMPLE_STREAMS });
    const text = `${formatNumberOf(done.rows, "row")} compared at position ${formatCount(done.position)}`;
    if (done.differing) {
      return html`<${Note} tone="danger" title=${`${text}: ${formatCount(done.differing)} differ.`}>
        <p>${done.keys.slice(0, 20).join(", ")}</p></${Note}>`;
    }
    const left = done.left_out.length + done.parked;
    return html`<${Note} tone="ok" title=${`${text}: all equal.`}>${left > 0
      && `${formatNumberOf(left, "object")} parked or not readable: compared as far as possible.`}</${Note}>`;
  };
  return html`<${Action} label="Verify a sample" title=${`Verify a sample of ${name}`} confirm="Verify"
    reason="none" run=${run} onDone=${onDone}>
    <p>Replays about ${formatCount(SAMPLE_STREAMS)} objects from the log and compares them with the live rows.
      Nothing is locked or changed.</p>
  </${Action}>`;
}

/** @param {{ projection: Projection, onDone: () => void }} props */
function RollBack({ projection, onDone }) {
  const { name, live } = projection;
  const before = projection.operations?.find((each) => ["switch", "rollback"].includes(each.action))
    ?.details.from;
  const isKept = projection.generations.some((each) => each.generation === before && !each.live);
  return html`<${Action} label="Roll back" title=${`Roll ${name} back`} confirm="Roll back" danger
    disabled=${!isKept} disabledReason="There is no earlier generation to return to" onDone=${onDone}
    run=${runAction(name, "rollback")}>
    <p>Readers see generation ${before} again, in place of ${live}. It has been kept up to date.</p>
  </${Action}>`;
}

/** @param {{ operations: Operation[] }} props */
function History({ operations }) {
  return html`<section class="panel panel-table">
    <header><h2>History</h2><span class="faint">what operators and workers did to it, the latest 50</span>
    </header>
    ${!operations.length && html`<div class="panel-body"><p class="soft">Nothing was done to it yet.</p>
    </div>`}
    ${operations.length > 0 && html`<${Table} label="History" rows=${operations.map((each, place) =>
      ({ ...each, place }))} rowKey=${(/** @type {any} */ row) => `${row.at}-${row.place}`} keys=${false}
      columns=${[
        { title: "What", cell: (/** @type {Operation} */ row) => row.action },
        { title: "When", cell: (/** @type {Operation} */ row) => html`<${Time} at=${timeOf(row)} />` },
        { title: "Who", cell: (/** @type {Operation} */ row) => html`<span class="id">${row.who}</span>` },
        { title: "Generation", align: "end", cell: (/** @type {any} */ row) => row.generation ?? "—" },
        { title: "Details", cell: (/** @type {Operation} */ row) => describe(row) },
        { title: "Why", cell: (/** @type {Operation} */ row) => row.reason || "—" },
      ]} />`}
  </section>`;
}

/** @param {Operation} operation */
function describe({ action, details }) {
  if (action === "compare") {
    if (!details.compared) return "not compared";
    return details.equal ? `${formatNumberOf(details.rows, "row")}, equal` : "rows differ";
  }
  if (action === "retry") return `${details.stream}: ${details.healed ? "applied" : "still parked"}`;
  if (details.rebuild !== undefined) return `rebuild ${details.rebuild}`;
  if (details.from !== undefined) return `from generation ${details.from}`;
  return details.error ?? "—";
}
