// Tables of rows that lead somewhere, and the buttons from page to page.

import { hrefOf, navigate } from "../lib/router.js";
import { useKeys } from "../lib/keyboard.js";
import { classes, html, useRef, useState } from "../lib/ui.js";
import { Loading } from "./notice.js";

/**
 * A column: its title and what a row shows in it. `align: "end"` for numbers; `narrow: "hide"` leaves it out
 * on narrow pages; `class` goes to its cells.
 * @typedef {{ title: any, cell: (row: any) => any, align?: "end", narrow?: "hide", class?: string, name?:
 *   string }} Column
 */

/**
 * A table. `j` and `k` move the current row, Enter opens it. On a narrow page each row is a card.
 * @param {{ label: string, columns: Column[], rows: any[], rowKey: (row: any) => string | number,
 *   to?: (row: any) => string, onOpen?: (row: any) => void, selected?: string | number | null, isLoading?:
 *   boolean, empty?: any, keys?: boolean }} props  `to`: where a row leads, as for hrefOf: its first cell is
 *   then a link, so that cell holds no other; `onOpen`: what opening it does in place; `selected`: the key of
 *   the open row; `keys`: false where a page has several tables
 */
export function Table({ label, columns, rows, rowKey, to, onOpen, selected, isLoading, empty, keys = true }) {
  const body = useRef(/** @type {HTMLElement | null} */ (null));
  const opens = Boolean(to || onOpen);
  const open = (/** @type {any} */ row) => (onOpen ? onOpen(row) : to && navigate(to(row)));
  const [current, setCurrent] = useState(/** @type {string | number | null} */ (selected ?? null));
  const move = (/** @type {number} */ step) => {
    const place = rows.findIndex((row) => rowKey(row) === current);
    const last = rows.length - 1;
    const next = place < 0 ? (step > 0 ? 0 : last) : Math.min(Math.max(place + step, 0), last);
    const element = body.current?.children[next];
    if (!(element instanceof HTMLElement) || !rows[next]) return;
    setCurrent(rowKey(rows[next]));
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "nearest" });
  };
  useKeys(opens && keys ? [
    ["j", "next row", () => move(1)],
    ["k", "previous row", () => move(-1)],
    ["Enter", "open the row", () => false],
  ] : [], "Lists");
  if (isLoading && rows.length === 0) return html`<${Loading} />`;
  if (rows.length === 0 && empty) return empty;
  return html`<div class="table-box" role="region" aria-label=${label} tabindex="0">
    <table class="table">
      <caption class="visually-hidden">${label}</caption>
      <thead><tr>${columns.map((column, place) => html`<th key=${place} scope="col"
        class=${cellClass(column)}>${column.title}</th>`)}</tr></thead>
      <tbody ref=${body}>
        ${rows.map((row) => html`<${Row} key=${rowKey(row)} row=${row} columns=${columns} to=${to}
          open=${opens ? open : undefined}
          isSelected=${selected !== null && selected !== undefined && rowKey(row) === selected}
          onFocus=${() => setCurrent(rowKey(row))} />`)}
      </tbody>
    </table>
  </div>`;
}

/** @param {Column} column */
function cellClass(column) {
  const { align, narrow, class: name } = column;
  return classes(align === "end" && "align-end", narrow === "hide" && "narrow-hide", name);
}

/**
 * @param {{ row: any, columns: Column[], to?: (row: any) => string, open?: (row: any) => void,
 *   isSelected: boolean, onFocus: () => void }} props
 */
function Row({ row, columns, to, open, isSelected, onFocus }) {
  const onClick = (/** @type {MouseEvent} */ event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target instanceof Element && event.target.closest("a, button, input, label, summary")) return;
    if (!getSelection()?.isCollapsed) return; // a text is marked, to copy it
    open?.(row);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" || event.target !== event.currentTarget) return;
    event.preventDefault();
    open?.(row);
  };
  return html`<tr class=${classes(open && "row-opens", isSelected && "row-selected")}
    aria-selected=${isSelected ? "true" : undefined}
    tabindex=${open ? -1 : undefined} onFocus=${onFocus}
    onClick=${open && onClick} onKeyDown=${open && onKeyDown}>
    ${columns.map((column, place) => {
      const content = column.cell(row);
      const title = column.name ?? (typeof column.title === "string" ? column.title : undefined);
      return html`<td key=${place} class=${cellClass(column)} data-label=${title}>${
        place > 0 || !open ? content
          : to ? html`<a class="row-link" href=${hrefOf(to(row))}>${content}</a>`
          : html`<button type="button" class="row-link"
            onClick=${() => open(row)}>${content}</button>`}</td>`;
    })}
  </tr>`;
}

/**
 * From page to page of a list of useList, by button or the keys `n` and `p`.
 * @param {{ list: import("../lib/resource.js").List, children?: any }} props  children: what is counted, at
 *   the left
 */
export function Pages({ list, children }) {
  const go = (/** @type {(() => void) | null} */ move) => {
    if (!move) return false;
    move();
    return undefined;
  };
  useKeys([
    ["n", "next page", () => go(list.next)],
    ["p", "previous page", () => go(list.previous)],
  ], "Lists");
  if (!list.next && !list.previous && !children) return null;
  return html`<nav class="pages" aria-label="Pages">
    <span class="faint">${children}</span>
    <span class="pages-buttons">
      <button type="button" disabled=${!list.previous} onClick=${() => list.previous?.()}>← Previous</button>
      <button type="button" disabled=${!list.next} onClick=${() => list.next?.()}>Next →</button>
    </span>
  </nav>`;
}
