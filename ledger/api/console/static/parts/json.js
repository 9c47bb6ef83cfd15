// JSON as a tree: folded, so that it stays fast whatever its depth and size; every value is text.

import { formatCount, formatNumberOf, isId } from "../lib/format.js";
import { hrefOf } from "../lib/router.js";
import { classes, html, useMemo, useState } from "../lib/ui.js";
import { Copy, placeOf } from "./values.js";

const OPEN_DEPTH = 2;
const CHILDREN_MAX = 100;
const TEXT_MAX = 300;

/**
 * Marks of a path: it was added or changed, with the value before. Paths are in the audit API's bracket form:
 * "evidence[receipt]", "balance_transactions[0][amount]".
 * @typedef {Record<string, { mark: "added" | "changed" | "removed", before?: any }>} Marks
 */

/**
 * @param {{ value: any, label?: string, depth?: number, marks?: Marks, copy?: boolean }} props  `depth`: how
 *   many levels are open at first; what has a mark is open in any case
 */
export function Json({ value, label = "JSON", depth = OPEN_DEPTH, marks = {}, copy = true }) {
  const open = useMemo(() => openedBy(Object.keys(marks)), [marks]);
  return html`<div class="json" role="region" aria-label=${label} tabindex="0">
    ${copy && html`<div class="json-copy"><${Copy} text=${JSON.stringify(value, null, 2) ?? "undefined"} />
      </div>`}
    <${Value} value=${value} path="" left=${depth} marks=${marks} open=${open} />
  </div>`;
}

/**
 * The paths above those that are marked.
 * @param {string[]} paths
 */
function openedBy(paths) {
  const opened = new Set([""]);
  for (const path of paths) {
    for (let end = path.indexOf("["); end >= 0; end = path.indexOf("[", end + 1)) {
      opened.add(path.slice(0, end));
    }
    opened.add(path);
  }
  return opened;
}

/**
 * @typedef {{ value: any, path: string, left: number, marks: Marks, open: Set<string>, name?: string }} Props
 */

/** @param {Props} props */
function Value(props) {
  const { value } = props;
  if (value !== null && typeof value === "object") return html`<${Branch} ...${props} />`;
  return html`<${Leaf} ...${props} />`;
}

/** @param {{ name?: string }} props */
function Name({ name }) {
  return name === undefined ? null : html`<span class="json-name">${name}</span><span
    class="json-mark">: </span>`;
}

/** @param {Props} props */
function Branch({ value, path, left, marks, open, name }) {
  const isArray = Array.isArray(value);
  const names = isArray ? null : Object.keys(value);
  const size = names ? names.length : value.length;
  const [isOpen, setOpen] = useState(left > 0 || (marks && open.has(path) && path !== ""));
  const [shown, setShown] = useState(CHILDREN_MAX);
  const mark = marks[path];
  const [begin, end] = isArray ? ["[", "]"] : ["{", "}"];
  if (size === 0) return html`<div class=${rowClass(mark)}><${Name} name=${name} /><span
    class="json-mark">${begin}${end}</span></div>`;
  const count = formatNumberOf(size, isArray ? "item" : "member");
  return html`<div class=${rowClass(mark)}>
    <button type="button" class="json-fold" aria-expanded=${isOpen ? "true" : "false"}
      onClick=${() => setOpen(!isOpen)}>
      <${Name} name=${name} /><span class="json-mark">${begin}${!isOpen && html` … ${end}`}</span>
      ${!isOpen && html`<span class="json-count">${count}</span>`}
    </button>
    ${isOpen && html`<div class="json-children">
      ${(names ?? value).slice(0, shown).map((/** @type {any} */ each, /** @type {number} */ place) => {
        const key = names ? each : String(place);
        return html`<${Value} key=${key} name=${names ? each : undefined} value=${names ? value[each] : each}
          path=${path ? `${path}[${key}]` : key} left=${left - 1} marks=${marks} open=${open} />`;
      })}
      ${size > shown && html`<button type="button" class="button-small"
        onClick=${() => setShown(shown + 10 * CHILDREN_MAX)}>
        Show more (${formatCount(size - shown)} are not shown)</button>`}
    </div><span class="json-mark">${end}</span>`}
  </div>`;
}

/** @param {Props} props */
function Leaf({ value, path, marks, name }) {
  const mark = marks[path];
  return html`<div class=${rowClass(mark)}>
    <${Name} name=${name} />
    ${mark?.mark === "changed" && "before" in mark && html`<del class="json-before"><${Scalar}
      value=${mark.before} /></del><span class="json-mark" aria-hidden="true"> → </span>`}
    <${Scalar} value=${value} />
  </div>`;
}

/** @param {{ mark: string } | undefined} mark */
function rowClass(mark) {
  return classes("json-row", mark && `json-${mark.mark}`);
}

/** @param {{ value: any }} props */
function Scalar({ value }) {
  const [isWhole, setWhole] = useState(false);
  if (value !== null && typeof value === "object") return html`<span
    class="json-text">${JSON.stringify(value).slice(0, TEXT_MAX)}</span>`;
  if (typeof value !== "string") return html`<span
    class="json-${value === null ? "null" : "number"}">${String(value)}</span>`;
  if (isId(value)) return html`<span class="json-text">"<a
    href=${hrefOf(placeOf(value))}>${value}</a>"</span>`;
  if (value.length <= TEXT_MAX || isWhole) return html`<span
    class="json-text">${JSON.stringify(value)}</span>`;
  return html`<span class="json-text">${JSON.stringify(value.slice(0, TEXT_MAX)).slice(0, -1)}…"</span>${" "}
    <button type="button" class="button-small"
      onClick=${() => setWhole(true)}>Show all (${formatCount(value.length)} characters)</button>`;
}
