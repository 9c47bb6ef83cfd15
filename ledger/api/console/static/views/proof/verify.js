// Verify now: all steps with what each found, the whole log with its progress, and how to stop.

import { formatCount, formatDuration, formatTime } from "../../lib/format.js";
import { forgetSeen, readSeen } from "../../lib/seen-checkpoint.js";
import { html, useEffect, useRef, useState } from "../../lib/ui.js";
import { Action } from "../../parts/dialog.js";
import { Empty, Note } from "../../parts/notice.js";
import { Progress } from "../../parts/progress.js";
import { Table } from "../../parts/table.js";
import { Badge } from "../../parts/values.js";
import { STEPS, verifyAll } from "./steps.js";

/** @typedef {import("./steps.js").Outcome} Outcome */
/** @typedef {import("./steps.js").LogProgress} LogProgress */
/**
 * @typedef {{ outcomes: Record<string, Outcome>, progress: LogProgress | null, isRunning: boolean, endedAt:
 *   number | null }} Run
 */

/** @type {Run} */
const NOT_RUN = { outcomes: {}, progress: null, isRunning: false, endedAt: null };

/** @type {Record<string, ["ok" | "waiting" | "warning" | "danger" | "info" | "neutral", string]>} */
const BADGES = {
  waiting: ["neutral", "waits"],
  running: ["waiting", "runs"],
  ok: ["ok", "verified"],
  warning: ["warning", "look"],
  remembered: ["info", "remembered"],
  failed: ["danger", "fails"],
  unchecked: ["warning", "not checked"],
  stopped: ["neutral", "stopped"],
};

/** @param {{ turn: number, onStart: () => void }} props  a run begins with each new `turn` */
export function Verify({ turn, onStart }) {
  const { run, stop } = useRun(turn);
  if (turn === 0) return html`<${NotStarted} onStart=${onStart} />`;
  return html`<${Summary} run=${run} />
    <section class="panel" aria-labelledby="steps">
      <header><h2 id="steps">Steps</h2>
        ${run.isRunning ? html`<button type="button" onClick=${stop}>Stop</button>`
          : html`<${Forget} run=${run} />`}</header>
      <ol class="steps">
        ${STEPS.map(([id, title]) => html`<${Step} key=${id} title=${title} outcome=${run.outcomes[id]}>
          ${id === "log" && run.progress && html`<${LogSteps} progress=${run.progress}
            isRunning=${run.isRunning} />`}
        </${Step}>`)}
      </ol>
    </section>
    ${run.progress && run.progress.differences.length > 0
      && html`<${Differences} rows=${run.progress.differences} />`}`;
}

/** @param {{ onStart: () => void }} props */
function NotStarted({ onStart }) {
  const seen = readSeen();
  return html`<${Empty} title="Nothing has been verified here yet.">
    ${STEPS.length} steps: signature, growth${seen ? ` since ${formatTime(seen.at)}` : ""}, witnesses, random
      records,
    and the whole log. <button type="button" class="button-small" onClick=${onStart}>Verify
      now</button></${Empty}>`;
}

/** @param {{ title: string, outcome: Outcome | undefined, children?: any }} props */
function Step({ title, outcome, children }) {
  const [tone, name] = BADGES[outcome?.state ?? "waiting"] ?? ["neutral", "waits"];
  return html`<li class="step">
    <div class="step-state"><${Badge} tone=${tone}>${name}</${Badge}></div>
    <div class="stack"><div><span class="step-title">${title}</span>
      ${outcome?.text && html`<p class="soft">${outcome.text}</p>`}</div>${children}</div>
  </li>`;
}

/** @param {{ progress: LogProgress, isRunning: boolean }} props */
function LogSteps({ progress, isRunning }) {
  const { done, size, seconds } = progress;
  const rate = seconds > 0 ? done / seconds : 0;
  const left = rate > 0 && isRunning && done < size
    ? ` · ${formatDuration(Math.ceil((size - done) / rate))} left` : "";
  return html`<${Progress} label="Whole log" value=${done} total=${size} noun="records"
    detail=${`${formatCount(Math.round(rate))} records a second${left}`} />`;
}

/** @param {{ run: Run }} props */
function Summary({ run }) {
  const states = Object.values(run.outcomes).map(({ state }) => state);
  if (states.includes("failed")) {
    return html`<${Note} tone="danger" title="The log does not verify.">
      <p>Rely on nothing that it shows until this is explained. Save a checkpoint, and have somebody
      run <code>ledger audit verify --against CHECKPOINT_FILE</code> where the database is, with one from
      before.</p></${Note}>`;
  }
  if (run.isRunning) return null;
  const when = run.endedAt ? formatTime(run.endedAt) : "";
  if (states.includes("unchecked") || states.includes("stopped")) {
    return html`<${Note} tone="warning" title="Not all was verified.">
      <p>Nothing that was checked differs. ${when}</p></${Note}>`;
  }
  return html`<${Note} tone="ok" title="Everything verifies.">
    <p>${when}. The authority is <code>ledger audit verify</code> on another machine, with a checkpoint
    that was kept elsewhere.</p></${Note}>`;
}

/** @param {{ rows: any[] }} props */
function Differences({ rows }) {
  const where = (/** @type {any} */ row) => {
    if (row.upto === null) return "—";
    return row.upto === row.after + 1 ? formatCount(row.upto)
      : `${formatCount(row.after + 1)} – ${formatCount(row.upto)}`;
  };
  return html`<section class="panel" aria-labelledby="differences">
    <header><h2 id="differences">What differs</h2></header>
    <${Table} label="What differs" rows=${rows.map((row, number) => ({ ...row, number }))}
      rowKey=${(/** @type {any} */ row) => row.number} keys=${false} columns=${[
        { title: "Positions", cell: where, class: "number" },
        { title: "What", cell: (/** @type {any} */ row) => row.message },
      ]} /></section>`;
}

/** For whoever knows why the log is another one. @param {{ run: Run }} props */
function Forget({ run }) {
  if (run.outcomes.growth?.state !== "failed") return null;
  return html`<${Action} label="Forget what this browser saw" danger reason="none" confirm="Forget it"
    run=${async () => { forgetSeen(); }}>
    <p>Do so only if you know why this is another log, as after a new database in development. The next
    verification then has nothing to compare with, and takes this log as it is.</p>
  </${Action}>`;
}

/**
 * A run for each turn, and what ends it.
 * @param {number} turn
 */
function useRun(turn) {
  const [run, setRun] = useState(NOT_RUN);
  const abort = useRef(/** @type {AbortController | null} */ (null));
  useEffect(() => {
    if (turn === 0) return undefined;
    const own = new AbortController();
    abort.current = own;
    let isShown = true;
    const change = (/** @type {(old: Run) => Run} */ update) => { if (isShown) setRun(update); };
    setRun({ ...NOT_RUN, isRunning: true });
    verifyAll(
      (id, outcome) => change((old) => ({ ...old, outcomes: { ...old.outcomes, [id]: outcome } })),
      (progress) => change((old) => ({ ...old, progress })),
      own.signal,
    ).finally(() => change((old) => ({ ...old, isRunning: false, endedAt: Math.floor(Date.now() / 1000) })));
    return () => {
      isShown = false;
      own.abort();
    };
  }, [turn]);
  return { run, stop: () => abort.current?.abort() };
}
