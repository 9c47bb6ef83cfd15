// Send again all deliveries that match: counted first, then confirmed with a reason, then a job.

import { post } from "../../lib/api.js";
import { formatCount, formatNumberOf, readClock } from "../../lib/format.js";
import { hrefOf } from "../../lib/router.js";
import { html, useMemo, useState } from "../../lib/ui.js";
import { ActionDialog } from "../../parts/dialog.js";
import { Checkbox, Field, Select } from "../../parts/forms.js";
import { Note, Notice } from "../../parts/notice.js";
import { useDryRun } from "./dry-run.js";
import { describeFilters, describeLeftOut, ERRORS, RETRIED_STATES } from "./words.js";

const PATH = "/internal/v1/webhooks/retries";

/**
 * @param {ReturnType<typeof import("./words.js").readFilters>} filters
 * @param {string[]} states
 * @param {string} result  of the last attempt: a status, or the code of an error
 * @param {number} now
 */
function buildBody(filters, states, result, now) {
  const { endpoint, types, created } = filters;
  // What is made after the count is not part of what is confirmed.
  const bounds = { ...created, lt: Math.min(created.lt ?? Infinity, now + 1) };
  const isStatus = /^[1-5]\d\d$/.test(result);
  return {
    ...(endpoint ? { endpoint } : {}), state: states, types, created: bounds,
    ...(isStatus ? { status: Number(result) } : result ? { error: result } : {}),
  };
}

/**
 * @param {{ filters: ReturnType<typeof import("./words.js").readFilters>, onDone: () => void, onClose: () =>
 *   void }} props
 */
export function RetryDialog({ filters, onDone, onClose }) {
  const known = RETRIED_STATES.map(([state]) => state);
  const chosen = filters.state.filter((state) => known.includes(state));
  const [states, setStates] = useState(chosen.length > 0 ? chosen : ["failed", "dropped"]);
  const [result, setResult] = useState("");
  const now = useMemo(readClock, []);
  const isWrong = result !== "" && !/^[1-5]\d\d$/.test(result) && !ERRORS.some(([code]) => code === result);
  const isAsked = states.length > 0 && !isWrong && filters.wrong === null;
  const body = isAsked ? buildBody(filters, states, result, now) : null;
  const { preview, error, isCounting } = useDryRun(PATH, body);
  const due = preview?.due ?? 0;
  const run = async (/** @type {string} */ reason, /** @type {string} */ idempotencyKey) => {
    const job = await post(PATH, { ...body, reason }, { idempotencyKey });
    return html`<p>The job <a class="id" href=${hrefOf(`deliveries/${job.id}`)} onClick=${onClose}>${
      job.id}</a> has begun. Its progress is at the top of the page.</p>`;
  };
  const toggle = (/** @type {string} */ state) => (/** @type {boolean} */ isOn) =>
    setStates(isOn ? [...states, state] : states.filter((each) => each !== state));
  return html`<${ActionDialog} label="Send again" title="Send again all that match" reason="required"
    confirm=${due ? `Send ${formatNumberOf(due, "delivery", "deliveries")} again` : "Send again"} run=${run}
    onDone=${onDone} onClose=${onClose} disabled=${!due || isCounting}>
    <fieldset class="job-states"><legend>Deliveries that are</legend>
      ${RETRIED_STATES.map(([state, meaning]) => html`<${Checkbox} key=${state} label=${state} hint=${meaning}
        checked=${states.includes(state)} onChange=${toggle(state)} />`)}</fieldset>
    <${LastResult} result=${result} onChange=${setResult} isWrong=${isWrong} />
    <p class="hint">${body ? describeFilters({ ...body, event: null }) : "Choose a state."}${
      filters.endpoint ? "" : " · to all endpoints"}</p>
    <${Notice} error=${error} />
    <div class="stack" aria-live="polite">${isCounting ? html`<p class="faint">Counting …</p>`
      : preview && html`<${Counted} preview=${preview} />`}</div>
  </${ActionDialog}>`;
}

/** @param {{ result: string, onChange: (result: string) => void, isWrong: boolean }} props */
function LastResult({ result, onChange, isWrong }) {
  const isStatus = /^\d/.test(result);
  return html`<div class="job-result">
    <${Select} label="Last error" value=${isStatus ? "" : result} onChange=${onChange}
      options=${[["", isStatus ? "none: a status" : "any result"], ...ERRORS]} />
    <${Field} label="Last HTTP status" value=${isStatus ? result : ""} onInput=${onChange} inputmode="numeric"
      placeholder="any" maxlength="3" error=${isWrong && "Three digits, such as 503."} />
  </div>`;
}

/** @param {{ preview: any }} props */
function Counted({ preview }) {
  const { due, matched, is_complete: isComplete, endpoints } = preview;
  if (matched === 0 && isComplete) {
    return html`<${Note} title="No delivery matches">
      <p>What still waits is “pending”: choose it to send that now. Else change the filters of the page.</p>
    </${Note}>`;
  }
  const many = `${isComplete ? "" : "More than "}${formatNumberOf(due, "delivery", "deliveries")}`;
  const twice = endpoints.reduce((/** @type {number} */ sum, /** @type {any} */ each) =>
    sum + (each.by_state.delivered ?? 0), 0);
  return html`<${Note} tone=${isComplete ? "info" : "warning"} title=${`${many} would be sent again`}>
      <ul class="job-counts">${endpoints.map((/** @type {any} */ each) => html`<li key=${each.endpoint}>
        <span class="id">${each.endpoint}</span>${" "}<span class="number">${Object.entries(each.by_state)
          .map(([state, count]) => `${formatCount(Number(count))} ${state}`).join(", ")}</span>
        ${describeLeftOut(each.left_out).map((line) => html`<p class="hint" key=${line}>${line}</p>`)}
      </li>`)}</ul>
      ${!isComplete && html`<p>There are too many to count here; all that match are sent.</p>`}
    </${Note}>
    ${twice > 0 && html`<${Note} tone="warning" title=${`${formatCount(twice)} of them were accepted`}>
      Their receivers get these Events once more.</${Note}>`}`;
}
