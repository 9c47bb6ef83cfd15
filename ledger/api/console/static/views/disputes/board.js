// The board: a column for each state of a dispute, a card for each dispute.

import { formatCount, formatMoney, formatName } from "../../lib/format.js";
import { useKeys } from "../../lib/keyboard.js";
import { useResource } from "../../lib/resource.js";
import { hrefOf } from "../../lib/router.js";
import { html, useRef } from "../../lib/ui.js";
import { Loading, Notice } from "../../parts/notice.js";
import { Badge, Money, Time } from "../../parts/values.js";
import { Due } from "./due.js";
import { AWAITING, COLUMNS, describeStatus } from "./statuses.js";

const CARDS = 20;
const EVERY_SECONDS = 5;
const AMOUNTS_SHOWN = 2;

/** @param {{ summary: any, reason: string | null, bounds: Record<string, any> }} props */
export function Board({ summary, reason, bounds }) {
  const board = useRef(/** @type {HTMLElement | null} */ (null));
  const move = (/** @type {number} */ columns, /** @type {number} */ cards) => moveFocus(board.current, columns, cards);
  useKeys([
    ["j", "next card", () => move(0, 1)], ["k", "previous card", () => move(0, -1)],
    ["l", "next column", () => move(1, 0)], ["h", "previous column", () => move(-1, 0)],
    ["ArrowDown", "next card", () => move(0, 1)], ["ArrowUp", "previous card", () => move(0, -1)],
    ["ArrowRight", "next column", () => move(1, 0)], ["ArrowLeft", "previous column", () => move(-1, 0)],
    ["Enter", "open the card", () => false],
  ], "Board");
  // Only what awaits a response has a due date that counts.
  const isBounded = Object.keys(bounds).length > 0;
  const columns = isBounded ? COLUMNS.filter(({ statuses }) => statuses.some((each) => AWAITING.includes(each))) : COLUMNS;
  return html`<div class="board" ref=${board} role="region" aria-label="Board of disputes" tabindex="0">
    ${columns.map((column) => html`<${Column} key=${column.name} column=${column} summary=${isBounded ? null : summary}
      reason=${reason} bounds=${bounds} />`)}
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
  const column = all[place < 0 ? 0 : Math.min(Math.max(place + columns, 0), all.length - 1)];
  if (!column) return false;
  const number = place < 0 ? 0 : (all[place]?.findIndex((card) => card === document.activeElement) ?? 0) + cards;
  const card = column[Math.min(Math.max(number, 0), column.length - 1)];
  card?.focus({ preventScroll: true });
  card?.scrollIntoView({ block: "nearest", inline: "nearest" });
  return true;
}

/**
 * @param {{ column: typeof COLUMNS[number], summary: any, reason: string | null, bounds: Record<string, any> }} props
 */
function Column({ column, summary, reason, bounds }) {
  const { statuses, order, title, name } = column;
  const params = { status: statuses, reason, order, limit: CARDS, ...bounds };
  const { data, error, reload } = useResource("/internal/v1/disputes", params, { every: EVERY_SECONDS });
  const rows = data?.data ?? [];
  const list = hrefOf("disputes", { view: "list", status: statuses.join(","), reason, order: order === "created" ? order : null });
  return html`<section class="board-column" aria-labelledby=${`column-${name}`}>
    <header>
      <h2 id=${`column-${name}`}>${title}</h2>
      <${Total} column=${column} summary=${summary} rows=${data && rows} hasMore=${data?.has_more} />
    </header>
    ${error && html`<${Notice} error=${error} retry=${reload} />`}
    ${!data && !error && html`<${Loading} lines=${3} />`}
    ${data && rows.length === 0 && html`<p class="board-empty">None.</p>`}
    ${rows.length > 0 && html`<ul class="board-cards">
      ${rows.map((/** @type {any} */ dispute) => html`<li key=${dispute.id}><${Card} dispute=${dispute} column=${column} /></li>`)}
    </ul>`}
    ${data?.has_more && html`<a class="board-more" href=${list}>All of them as a list</a>`}
  </section>`;
}

/**
 * How many a column has and over how much: by the summary, or as far as its cards say.
 * @param {{ column: typeof COLUMNS[number], summary: any, rows: any[] | undefined, hasMore: boolean | undefined }} props
 */
function Total({ column, summary, rows, hasMore }) {
  const counted = summary?.statuses.filter((/** @type {any} */ each) => column.statuses.includes(each.status));
  if (!counted) return rows ? html`<span class="board-count number">${formatCount(rows.length)}${hasMore && "+"}</span>` : null;
  const count = counted.reduce((/** @type {number} */ sum, /** @type {any} */ each) => sum + each.count, 0);
  const isCut = counted.some((/** @type {any} */ each) => each.has_more);
  const amounts = isCut ? [] : sumAmounts(counted);
  return html`<span class="board-count number" title=${isCut ? "Counted up to here." : undefined}>${formatCount(count)}${isCut && "+"}</span>
    ${amounts.length > 0 && html`<p class="board-sums">
      ${amounts.slice(0, AMOUNTS_SHOWN).map(([currency, amount]) => html`<span key=${currency} class="number">${formatMoney(amount, currency)}</span>`)}
      ${amounts.length > AMOUNTS_SHOWN && html`<span>and ${amounts.length - AMOUNTS_SHOWN} more currencies</span>`}
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

/** @param {{ dispute: any, column: typeof COLUMNS[number] }} props */
function Card({ dispute, column }) {
  const { title, tone } = describeStatus(dispute.status);
  return html`<a class="dispute-card" href=${hrefOf(`disputes/${encodeURIComponent(dispute.id)}`)}>
    <span class="card-head"><strong><${Money} amount=${dispute.amount} currency=${dispute.currency} /></strong>
      <${Due} dispute=${dispute} /></span>
    <span class="card-reason">${formatName(dispute.reason)}${dispute.network_reason_code && ` · ${dispute.network_reason_code}`}</span>
    ${column.statuses.length > 1 && title !== column.title && html`<span><${Badge} tone=${tone}>${title}</${Badge}></span>`}
    <span class="card-line"><span class="card-name">charge</span><span class="id">${dispute.charge}</span></span>
    ${dispute.customer && html`<span class="card-line"><span class="card-name">customer</span><span class="id">${dispute.customer}</span></span>`}
    <span class="card-foot"><span>${describeEvidence(dispute)}</span><${Time} at=${dispute.created} /></span>
  </a>`;
}

/** @param {any} dispute */
export function describeEvidence({ submission_count: count, has_evidence: hasEvidence, past_due: pastDue }) {
  if (count > 0) return `submitted${count > 1 ? ` ${count} times` : ""}${pastDue ? ", too late" : ""}`;
  return hasEvidence ? "staged, not submitted" : "no evidence";
}
