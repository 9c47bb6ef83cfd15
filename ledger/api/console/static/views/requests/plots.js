// Requests over time: how many, how many failed, how long they took.

import { setQuery } from "../../lib/router.js";
import { html, useMemo } from "../../lib/ui.js";
import { Plot } from "../../parts/plot.js";
import { Count, Facts } from "../../parts/values.js";

/** @typedef {"accent" | "ok" | "warning" | "danger" | "neutral"} Tone */
const NEUTRAL = /** @type {Tone} */ ("neutral");
const ACCENT = /** @type {Tone} */ ("accent");
const DANGER = /** @type {Tone} */ ("danger");

/** @param {{ data: any }} props */
export function Plots({ data }) {
  const { times, counts } = useMemo(() => fillGaps(data), [data]);
  const of = (/** @type {string} */ name) => counts.map((count) => count?.[name] ?? null);
  const volume = useMemo(() => [
    { label: "requests", values: of("total"), tone: NEUTRAL, bars: true },
    { label: "failed", values: of("failed"), tone: DANGER, bars: true },
  ], [counts]);
  const durations = useMemo(() => [
    { label: "longest", values: of("duration_ms_max"), tone: NEUTRAL, bars: true },
    { label: "mean", values: of("duration_ms_mean"), tone: ACCENT, bars: true },
  ], [counts]);
  const onRange = (/** @type {number} */ from, /** @type {number} */ to) =>
    setQuery({ from: Math.floor(from), to: Math.ceil(to), span: null, after: null });
  const each = data.period === 60 ? "a minute" : "an hour";
  return html`<section class="panel requests-plots" aria-label="Over time">
    <div class="panel-body">
      <${Facts} class="requests-totals" rows=${[
        ["Requests", html`<${Count} value=${data.total} />`],
        ["Failed", html`<${Count} value=${data.failed} />${share(data.failed, data.total)}`],
        ["By the service's fault", html`<${Count} value=${data.faults} />`],
        ["Within 100 ms", within(data.counts, 100)],
      ]} />
      <div class="columns">
        <${Plot} label=${`Requests ${each}`} times=${times} series=${volume} height=${160}
          onRange=${onRange} />
        <${Plot} label="How long they took" unit="ms" times=${times} series=${durations} height=${160}
          onRange=${onRange} />
      </div>
      <p class="hint">Draw over a plot to see that time alone.</p>
    </div>
  </section>`;
}

/**
 * @param {number} part
 * @param {number} whole
 */
function share(part, whole) {
  if (whole === 0) return null;
  return html`<span class="faint"> · ${((100 * part) / whole).toFixed(part ? 2 : 0)} %</span>`;
}

/**
 * The share of requests that took so long at most.
 * @param {any[]} counts
 * @param {number} milliseconds
 */
function within(counts, milliseconds) {
  let fast = 0;
  let all = 0;
  for (const { durations } of counts) {
    for (const { at_most_ms: bound, count } of durations) {
      all += count;
      if (bound !== null && bound <= milliseconds) fast += count;
    }
  }
  return all === 0 ? null : html`<span class="number">${((100 * fast) / all).toFixed(2)} %</span>`;
}

/**
 * One place for each minute or hour; those without requests have none.
 * @param {any} data
 */
function fillGaps({ from, to, period, counts }) {
  const known = new Map(counts.map((/** @type {any} */ count) => [count.start, count]));
  /** @type {number[]} */
  const times = [];
  // A bar reaches to the next time: so the end of the last one is a time, too.
  for (let at = from; at <= to; at += period) times.push(at);
  return { times, counts: times.map((at) => /** @type {any} */ (known.get(at))) };
}
