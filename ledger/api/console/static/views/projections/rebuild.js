// A rebuild: its stages, how far it is, and what can be done about it.

import { formatBytes, formatCount, formatDuration, formatNumberOf } from "../../lib/format.js";
import { hrefOf } from "../../lib/router.js";
import { classes, html, useState } from "../../lib/ui.js";
import { Action } from "../../parts/dialog.js";
import { Checkbox, Field } from "../../parts/forms.js";
import { Note } from "../../parts/notice.js";
import { Progress } from "../../parts/progress.js";
import { Badge, Facts, Time } from "../../parts/values.js";
import { runAction } from "./api.js";

const STAGES = ["filling", "indexing", "catching up", "comparing", "switched"];
const WORKERS_MAX = 64;

/**
 * @param {{ rebuild: any, name: string, onDone: () => void, isLinked?: boolean }} props  `isLinked`: where
 *   its projections are links
 */
export function RebuildPanel({ rebuild, name, onDone, isLinked }) {
  const differs = rebuild.state === "differing";
  const names = rebuild.builds.map((/** @type {any} */ each) => each.projection);
  return html`<section class="panel rebuild" aria-label=${`Rebuild ${rebuild.id}`}>
    <header><h2>Rebuild ${rebuild.id} of ${names.map((/** @type {string} */ each, /** @type {number} */ at) =>
      html`${at > 0 && ", "}${isLinked
        ? html`<a href=${hrefOf(`projections/${encodeURIComponent(each)}`)}>${each}</a>` : each}`)}</h2>
      <div class="row">
        ${rebuild.paused && html`<${Badge} tone="waiting">paused</${Badge}>`}
        ${!rebuild.driven && !rebuild.paused && !differs && html`<${Badge} tone="warning"
          title="A worker takes it up within seconds">waits for a worker</${Badge}>`}
        <${Controls} rebuild=${rebuild} name=${name} onDone=${onDone} />
      </div></header>
    <div class="panel-body stack">
      <${Stages} state=${rebuild.state} paused=${rebuild.paused} />
      ${rebuild.error && html`<${Note} tone="warning" title=${rebuild.paused ? "It paused by itself"
        : "It could not be compared"}>${rebuild.error}</${Note}>`}
      ${differs && !rebuild.error && html`<${Note} tone="warning"
        title="The rebuilt rows differ from the live ones, so nothing was switched">
        Look at the differences below. Then promote it all the same, compare again, or cancel.</${Note}>`}
      <${Figures} rebuild=${rebuild} />
    </div>
  </section>`;
}

/**
 * The stages as steps, the present one marked.
 * @param {{ state: string, paused?: boolean, ended?: boolean }} props
 */
export function Stages({ state, paused, ended }) {
  const stages = state === "differing" ? [...STAGES.slice(0, 4), "differing", "switched"] : STAGES;
  const place = stages.indexOf(state);
  return html`<ol class="stages" aria-label="Stages">
    ${stages.map((stage, number) => {
      const isNow = number === place && !ended;
      const isDone = number < place || (ended && number <= place);
      return html`<li key=${stage} aria-current=${isNow ? "step" : undefined} class=${classes("stage",
        isDone && "stage-done", isNow && "stage-now", isNow && stage === "differing" && "stage-differing")}>
        ${stage}${isNow && paused && " (paused)"}<span class="visually-hidden">${isDone ? ", done"
          : isNow ? ", now" : ", to come"}</span></li>`;
    })}
  </ol>`;
}

/** @param {{ rebuild: any }} props */
function Figures({ rebuild }) {
  const isFilling = rebuild.state === "filling";
  const rate = `${formatCount(Math.round(rebuild.events_per_second))} events a second`;
  const left = rebuild.seconds_left ? `, about ${formatDuration(Math.ceil(rebuild.seconds_left))} left` : "";
  const { view, behind } = rebuild;
  return html`
    ${isFilling && html`<${Progress} label=${rebuild.total === null ? "Counting events" : "Filled"}
      value=${rebuild.events} total=${rebuild.total} noun="events"
      detail=${rebuild.events ? `${rate}${left}` : undefined} />`}
    <${Facts} rows=${[
      view && [`Now ${rebuild.state}`, `${view.name}, ${view.number} of ${view.of}`],
      rebuild.state === "catching up" && behind !== null && ["Behind", formatNumberOf(behind, "event")],
      ["Rows filled", formatCount(rebuild.rows)],
      rebuild.bytes !== null && ["Size", formatBytes(rebuild.bytes)],
      ["Processes", formatCount(rebuild.workers)],
      ["Begun", html`<${Time} at=${rebuild.began_at} /> by <span class="id">${rebuild.who}</span>${
        rebuild.reason && html` — “${rebuild.reason}”`}`],
    ]} />`;
}

/** @param {{ rebuild: any, name: string, onDone: () => void }} props */
function Controls({ rebuild, name, onDone }) {
  const isOne = rebuild.builds.length === 1;
  const what = isOne ? "its projection" : `all ${rebuild.builds.length} of its projections`;
  const differs = rebuild.state === "differing";
  return html`
    ${differs && html`<${Action} label="Promote all the same" small danger reason="required" onDone=${onDone}
      run=${runAction(name, "switch", { accept_differences: true })} confirm="Promote">
      <p>Readers of ${what} see the rebuilt rows from then on, although they differ. You can roll back.</p>
    </${Action}>`}
    ${differs && html`<${Action} label="Compare again" small run=${runAction(name, "resume")}
      onDone=${onDone}>
      <p>Rows are compared once more at a common position; if they are equal now, it is promoted.</p>
    </${Action}>`}
    ${!differs && !rebuild.paused && html`<${Action} label="Pause" small run=${runAction(name, "pause")}
      onDone=${onDone}>
      <p>What it has filled so far is kept. Lists are not affected.</p></${Action}>`}
    ${rebuild.paused && html`<${Action} label="Resume" small run=${runAction(name, "resume")}
      onDone=${onDone}>
      <p>A worker goes on where it stopped, within seconds.</p></${Action}>`}
    <${Action} label="Cancel" small danger title="Cancel the rebuild" confirm="Cancel it" onDone=${onDone}
      run=${runAction(name, "cancel")}>
      <p>What it has built (${formatCount(rebuild.rows)} rows) is dropped. The live rows stay as they are.</p>
    </${Action}>`;
}

/**
 * The button that begins a rebuild.
 * @param {{ name: string, onDone: () => void, disabled?: boolean, disabledReason?: string }} props
 */
export function BeginRebuild({ name, onDone, disabled, disabledReason }) {
  const [workers, setWorkers] = useState("1");
  const [accepts, setAccepts] = useState(false);
  const count = Number(workers);
  const isValid = Number.isInteger(count) && count >= 1 && count <= WORKERS_MAX;
  const run = runAction(name, "rebuild", { workers: count, accept_differences: accepts });
  return html`<${Action} label="Rebuild" title=${`Rebuild ${name}`} confirm="Begin" onDone=${onDone}
    reason=${accepts ? "required" : "optional"} run=${run} disabled=${disabled || !isValid}
    disabledReason=${disabledReason}>
    <p>A worker fills a new generation from the log beside the live one, compares the two row by row, and
      switches readers when they are equal. You can roll back.</p>
    <${Field} label="Processes" value=${workers} onInput=${setWorkers} inputmode="numeric"
      error=${isValid ? undefined : `A number from 1 to ${WORKERS_MAX}.`} />
    <${Checkbox} label="Promote it even if rows differ" checked=${accepts} onChange=${setAccepts} />
  </${Action}>`;
}
