// What a response still lacks: by the reason, and by the programs of enhanced evidence.

import { formatName } from "../../lib/format.js";
import { setQuery } from "../../lib/router.js";
import { html } from "../../lib/ui.js";
import { Select } from "../../parts/forms.js";
import { Badge } from "../../parts/values.js";
import { guessSold, listFields, PROGRAMS, REQUIRED_ACTIONS, SOLD, SOURCE } from "./guidance.js";
import { AWAITING } from "./statuses.js";

/** @param {{ dispute: any, query: URLSearchParams }} props */
export function Missing({ dispute, query }) {
  const isAwaited = AWAITING.includes(dispute.status);
  const sold = /** @type {import("./guidance.js").Sold} */ (
    SOLD.find(([value]) => value === query.get("sold"))?.[0] ?? guessSold(dispute.evidence));
  const fields = listFields(dispute.reason, sold);
  const missing = fields.filter((name) => !dispute.evidence[name]).length;
  const programs = Object.entries(dispute.evidence_details.enhanced_eligibility ?? {});
  const tone = missing === 0 ? "ok" : isAwaited ? "warning" : "neutral";
  if (dispute.status === "appeal_needs_response") return html`<${AppealOnly} dispute=${dispute} />`;
  return html`<section class="panel" aria-labelledby="missing">
    <header><h2 id="missing">${isAwaited ? "What is missing" : "What the response had"}</h2>
      ${fields.length > 0 && html`<${Badge} tone=${tone}>${
        missing === 0 ? "all listed is there" : `${missing} of ${fields.length} not there`}</${Badge}>`}
    </header>
    <div class="panel-body stack">
      ${programs.map(([name, program]) => html`<${Program} key=${name} name=${name} program=${program} />`)}
      ${fields.length === 0 ? html`<${NoFields} reason=${dispute.reason} />`
        : html`<${Fields} dispute=${dispute} sold=${sold} fields=${fields} />`}
    </div>
  </section>`;
}

/** @param {{ reason: string }} props */
function NoFields({ reason }) {
  return html`<p class="soft">For the reason “${formatName(reason)}” no fields are recommended. Whatever
    explains the payment can be sent as <code>uncategorized_text</code> and${" "}
    <code>uncategorized_file</code>.</p>`;
}

/** @param {{ dispute: any, sold: string, fields: string[] }} props */
function Fields({ dispute, sold, fields }) {
  const choose = (/** @type {string} */ value) => setQuery({ sold: value }, { replace: true });
  return html`<div class="missing-sold">
      <${Select} label="What was sold" value=${sold} options=${SOLD} onChange=${choose} /></div>
    <ul class="missing-list">${fields.map((name) =>
      html`<${Item} key=${name} isThere=${Boolean(dispute.evidence[name])} what=${formatName(name)} />`)}</ul>
    <p class="hint">Fields that count for the reason “${formatName(dispute.reason)}”, by${" "}
      <a href=${SOURCE} target="_blank" rel="noreferrer">Stripe's list of categories</a>. None of them is
      required.</p>`;
}

/** @param {{ isThere: boolean, what: string }} props */
function Item({ isThere, what }) {
  return html`<li class=${isThere ? "missing-there" : "missing-not"}>
    <span class="missing-sign" aria-hidden="true">${isThere ? "✓" : "○"}</span>
    <span>${what}<span class="visually-hidden">${isThere ? ": there" : ": missing"}</span></span>
  </li>`;
}

/** @param {{ name: string, program: any }} props */
function Program({ name, program }) {
  const actions = /** @type {string[]} */ (program.required_actions ?? []);
  const isDone = program.status === "qualified" || program.status === "fee_acknowledged";
  return html`<div>
    <h3 class="row">${PROGRAMS[name] ?? formatName(name)}
      <${Badge} tone=${isDone ? "ok" : "warning"}>${formatName(program.status)}</${Badge}></h3>
    ${actions.length > 0 && html`<ul class="missing-list missing-list-wide">${actions.map((each) =>
      html`<${Item} key=${each} isThere=${false} what=${REQUIRED_ACTIONS[each] ?? formatName(each)} />`)}
    </ul>`}
    ${program.status === "requires_fee_acknowledgement" && html`<p class="soft">The network charges a fee for
      this case; a response has to acknowledge it.</p>`}
  </div>`;
}

/** @param {{ dispute: any }} props */
function AppealOnly({ dispute }) {
  const appeal = dispute.evidence.appeal?.card;
  return html`<section class="panel"><header><h2>What is missing</h2></header><div class="panel-body stack">
    <p class="soft">The dispute was lost and can be appealed. An appeal takes evidence of its own only.</p>
    <ul class="missing-list">
      <${Item} isThere=${Boolean(appeal?.reason_for_filing)} what="reason for filing" />
      <${Item} isThere=${Boolean(appeal?.supporting_files?.length)} what="supporting files" />
    </ul>
  </div></section>`;
}
