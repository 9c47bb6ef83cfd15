// The trial balance at a moment, by currency; with a second moment also what changed between the two.

import { formatCount, formatName, readClock } from "../../lib/format.js";
import { useResource } from "../../lib/resource.js";
import { hrefOf } from "../../lib/router.js";
import { html } from "../../lib/ui.js";
import { Filters } from "../../parts/forms.js";
import { Empty, Loading, Note, Notice } from "../../parts/notice.js";
import { Table } from "../../parts/table.js";
import { Badge, IdLink, Money } from "../../parts/values.js";
import { MEANINGS } from "./ledger-accounts.js";

const PATH = "/internal/v1/audit/trial_balance";
const DAY_SECONDS = 86_400;

/**
 * @typedef {{ ledger_account?: string, currency: string, debits: number, credits: number, balance: number }}
 *   Sums
 */
/**
 * @typedef {Sums & { before: number | null, isTotal: boolean }} BookRow  `before`: the balance at the other
 *   moment
 */

/** @param {{ query: URLSearchParams }} props */
export function TrialBalance({ query }) {
  const at = query.get("at");
  const other = query.get("compare");
  const currency = query.get("currency");
  const books = useResource(PATH, { at, currency });
  const before = useResource(other === null ? null : PATH, { at: other, currency });
  const isLoading = (books.isLoading && !books.data) || (before.isLoading && !before.data);
  return html`<${Filters} query=${query} filters=${[
      { name: "at", label: "At", placeholder: "now" },
      { name: "compare", label: "Compare with", placeholder: "2026-11-28 19:30" },
      { name: "currency", label: "Currency", placeholder: "usd" },
    ]}><${Moments} /></${Filters}>
    <${Notice} error=${books.error ?? before.error}
      title=${(books.error ?? before.error) && "The books cannot be shown"} />
    ${isLoading && html`<${Loading} />`}
    ${books.data && !books.error && !isLoading && html`<${Books} books=${books.data}
      before=${other === null ? null : before.data ?? null}
      isCompared=${other !== null} />`}`;
}

/** Moments that are asked for often. */
function Moments() {
  const now = readClock();
  const month = new Date(now * 1000);
  const begin = Date.UTC(month.getUTCFullYear(), month.getUTCMonth(), 1) / 1000;
  /** @type {[string, number | null][]} */
  const moments = [["now", null], ["an hour ago", now - 3600], ["a day ago", now - DAY_SECONDS],
    ["start of the month", begin]];
  return html`<span class="moments">${moments.map(([name, at]) =>
    html`<a key=${name} href=${hrefOf(location.pathname + location.search, { at })}>${name}</a>`)}</span>`;
}

/** @param {{ books: any, before: any, isCompared: boolean }} props */
function Books({ books, before, isCompared }) {
  const currencies = books.totals.map((/** @type {Sums} */ each) => each.currency);
  const earlier = (before?.totals ?? []).map((/** @type {Sums} */ each) => each.currency);
  const all = [...new Set([...currencies, ...earlier])].sort();
  return html`<${AsOf} books=${books} before=${before} isCompared=${isCompared} />
    <${Unreadable} records=${[...books.unreadable, ...(before?.unreadable ?? [])]} />
    ${all.length === 0 && html`<${Empty} title="No money had moved by then.">Charges, refunds and disputes
      make
      entries; the <a href=${hrefOf("money", { tab: "journal" })}>journal</a> has them all.</${Empty}>`}
    ${all.map((currency) => html`<${Currency} key=${currency} currency=${currency} books=${books}
      before=${before} isCompared=${isCompared} />`)}`;
}

/** @param {{ books: any, before: any, isCompared: boolean }} props */
function AsOf({ books, before, isCompared }) {
  const say = (/** @type {any} */ moment) =>
    `position ${formatCount(moment.position)}, ${moment.time.replace("T", " ").replace("Z", " UTC")}`;
  const compared = isCompared ? before ? `, compared with ${say(before.as_of)}` : ", compared with …" : "";
  return html`<p class="soft as-of">As of ${say(books.as_of)}${compared}.</p>`;
}

