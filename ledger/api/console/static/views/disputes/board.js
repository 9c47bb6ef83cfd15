// The board: a column for each state of a dispute, a card for each dispute.

import { formatCount, formatMoney, formatName, formatNumberOf } from "../../lib/format.js";
import { useKeys } from "../../lib/keyboard.js";
import { useResource } from "../../lib/resource.js";
import { hrefOf } from "../../lib/router.js";
import { html, useRef } from "../../lib/ui.js";
import { Loading, Notice } from "../../parts/notice.js";
import { Badge, Money, Time } from "../../parts/values.js";
import { Due } from "./due.js";
import { COLUMNS, describeStatus } from "./statuses.js";

const CARDS = 20;
const EVERY_SECONDS = 5;
const AMOUNTS_SHOWN = 2;

/** @param {{ summary: any, reason: string | null, bounds: Record<string, any> }} props */
export function Board({ summary, reason, bounds }) {
  const board = useRef(/** @type {HTMLElement | null} */ (null));
  const move = (/** @type {number} */ columns, /** @type {number} */ cards) =>
    moveFocus(board.current, columns, cards);
  useKeys([
    ["j", "next card", () => move(0, 1)], ["k", "previous card", () => move(0, -1)],
    ["l", "next column", () => move(1, 0)], ["h", "previous column", () => move(-1, 0)],
    ["ArrowDown", "next card", () => move(0, 1)], ["ArrowUp", "previous card", () => move(0, -1)],
    ["ArrowRight", "next column", () => move(1, 0)], ["ArrowLeft", "previous column", () => move(-1, 0)],
    ["Enter", "open the card", () => false],
  ], "Board");
  // Only what awaits a response has a due date that counts.
  const isBounded = Object.keys(bounds).length > 0;
  const columns = isBounded ? COLUMNS.filter(({ order }) => order === "due_by") : COLUMNS;
  return html`<div class="board" ref=${board} role="region" aria-label="Board of disputes" tabindex="0">
    ${columns.map((column) => html`<${Column} key=${column.name} column=${column} reason=${reason}
      bounds=${bounds} summary=${isBounded ? null : summary} />`)}
  </div>`;
}

/**
 * Move the focus to another card, as far as there is one. From outside it goes to the first card.
 * @param {HTMLElement | null} board
 * @param {number} columns
 * @param {number} cards
 */
function moveFocus(board, columns, cards) {
  const all = [...(board?.querySelectorAll(".board-column") ?? [])]
    .map((column) => /** @type {HTMLElement[]} */ ([...column.querySelectorAll("a.dispute-card")]))
    .filter((column) => column.length > 0);
  const place = all.findIndex((column) => column.some((card) => card === document.activeElement));
  const column = all[place < 0 ? 0 : clamp(place + columns, all.length)];
  if (!column) return false;
  const current = all[place]?.findIndex((each) => each === document.activeElement) ?? -cards;
  const card = column[clamp(current + cards, column.length)];
  card?.focus({ preventScroll: true });
  card?.scrollIntoView({ block: "nearest", inline: "nearest" });
  return true;
}

/** @type {(place: number, length: number) => number} */
function clamp(place, length) {
  return Math.min(Math.max(place, 0), length - 1);
}

/** @typedef {typeof COLUMNS[number]} BoardColumn */

/**
 * @param {{ column: BoardColumn, summary: any, reason: string | null, bounds: Record<string, any> }} props
 */
