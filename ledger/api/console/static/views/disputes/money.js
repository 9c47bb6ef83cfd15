// What the dispute moved: its balance transactions, and the postings of the journal.

import { useResource } from "../../lib/resource.js";
import { hasScope } from "../../lib/session.js";
import { hrefOf } from "../../lib/router.js";
import { html } from "../../lib/ui.js";
import { Notice } from "../../parts/notice.js";
import { Table } from "../../parts/table.js";
import { IdLink, Money, Time } from "../../parts/values.js";

const POSTINGS_MAX = 50;

/** @param {{ dispute: any }} props */
export function MoneyLegs({ dispute }) {
  const transactions = dispute.balance_transactions;
  return html`<section class="panel" aria-labelledby="money"><header><h2 id="money">Money</h2></header>
    ${transactions.length === 0 && html`<div class="panel-body">
      <p class="soft">It has moved no money.</p></div>`}
    ${transactions.map((/** @type {any} */ each) => html`<${Leg} key=${each.id} transaction=${each} />`)}
    ${transactions.length > 0 && hasScope("audit") && html`<${Postings} dispute=${dispute.id} />`}
  </section>`;
}

/** @param {{ transaction: any }} props */
function Leg({ transaction }) {
  const { currency } = transaction;
  return html`<div class="panel-body leg">
    <p class="leg-head">
      <strong>${transaction.reporting_category === "dispute" ? "Withdrawn" : "Returned"}</strong>
      <${IdLink} id=${transaction.id} to=${`objects/${transaction.id}`} /></p>
    <dl class="leg-sums">
      <div><dt>Amount</dt><dd><${Money} amount=${transaction.amount} currency=${currency} /></dd></div>
      <div><dt>Fee</dt><dd><${Money} amount=${transaction.fee} currency=${currency} /></dd></div>
      <div><dt>Net</dt><dd><${Money} amount=${transaction.net} currency=${currency} /></dd></div>
    </dl>
    <p class="hint"><${Time} at=${transaction.created} />, ${transaction.status}</p>
  </div>`;
}

/** @param {string} wanted */
function showSide(wanted) {
  return (/** @type {any} */ { side, amount, currency }) =>
    (side === wanted ? html`<${Money} amount=${amount} currency=${currency} />` : null);
}

/** @type {import("../../parts/table.js").Column[]} */
const COLUMNS = [
  { title: "Account", cell: ({ ledger_account: account }) => account.replaceAll("_", " ") },
  { title: "Debit", align: "end", cell: showSide("debit") },
  { title: "Credit", align: "end", cell: showSide("credit") },
];

/** @param {{ dispute: string }} props */
function Postings({ dispute }) {
  const params = { object: dispute, limit: POSTINGS_MAX };
  const { data, error } = useResource("/internal/v1/audit/journal", params);
  if (error) {
    const title = "The journal could not be read.";
    return html`<div class="panel-body"><${Notice} error=${error} title=${title} /></div>`;
  }
  if (!data) return null;
  const all = hrefOf("money", { object: dispute });
  return html`<div class="panel-body"><h3 class="row">Journal <a href=${all}>all of it</a></h3></div>
    <${Table} label="Postings of the dispute" columns=${COLUMNS} rows=${data.data} keys=${false}
      rowKey=${(/** @type {any} */ row) => `${row.position}-${row.ordinal}`} />`;
}
