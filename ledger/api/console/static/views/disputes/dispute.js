// One dispute: the time left, what is missing, its evidence, its submissions, and its money.

import { formatName, formatNumberOf } from "../../lib/format.js";
import { useResource } from "../../lib/resource.js";
import { hrefOf } from "../../lib/router.js";
import { hasScope } from "../../lib/session.js";
import { html } from "../../lib/ui.js";
import { Json } from "../../parts/json.js";
import { Loading, NeedsScope, Notice, Page } from "../../parts/notice.js";
import { Badge, Copy, Facts, IdLink, Money, Time } from "../../parts/values.js";
import { Due } from "./due.js";
import { Evidence } from "./evidence.js";
import { Missing } from "./missing.js";
import { MoneyLegs } from "./money.js";
import { AWAITING, describeStatus } from "./statuses.js";
import { Submissions, useSubmissions } from "./submissions.js";

const EVERY_SECONDS = 5;

/** @param {{ id: string, query: URLSearchParams }} props */
export function Dispute({ id, query }) {
  const path = `/v1/disputes/${encodeURIComponent(id)}`;
  const { data: dispute, error, reload } = useResource(path, {}, { every: EVERY_SECONDS });
  const submissions = useSubmissions(id, dispute?.evidence_details.submission_count);
  const back = html`<a class="button" href=${hrefOf("disputes")}>All disputes</a>`;
  if (!dispute) {
    return html`<${Page} title=${`Dispute ${id}`}>${back}</${Page}>
      ${error ? html`<${Notice} error=${error} retry=${reload} />` : html`<${Loading} lines=${8} />`}`;
  }
  const { amount, currency, reason } = dispute;
  const title = html`<${Money} amount=${amount} currency=${currency} /> · ${formatName(reason)}`;
  return html`<${Page} name=${`Dispute ${id}`} title=${title} lead=${html`<${Lead} dispute=${dispute} />`}>
      <a class="button" href=${hrefOf(`objects/${encodeURIComponent(id)}`)}>Timeline</a>${back}
    </${Page}>
    ${error && html`<${Notice} error=${error} retry=${reload} />`}
    <div class="dispute-columns">
      <div class="stack">
        <${Missing} dispute=${dispute} query=${query} />
        <${Evidence} dispute=${dispute} submissions=${submissions} />
      </div>
      <div class="stack">
        <${Answer} dispute=${dispute} />
        <${About} dispute=${dispute} />
        <${MoneyLegs} dispute=${dispute} />
        <section class="panel" aria-labelledby="submissions">
          <header><h2 id="submissions">Submissions</h2></header>
          <${NeedsScope} scope="audit" what="The history of submissions">
            <${Submissions} id=${id} submissions=${submissions} />
          </${NeedsScope}>
        </section>
      </div>
    </div>`;
}

/** @param {{ dispute: any }} props */
function Lead({ dispute }) {
  const { title, tone } = describeStatus(dispute.status);
  return html`<span class="row">
    <span class="id">${dispute.id}</span><${Copy} text=${dispute.id} label="Copy id" />
    <${Badge} tone=${tone}>${title}</${Badge}>
    <${Due} dispute=${{ status: dispute.status, due_by: dispute.evidence_details.due_by }} /></span>`;
}

/** @param {{ dispute: any }} props */
function Answer({ dispute }) {
  const { due_by: dueBy, submission_count: count, past_due: pastDue } = dispute.evidence_details;
  return html`<section class="panel" aria-labelledby="response">
    <header><h2 id="response">Response</h2></header>
    <div class="panel-body"><${Facts} rows=${[
      ["Awaited", AWAITING.includes(dispute.status) ? "yes" : "no"],
      ["Due", dueBy ? html`<${Time} at=${dueBy} full />` : "the bank takes no response"],
      ["Submitted", html`<span class="row">${formatNumberOf(count, "time")}${
        pastDue && html`<${Badge} tone="danger">the last one too late</${Badge}>`}</span>`],
      ["Charge refundable", dispute.is_charge_refundable ? "yes" : "no"],
      dispute.intended_submission_method
        && ["Intended method", formatName(dispute.intended_submission_method)],
    ]} /></div>
  </section>`;
}

/** @param {{ dispute: any }} props */
function About({ dispute }) {
  const card = dispute.payment_method_details?.card;
  const hasMetadata = Object.keys(dispute.metadata).length > 0;
  return html`<section class="panel" aria-labelledby="about"><header><h2 id="about">Dispute</h2></header>
    <div class="panel-body">
    <${Facts} rows=${[
      ["Charge", html`<${IdLink} id=${dispute.charge} />`],
      ["Payment intent", html`<${IdLink} id=${dispute.payment_intent} />`],
      hasScope("rak_charge_read") && ["Customer", html`<${Customer} charge=${dispute.charge} />`],
      ["Network's code", dispute.network_reason_code],
      card && ["Case", formatName(card.case_type)],
      card && ["Card brand", card.brand],
      ["Opened", html`<${Time} at=${dispute.created} />`],
      ["Mode", dispute.livemode ? "live" : "test"],
    ]} />
    ${hasMetadata && html`<h3 class="dispute-part">Metadata</h3>
      <${Json} value=${dispute.metadata} label="Metadata" />`}
  </div></section>`;
}

/** The dispute does not name the customer, its charge does. @param {{ charge: string }} props */
function Customer({ charge }) {
  const { data, error } = useResource(`/v1/charges/${encodeURIComponent(charge)}`);
  if (error) return html`<span class="faint" title=${error.message}>could not be read</span>`;
  return data ? html`<${IdLink} id=${data.customer} />` : html`<span class="faint">…</span>`;
}