function Column({ column, summary, reason, bounds }) {
  const { statuses, order, title, name } = column;
  const params = { status: statuses, reason, order, limit: CARDS, ...bounds };
  const { data, error, reload } = useResource("/internal/v1/disputes", params, { every: EVERY_SECONDS });
  const rows = /** @type {any[]} */ (data?.data ?? []);
  const list = { view: "list", status: statuses.join(","), reason, order: order === "created" && order };
  return html`<section class="board-column" aria-labelledby=${`column-${name}`}>
    <header>
      <h2 id=${`column-${name}`}>${title}</h2>
      ${summary ? html`<${Total} statuses=${statuses} summary=${summary} />`
        : data && html`<span class="board-count number">${rows.length}${data.has_more && "+"}</span>`}
    </header>
    ${error && html`<${Notice} error=${error} retry=${reload} />`}
    ${!data && !error && html`<${Loading} lines=${3} />`}
    ${data && rows.length === 0 && html`<p class="board-empty">None.</p>`}
    ${rows.length > 0 && html`<ul class="board-cards">
      ${rows.map((dispute) => html`<li key=${dispute.id}><${Card} dispute=${dispute} /></li>`)}
    </ul>`}
    ${data?.has_more && html`<a class="board-more" href=${hrefOf("disputes", list)}>All as a list</a>`}
  </section>`;
}

/**
 * How many a column has, and over how much.
 * @param {{ statuses: string[], summary: any }} props
 */
function Total({ statuses, summary }) {
  const counted = /** @type {any[]} */ (summary.statuses).filter(({ status }) => statuses.includes(status));
  const count = counted.reduce((sum, each) => sum + each.count, 0);
  const isCut = counted.some((each) => each.has_more);
  const amounts = isCut ? [] : sumAmounts(counted);
  const more = amounts.length - AMOUNTS_SHOWN;
  return html`<span class="board-count number">${formatCount(count)}${isCut && "+"}</span>
    ${amounts.length > 0 && html`<p class="board-sums">
      ${amounts.slice(0, AMOUNTS_SHOWN).map(([currency, amount]) =>
        html`<span key=${currency} class="number">${formatMoney(amount, currency)}</span>`)}
      ${more > 0 && html`<span>and ${formatNumberOf(more, "currency", "currencies")}</span>`}
    </p>`}`;
}

/**
 * @param {any[]} counted
 * @returns {[currency: string, amount: bigint][]}
 */
function sumAmounts(counted) {
  /** @type {Map<string, bigint>} */
  const sums = new Map();
  for (const { amounts } of counted) {
    for (const [currency, amount] of Object.entries(amounts ?? {})) {
      sums.set(currency, (sums.get(currency) ?? 0n) + BigInt(/** @type {number} */ (amount)));
    }
  }
  return [...sums].sort(([, one], [, other]) => (one < other ? 1 : -1));
}

/** @param {{ dispute: any }} props */
function Card({ dispute }) {
  const { amount, currency } = dispute;
  const { tone, kind } = describeStatus(dispute.status);
  const code = dispute.network_reason_code && ` · ${dispute.network_reason_code}`;
  return html`<a class="dispute-card" href=${hrefOf(`disputes/${encodeURIComponent(dispute.id)}`)}>
    <span class="card-head"><strong><${Money} amount=${amount} currency=${currency} /></strong>
      <${Due} dispute=${dispute} />${kind && html`<${Badge} tone=${tone}>${kind}</${Badge}>`}</span>
    <span class="card-reason">${formatName(dispute.reason)}${code}</span>
    <${CardLine} name="charge" id=${dispute.charge} />
    ${dispute.customer && html`<${CardLine} name="customer" id=${dispute.customer} />`}
    <span class="card-foot"><span>${describeEvidence(dispute)}</span><${Time} at=${dispute.created} /></span>
  </a>`;
}

/** @param {{ name: string, id: string }} props */
function CardLine({ name, id }) {
  return html`<span class="card-line">
    <span class="card-name">${name}</span><span class="id">${id}</span></span>`;
}

/** @param {any} dispute */
export function describeEvidence({ submission_count: count, has_evidence: hasEvidence, past_due: pastDue }) {
  if (count > 0) return `submitted${count > 1 ? ` ${count} times` : ""}${pastDue ? ", too late" : ""}`;
  return hasEvidence ? "staged" : "no evidence";
}
