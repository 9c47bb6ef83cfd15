// All disputes: the board, or the list, and how many are due when.

import { clock, formatCount } from "../../lib/format.js";
import { useResource } from "../../lib/resource.js";
import { hrefOf, setQuery } from "../../lib/router.js";
import { useKeys } from "../../lib/keyboard.js";
import { classes, html, useEffect, useMemo, useState } from "../../lib/ui.js";
import { Filters, Select } from "../../parts/forms.js";
import { Note, Notice, Page } from "../../parts/notice.js";
import { Board } from "./board.js";
import { DUE_FILTERS, DUE_OPTIONS } from "./due.js";
import { List } from "./list.js";
import { REASONS, STATUS_OPTIONS } from "./statuses.js";

const PATH = "/internal/v1/disputes/summary";
const EVERY_SECONDS = 5;
const NARROW = matchMedia("(max-width: 760px)");

/** @type {[form: string, title: string][]} */
const FORMS = [["board", "Board"], ["list", "List"]];

/** @type {[order: string, title: string][]} */
const ORDERS = [["due_by", "due first"], ["created", "newest first"]];

/** @param {{ query: URLSearchParams }} props */
export function Overview({ query }) {
  const isNarrow = useNarrow();
  const isBoard = (query.get("view") ?? (isNarrow ? "list" : "board")) === "board";
  const reason = query.get("reason");
  const { data: summary, error, reload } = useResource(PATH, { reason }, { every: EVERY_SECONDS });
  const due = query.get("due");
  const isUnknownDue = due !== null && !(due in DUE_FILTERS);
  const bounds = useBounds(due);
  const show = (/** @type {string} */ form) => setQuery({ view: form, after: null });
  useKeys([["b", "board or list", () => show(isBoard ? "list" : "board")]]);
  return html`<${Page} title="Disputes" lead="By status and due date. Evidence is only read here.">
      <div class="dispute-forms" role="group" aria-label="Form">
        ${FORMS.map(([form, title]) => html`<button type="button" key=${form} onClick=${() => show(form)}
          aria-pressed=${(form === "board") === isBoard ? "true" : "false"}>${title}</button>`)}
      </div>
    </${Page}>
    ${error && html`<${Notice} error=${error} retry=${reload} />`}
    <${DueCounts} summary=${summary} query=${query} />
    <${Filters} query=${query} filters=${listFilters(isBoard)}>
      ${!isBoard && !query.has("due") && html`<${Order} query=${query} />`}
    </${Filters}>
    ${isUnknownDue && html`<${Note} tone="warning" title=${`“${due}” is no choice of Due`}>
      Choose one above: past, 24h, 72h or 7d in the URL.</${Note}>`}
    ${isBoard ? html`<${Board} summary=${summary} reason=${reason} bounds=${bounds} />`
      : html`<${List} query=${query} reason=${reason} bounds=${bounds} />`}`;
}

/** Bounds on the due date go with its order only. @param {{ query: URLSearchParams }} props */
function Order({ query }) {
  const choose = (/** @type {string} */ order) =>
    setQuery({ order: order === "created" ? order : null, after: null });
  return html`<${Select} label="Order" value=${query.get("order") ?? "due_by"} options=${ORDERS}
    onChange=${choose} />`;
}

/**
 * @param {boolean} isBoard
 * @returns {import("../../parts/forms.js").Filter[]}
 */
function listFilters(isBoard) {
  /** @type {[string, string][]} */
  const reasons = REASONS.map((each) => [each, each.replaceAll("_", " ")]);
  /** @type {import("../../parts/forms.js").Filter[]} */
  const shared = [
    { name: "reason", label: "Reason", type: "select", options: reasons },
    { name: "due", label: "Due", type: "select", options: DUE_OPTIONS },
  ];
  if (isBoard) return shared;
  return [{ name: "status", label: "Status", type: "select", options: STATUS_OPTIONS }, ...shared];
}

/**
 * How many that need a response are due when; each leads to them.
 * @param {{ summary: any, query: URLSearchParams }} props
 */
function DueCounts({ summary, query }) {
  const statuses = /** @type {any[] | undefined} */ (summary?.statuses);
  const count = (/** @type {string} */ name) => statuses?.reduce((sum, each) => sum + (each[name] ?? 0), 0);
  /** @type {[due: string, title: string, count: number | undefined, tone: string][]} */
  const figures = [
    ["past", "past due", count("past_due"), "danger"],
    ["24h", "due within 24 hours", count("due_within_24_hours"), "danger"],
    ["72h", "due within 72 hours", count("due_within_72_hours"), "warning"],
  ];
  const chosen = query.get("due");
  const others = Object.fromEntries(query);
  return html`<ul class="due-counts" aria-label="Disputes that need a response">
    ${figures.map(([due, title, value, tone]) => html`<li key=${due}>
      <a href=${hrefOf("disputes", { ...others, due: due === chosen ? null : due, after: null })}
        aria-current=${due === chosen ? "true" : undefined}
        class=${classes("due-count", Boolean(value) && `due-count-${tone}`)}>
        <span class="due-figure">${value === undefined ? "…" : formatCount(value)}</span>${" "}
        <span>${title}</span></a></li>`)}
  </ul>`;
}

/**
 * The bounds on due dates that the filter means now, to the minute: else each second would ask anew.
 * @param {string | null} due
 * @returns {Record<string, any>}
 */
function useBounds(due) {
  const minute = Math.floor(clock.value / 60);
  return useMemo(() => {
    const seconds = due === null ? undefined : DUE_FILTERS[due];
    if (seconds === undefined) return {};
    const now = minute * 60;
    return { due_by: due === "past" ? { lte: now } : { gte: now, lte: now + seconds } };
  }, [due, minute]);
}

function useNarrow() {
  const [isNarrow, setNarrow] = useState(NARROW.matches);
  useEffect(() => {
    const change = () => setNarrow(NARROW.matches);
    NARROW.addEventListener("change", change);
    return () => NARROW.removeEventListener("change", change);
  }, []);
  return isNarrow;
}