/** @param {{ records: { position: number, object: string, reason: string }[] }} props */
function Unreadable({ records }) {
  if (!records.length) return null;
  return html`<${Note} tone="warning" title="Records that cannot be read are left out.">
    <ul>${records.map((each) =>
      html`<li key=${each.position}>Position ${formatCount(each.position)}: <${IdLink} id=${each.object} />
      ${` (${formatName(each.reason)})`}</li>`)}</ul></${Note}>`;
}

/** @param {{ currency: string, books: any, before: any, isCompared: boolean }} props */
function Currency({ currency, books, before, isCompared }) {
  const rows = listRows(currency, books, before);
  const total = rows.at(-1);
  const isZero = total?.balance === 0 && (total.before ?? 0) === 0;
  const balance = (/** @type {any} */ row, /** @type {number | null} */ amount) =>
    (row.isTotal ? html`<strong><${Money} amount=${amount} currency=${currency} /></strong>`
      : html`<${Money} amount=${amount} currency=${currency} />`);
  /** @type {import("../../parts/table.js").Column[]} */
  const columns = [
    { title: "Account", cell: (row) => (row.isTotal ? html`<strong>Total</strong>`
      : html`<span>${formatName(row.ledger_account)}</span>
      <span class="hint meaning">${MEANINGS[row.ledger_account]}</span>`) },
    { title: "Debits", align: "end", cell: (row) => balance(row, row.debits) },
    { title: "Credits", align: "end", cell: (row) => balance(row, row.credits) },
    { title: "Balance", align: "end", cell: (row) => balance(row, row.balance) },
  ];
  if (isCompared) {
    columns.push({ title: "Balance compared", align: "end", cell: (row) => balance(row, row.before) });
    columns.push({ title: "Change", align: "end", cell: (row) =>
      balance(row, row.before === null ? null : row.balance - row.before) });
  }
  return html`<section class="panel" aria-label=${`Books in ${currency.toUpperCase()}`}>
    <header><h2>${currency.toUpperCase()}</h2>${isZero
      ? html`<${Badge} tone="ok">debits and credits are equal</${Badge}>`
      : html`<${Badge} tone="danger">does not balance</${Badge}>`}</header>
    <${Table} label=${`Trial balance in ${currency.toUpperCase()}`} columns=${columns} rows=${rows}
      keys=${false}
      rowKey=${(/** @type {any} */ row) => row.ledger_account ?? "total"}
      to=${(/** @type {any} */ row) => placeOfPostings(row, currency, books.as_of.position)} />
    <p class="hint panel-foot">Balance: debits less credits. Positive, what is owed to us; negative, what we
      owe or have earned.</p>
  </section>`;
}

/** @param {BookRow} row @param {string} currency @param {number} position */
function placeOfPostings(row, currency, position) {
  const params = new URLSearchParams({ tab: "journal", currency, at: `position:${position}` });
  if (row.ledger_account) params.set("ledger_account", row.ledger_account);
  return `money?${params}`;
}

/**
 * The accounts of a currency, and its total as the last one.
 * @param {string} currency @param {any} books @param {any} before @returns {BookRow[]}
 */
function listRows(currency, books, before) {
  const none = { currency, debits: 0, credits: 0, balance: 0 };
  const find = (/** @type {any} */ from, /** @type {string} */ name) => from?.accounts.find(
    (/** @type {Sums} */ each) => each.currency === currency && each.ledger_account === name);
  const findTotal = (/** @type {any} */ from) =>
    from?.totals.find((/** @type {Sums} */ each) => each.currency === currency);
  const names = Object.keys(MEANINGS).filter((name) => find(books, name) || find(before, name));
  const balanceOf = (/** @type {Sums | undefined} */ sums) => (before ? sums?.balance ?? 0 : null);
  return [
    ...names.map((name) => ({ ...none, ledger_account: name, ...find(books, name),
      before: balanceOf(find(before, name)), isTotal: false })),
    { ...none, ...findTotal(books), before: balanceOf(findTotal(before)), isTotal: true },
  ];
}
