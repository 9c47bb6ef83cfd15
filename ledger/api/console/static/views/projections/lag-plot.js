// Lag over the last hour or day: samples of every ten seconds, and behind them what was seen since.

import { formatCount, formatDuration } from "../../lib/format.js";
import { useResource } from "../../lib/resource.js";
import { setQuery } from "../../lib/router.js";
import { html, useEffect, useMemo, useRef, useState } from "../../lib/ui.js";
import { Select } from "../../parts/forms.js";
import { Loading, Notice } from "../../parts/notice.js";
import { Plot } from "../../parts/plot.js";
import { PROJECTIONS } from "./api.js";

const HOUR = 3600;
/** @type {Record<string, [seconds: number, text: string]>} */
const RANGES = {
  "1h": [HOUR, "last hour"], "6h": [6 * HOUR, "last 6 hours"], "24h": [24 * HOUR, "last day"],
};
const LIVE_POINTS_MAX = 60;
const OTHERS = ["sealing", "webhook fan-out"];

/**
 * @typedef {{ label: string, tone: "accent" | "ok" | "warning", events: (number | null)[], seconds: (number |
 *   null)[] }} Line
 */

/** @typedef {{ at: number, events: number, seconds: number }} LivePoint */

/**
 * @param {{ query: URLSearchParams, name?: string, generations: import("./api.js").Generation[] }} props
 *   `name`: that projection alone; else the one that is furthest behind, sealing and webhooks
 */
export function LagPlot({ query, name, generations }) {
  const range = RANGES[query.get("range") ?? ""] ? String(query.get("range")) : "1h";
  const [seconds] = RANGES[range] ?? [HOUR];
  const [end, setEnd] = useState(() => Math.floor(Date.now() / 1000));
  useEffect(() => {
    const timer = setInterval(() => setEnd(Math.floor(Date.now() / 1000)), 10_000);
    return () => clearInterval(timer);
  }, []);
  const params = { from: end - seconds, to: end, names: name ? [name] : undefined };
  const { data, error } = useResource(`${PROJECTIONS}/samples`, params);
  const points = useLivePoints(generations);
  const lines = useMemo(() => (data ? join(data, points, name) : null), [data, points, name]);
  return html`<section class="panel" aria-label="Lag">
    <header><h2>Lag</h2><${Select} label="Range" hideLabel value=${range}
      options=${Object.entries(RANGES).map(([id, [, text]]) => [id, text])}
      onChange=${(/** @type {string} */ id) => setQuery({ range: id === "1h" ? null : id })} /></header>
    <div class="panel-body">
      <${Notice} error=${error} />
      ${!lines ? html`<${Loading} />` : lines.times.length < 2 ? html`<p class="hint">A sample is taken every
        ten seconds: come back in half a minute.</p>` : html`<div class="columns">
        <${Plot} label="Age of the oldest event not applied" times=${lines.times}
          series=${lines.lines.map((line) => ({ ...line, values: line.seconds }))} format=${formatDuration} />
        <${Plot} label="Events not applied" times=${lines.times}
          series=${lines.lines.map((line) => ({ ...line, values: line.events }))} format=${formatCount} />
      </div>`}
    </div>
  </section>`;
}

/**
 * The lag of the live generation that is furthest behind, each time it was seen.
 * @param {import("./api.js").Generation[]} generations
 * @returns {LivePoint[]}
 */
function useLivePoints(generations) {
  const seen = useRef(/** @type {any} */ (null));
  const [points, setPoints] = useState(/** @type {LivePoint[]} */ ([]));
  useEffect(() => {
    const live = generations.filter((each) => each.live);
    if (!live.length || seen.current === generations) return;
    seen.current = generations;
    const events = Math.max(...live.map((each) => each.events));
    const seconds = Math.max(...live.map((each) => each.seconds));
    const point = { at: Math.floor(Date.now() / 1000), events, seconds };
    setPoints((old) => [...old.filter((each) => each.at < point.at), point].slice(-LIVE_POINTS_MAX));
  }, [generations]);
  return points;
}

/**
 * The lines to draw: samples, then the points seen after the last of them.
 * @param {{ times: number[], series: { name: string, events: (number | null)[], seconds: (number |
 *   null)[] }[] }} data
 * @param {LivePoint[]} points
 * @param {string | undefined} name
 * @returns {{ times: number[], lines: Line[] }}
 */
function join(data, points, name) {
  const last = data.times.at(-1) ?? 0;
  const later = points.filter((each) => each.at > last);
  const gap = later.map(() => null);
  const others = data.series.filter((each) => OTHERS.includes(each.name));
  const projections = data.series.filter((each) => !OTHERS.includes(each.name));
  /** @type {Line} */
  const own = {
    label: name ?? "projection furthest behind",
    tone: "accent",
    events: [...worst(projections.map((each) => each.events)), ...later.map((each) => each.events)],
    seconds: [...worst(projections.map((each) => each.seconds)), ...later.map((each) => each.seconds)],
  };
  /** @type {Line[]} */
  const rest = name ? [] : others.map((each) => ({
    label: each.name,
    tone: each.name === "sealing" ? "ok" : "warning",
    events: [...each.events, ...gap],
    seconds: [...each.seconds, ...gap],
  }));
  return { times: [...data.times, ...later.map((each) => each.at)], lines: [own, ...rest] };
}

/**
 * The highest value of several series at each time; null where none has one.
 * @param {(number | null)[][]} series
 */
function worst(series) {
  return (series[0] ?? []).map((_, place) => {
    const values = series.map((each) => each[place]).filter((each) => typeof each === "number");
    return values.length ? Math.max(...values) : null;
  });
}
