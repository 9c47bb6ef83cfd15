// Replay the Events of a window to one endpoint: also those that it never had a delivery of.

import { post } from "../../lib/api.js";
import { formatCount, formatNumberOf } from "../../lib/format.js";
import { hrefOf } from "../../lib/router.js";
import { html, useState } from "../../lib/ui.js";
import { ActionDialog } from "../../parts/dialog.js";
import { Checkbox, Field, Select } from "../../parts/forms.js";
import { Note, Notice } from "../../parts/notice.js";
import { useDryRun } from "./dry-run.js";
import { parseTime, splitWords } from "./words.js";

const PATH = "/internal/v1/webhooks/replay";

/**
 * @param {{ endpoints: any[], filters: ReturnType<typeof import("./words.js").readFilters>, onDone: () =>
 *   void, onClose: () => void }} props
 */
export function ReplayDialog({ endpoints, filters, onDone, onClose }) {
  const [endpoint, setEndpoint] = useState(filters.endpoint ?? "");
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  const [types, setTypes] = useState(filters.types.join(" "));
  const [onlyFailed, setOnlyFailed] = useState(false);
  const since = from.trim() ? parseTime(from) : onlyFailed ? 0 : null;
  const before = to.trim() ? parseTime(to) : null;
  const isWrong = { from: from.trim() !== "" && since === null, to: to.trim() !== "" && before === null };
  const isAsked = endpoint !== "" && since !== null && !isWrong.to;
  const body = isAsked ? {
    endpoint, from: since, ...(before === null ? {} : { to: before }), types: splitWords(types),
    only_failed: onlyFailed,
  } : null;
  const { preview, error, isCounting } = useDryRun(PATH, body);
  const total = preview?.total ?? 0;
  const run = async (/** @type {string} */ reason, /** @type {string} */ idempotencyKey) => {
    const job = await post(PATH, { ...body, reason }, { idempotencyKey });
    return html`<p>The replay <a class="id" href=${hrefOf(`deliveries/${job.id}`)} onClick=${onClose}>${
      job.id}</a> has begun. Its progress is at the top of the page.</p>`;
  };
  return html`<${ActionDialog} label="Replay" title="Replay a window to an endpoint" reason="required"
    confirm=${total ? `Send ${formatNumberOf(total, "Event")}` : "Send"} run=${run} onDone=${onDone}
    onClose=${onClose} disabled=${!total || isCounting}>
    <p class="hint">Sends the Events of a time, of any age, also those that the endpoint was never owed.</p>
    <${Select} label="Endpoint" value=${endpoint} onChange=${setEndpoint}
      options=${[["", "choose one"], ...endpoints.map(({ id }) => id)]} />
    <div class="job-result">
      <${Field} label="From (UTC)" value=${from} onInput=${setFrom} placeholder="2026-11-28 19:30"
        error=${isWrong.from && "This is no time."} />
      <${Field} label="To (UTC)" value=${to} onInput=${setTo} placeholder="now"
        error=${isWrong.to && "This is no time."} />
    </div>
    <${Field} label="Types" value=${types} onInput=${setTypes} placeholder="all that it is subscribed to"
      hint="Names or groups such as charge.*" />
    <${Checkbox} label="Only what was given up" hint="needs no beginning" checked=${onlyFailed}
      onChange=${setOnlyFailed} />
    <${Notice} error=${error} />
    <div aria-live="polite">${isCounting ? html`<p class="faint">Counting …</p>`
      : preview ? html`<${Counted} preview=${preview} />`
      : !body && html`<p class="faint">Choose an endpoint and where the window begins.</p>`}</div>
  </${ActionDialog}>`;
}

/** @param {{ preview: any }} props */
function Counted({ preview }) {
  const { total, by_type: byType, unreadable } = preview;
  if (total === 0 && unreadable === 0) return html`<${Note} title="No Event in this window" />`;
  return html`<${Note} title=${`${formatNumberOf(total, "Event")} would be sent`}>
    <ul class="job-counts">${Object.entries(byType).map(([type, count]) => html`<li key=${type}>
      <span class="number">${formatCount(Number(count))}</span> ${type}</li>`)}</ul>
    ${unreadable > 0 && html`<p>${formatNumberOf(unreadable, "more Event")} cannot be made from the log at the
      moment: the view Projections says which stream is parked.</p>`}
  </${Note}>`;
}
