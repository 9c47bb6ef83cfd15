// A plot over time, by uPlot, which is loaded only where there is one.

import { formatCount, formatTime } from "../lib/format.js";
import { systemTheme, theme } from "../lib/theme.js";
import { html, useEffect, useId, useRef, useState } from "../lib/ui.js";

const VENDOR = "/console/static/vendor/";
const ROWS_MAX = 60;
// By the distance of the labels in seconds: [distance, label, , at a new day, , , , , mode] (uPlot's
// `axes.values`).
const TIME_LABELS = [
  [86_400, "{YYYY}-{MM}-{DD}", null, null, null, null, null, null, 1],
  [60, "{HH}:{mm}", null, "\n{YYYY}-{MM}-{DD}", null, null, null, null, 1],
  [0.001, "{HH}:{mm}:{ss}", null, "\n{YYYY}-{MM}-{DD}", null, null, null, null, 1],
];

/** @type {Promise<any> | undefined} */
let loaded;

function loadLibrary() {
  loaded ??= (async () => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = `${VENDOR}uplot.css`;
    document.head.append(link);
    return (await import("../vendor/uplot.js")).default;
  })();
  return loaded;
}

/**
 * One line, or bars. `tone` is a colour of the design; `values` are as many as `times`, null for a gap.
 * @typedef {{ label: string, values: (number | null)[], tone?: "accent" | "ok" | "warning" | "danger" |
 *   "neutral", bars?: boolean }} Series
 */

/**
 * A plot with its legend; the figures are also there as a table, for those who see no plot.
 * @param {{ label: string, times: number[], series: Series[], unit?: string, height?: number,
 *   format?: (value: number) => string, onRange?: (from: number, to: number) => void }} props  `times` in
 *   unix seconds, ascending; `onRange`: a range was drawn with the mouse
 */
export function Plot({ label, times, series, unit = "", height = 180, format = formatCount, onRange }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const plot = useRef(/** @type {any} */ (null));
  const id = useId();
  const [failure, setFailure] = useState("");
  const looks = series.map(({ label: name, tone, bars }) => [name, tone, bars]);
  const shape = JSON.stringify([looks, unit, height, theme.value, systemTheme.value]);
  const data = [times, ...series.map(({ values }) => values)];
  const latest = useRef(data);
  latest.current = data;
  useEffect(() => {
    const abort = new AbortController();
    loadLibrary().then((uPlot) => {
      if (abort.signal.aborted || !place.current) return;
      plot.current = create(uPlot, place.current, { series, unit, height, format, onRange }, latest.current);
      const observer = new ResizeObserver(() => {
        if (place.current) plot.current?.setSize({ width: place.current.clientWidth, height });
      });
      observer.observe(place.current);
      abort.signal.addEventListener("abort", () => observer.disconnect());
    }, () => setFailure("The plot could not be loaded. The table below has its figures."));
    return () => {
      abort.abort();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(data), [times, series]);
  return html`<figure class="plot" aria-labelledby=${id}>
    <figcaption id=${id}>${label}<span class="plot-legend">${series.map((each) => html`<span key=${each.label}
      class=${`plot-key plot-${each.tone ?? "accent"}`}>${each.label}</span>`)}</span></figcaption>
    <div class="plot-canvas" ref=${place} aria-hidden="true"></div>
    ${failure && html`<p class="hint">${failure}</p>`}
    <${Figures} times=${times} series=${series} format=${format} unit=${unit} />
  </figure>`;
}

/** @param {{ times: number[], series: Series[], format: (value: number) => string, unit: string }} props */
function Figures({ times, series, format, unit }) {
  const [isOpen, setOpen] = useState(false);
  const first = Math.max(0, times.length - ROWS_MAX);
  return html`<details class="plot-figures"
    onToggle=${(/** @type {any} */ event) => setOpen(event.currentTarget.open)}>
    <summary>Figures as a table</summary>
    ${isOpen && html`<div class="table-box" role="region" aria-label="Figures" tabindex="0"><table
      class="table">
      <thead><tr><th scope="col">Time</th>${series.map((each) => html`<th key=${each.label} scope="col"
        class="align-end">${each.label}</th>`)}</tr></thead>
      <tbody>${times.slice(first).map((at, place) => html`<tr key=${at}><td>${formatTime(at)}</td>
        ${series.map((each) => html`<td key=${each.label}
          class="align-end number">${show(each.values[first + place], format, unit)}</td>`)}</tr>`)}
      </tbody></table></div>`}
  </details>`;
}

/**
 * @param {number | null | undefined} value
 * @param {(value: number) => string} format
 * @param {string} unit
 */
function show(value, format, unit) {
  return value === null || value === undefined ? "—" : unit ? `${format(value)} ${unit}` : format(value);
}

/**
 * @param {any} uPlot
 * @param {HTMLElement} place
 * @param {{ series: Series[], unit: string, height: number, format: (value: number) => string, onRange?:
 *   (from: number, to: number) => void }} options
 * @param {any[]} data
 */
function create(uPlot, place, { series, unit, height, format, onRange }, data) {
  const styles = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => styles.getPropertyValue(name).trim();
  const line = { stroke: colour("--line"), width: 1 };
  const text = { stroke: colour("--text-soft"), font: "12px system-ui, sans-serif" };
  const axis = { ...text, grid: line, ticks: { ...line, size: 4 } };
  const showAll = (/** @type {any} */ _, /** @type {number[]} */ values) =>
    values.map((value) => show(value, format, unit));
  /** @type {(self: any, low: number | null, high: number | null) => [number, number]} */
  const findRange = (_, low, high) => [Math.min(0, low ?? 0), Math.max(high ?? 1, 1) * 1.08];
  // A bar stands right of its time, so the last one needs a place.
  const hasBars = series.some(({ bars }) => bars);
  /** @type {(self: any, from: number, to: number) => [number, number]} */
  const findTimes = ({ data: [times] }, from, to) => {
    const step = times.length > 1 ? times[1] - times[0] : 1;
    return [from, hasBars || from === to ? to + step : to];
  };
  return new uPlot({
    width: place.clientWidth || 600,
    height,
    legend: { show: false },
    cursor: { drag: { x: Boolean(onRange), y: false, setScale: false }, points: { size: 6 } },
    hooks: {
      setSelect: [(/** @type {any} */ self) => {
        if (onRange && self.select.width > 4) {
          const { left, width } = self.select;
          onRange(self.posToVal(left, "x"), self.posToVal(left + width, "x"));
          self.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        }
      }],
    },
    tzDate: (/** @type {number} */ at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    scales: { x: { range: findTimes }, y: { range: findRange } },
    axes: [{ ...axis, space: 72, values: TIME_LABELS }, { ...axis, size: 64, values: showAll }],
    series: [{}, ...series.map(({ label, tone = "accent", bars }) => {
      const stroke = colour(`--plot-${tone}`);
      if (!bars) return { label, stroke, width: 1.75, points: { size: 5 } };
      const paths = uPlot.paths.bars({ size: [0.8, 40], align: 1 });
      return { label, stroke, width: 0, fill: stroke, points: { show: false }, paths };
    })],
  }, data, place);
}
