// The equality gate: how the rebuilt rows compared with the live ones, side by side where they differ.

import { formatCount, formatNumberOf } from "../../lib/format.js";
import { useResource } from "../../lib/resource.js";
import { html } from "../../lib/ui.js";
import { Notice } from "../../parts/notice.js";
import { Badge, Facts, IdLink, Time } from "../../parts/values.js";
import { PROJECTIONS } from "./api.js";

// So many rows that differ the service keeps.
const SHOWN_MAX = 20;

/** @param {{ projection: import("./api.js").Projection }} props */
export function Comparison({ projection }) {
  const comparison = projection.operations?.find((each) => each.action === "compare");
  // Asked again when there is a newer one.
  const path = comparison ? `${PROJECTIONS}/${encodeURIComponent(projection.name)}/diff` : null;
  const { data, error } = useResource(path, {}, { every: comparison && 5 });
  if (!comparison) return null;
  return html`<section class="panel" aria-label="Equality gate">
    <header><h2>Equality gate</h2>${data && html`<${Verdict} data=${data} />`}</header>
    <div class="panel-body stack">
      <${Notice} error=${error} />
      ${data && html`<${Facts} rows=${[
        ["Compared", html`<${Time} at=${Date.parse(data.at) / 1000} />${
          data.rebuild !== undefined && `, for rebuild ${data.rebuild}`}`],
        data.compared && ["At position", formatCount(data.position)],
        data.compared && ["Rows", `${formatCount(data.live_rows)} live, ${formatCount(data.rows)} rebuilt`],
        data.compared && ["Digest", html`<code>${data.live_digest}</code>${data.digest === data.live_digest
          ? " both" : html` live, <code>${data.digest}</code> rebuilt`}`],
      ]} />`}
      ${data?.differences?.length > 0 && html`<${Differences} differences=${data.differences} />`}
    </div>
  </section>`;
}

/** @param {{ data: any }} props */
function Verdict({ data }) {
  if (!data.compared) return html`<${Badge} tone="warning">not compared</${Badge}>`;
  return data.equal ? html`<${Badge} tone="ok">equal</${Badge}>`
    : html`<${Badge} tone="danger">differing</${Badge}>`;
}

/** @param {{ differences: { key: string, live: any, other: any }[] }} props */
function Differences({ differences }) {
  return html`<div class="stack">
    <p class="soft">${differences.length === SHOWN_MAX ? `The first ${SHOWN_MAX} rows that differ.`
      : `${formatNumberOf(differences.length, "row")} ${differences.length === 1 ? "differs" : "differ"}.`}
      ${" "}Personal data is shown as “…”.</p>
    ${differences.map((each) => html`<${SideBySide} key=${each.key}
      title=${html`<${IdLink} id=${each.key} />`} left=${each.live} right=${each.other} leftTitle="Live"
      rightTitle="Rebuilt" />`)}
  </div>`;
}

/**
 * Two versions of one row by path; null: there is no such row.
 * @param {{ title: any, left: any, right: any, leftTitle: string, rightTitle: string }} props
 */
export function SideBySide({ title, left, right, leftTitle, rightTitle }) {
  const paths = [...new Set([...Object.keys(left ?? {}), ...Object.keys(right ?? {})])];
  const show = (/** @type {any} */ row, /** @type {string} */ path) => (row === null
    ? html`<span class="faint">no row</span>` : html`<code>${JSON.stringify(row[path]) ?? "—"}</code>`);
  return html`<div class="table-box" role="region" aria-label="Differences of a row" tabindex="0">
    <table class="table compared"><thead><tr>
      <th scope="col">${title}</th><th scope="col">${leftTitle}</th><th scope="col">${rightTitle}</th>
    </tr></thead><tbody>${paths.map((path) => html`<tr key=${path}>
      <td><code>${path}</code></td><td data-label=${leftTitle} class="compared-left">${show(left, path)}</td>
      <td data-label=${rightTitle} class="compared-right">${show(right, path)}</td></tr>`)}
    </tbody></table></div>`;
}
