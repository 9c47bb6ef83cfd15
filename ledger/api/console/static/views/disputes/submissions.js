// When evidence was submitted, by whom, and what it was then: from the history, by the scope `audit`.

import { get } from "../../lib/api.js";
import { useResource } from "../../lib/resource.js";
import { hrefOf } from "../../lib/router.js";
import { hasScope } from "../../lib/session.js";
import { html, useEffect, useState } from "../../lib/ui.js";
import { Loading, Notice } from "../../parts/notice.js";
import { IdLink, Time } from "../../parts/values.js";

const SUBMITTED = "dispute.evidence_submitted";
const CHANGES_MAX = 100;

/**
 * @typedef {object} SubmissionList
 * @property {any[] | null} all  changes of the history, the newest first; null while they are not known
 * @property {any} last  the evidence as it was after the newest one; null while it is not known
 * @property {any} error
 */

/**
 * The submissions of a dispute; asked for again when there is one more.
 * @param {string} id
 * @param {number | undefined} count  how many there are
 * @returns {SubmissionList}
 */
export function useSubmissions(id, count) {
  const mayRead = hasScope("audit") && Boolean(count);
  const path = `/internal/v1/audit/objects/${encodeURIComponent(id)}`;
  const params = { order: "desc", limit: CHANGES_MAX, count };
  const { data, error } = useResource(mayRead ? `${path}/history` : null, withoutCount(params));
  const changes = /** @type {any[] | undefined} */ (data?.data);
  const all = count === 0 ? [] : changes?.filter((change) => change.type === SUBMITTED) ?? null;
  const position = all?.[0]?.position;
  const [last, setLast] = useState(/** @type {any} */ (null));
  useEffect(() => {
    setLast(null);
    if (!position || !hasScope("personal_data")) return undefined;
    const abort = new AbortController();
    get(path, { at: `position:${position}` }, { signal: abort.signal }).then(
      (answer) => setLast(answer.object.evidence),
      () => {}, // then it is only not said which fields differ
    );
    return () => abort.abort();
  }, [path, position]);
  return { all, last, error };
}

/** @param {Record<string, any>} params */
function withoutCount({ count, ...params }) {
  return params;
}

/** @param {{ id: string, submissions: SubmissionList }} props */
export function Submissions({ id, submissions: { all, error } }) {
  if (error) return html`<div class="panel-body"><${Notice} error=${error} /></div>`;
  if (!all) return html`<div class="panel-body"><${Loading} lines=${2} /></div>`;
  if (all.length === 0) {
    return html`<div class="panel-body"><p class="soft">Nothing was submitted yet.</p></div>`;
  }
  return html`<ol class="submissions">${all.map((change, place) => html`<li key=${change.position}>
    <${Submission} id=${id} change=${change} number=${all.length - place} />
  </li>`)}</ol>`;
}

/** @param {{ id: string, change: any, number: number }} props */
function Submission({ id, change, number }) {
  const { actor } = change;
  const then = hrefOf(`objects/${encodeURIComponent(id)}`, { at: `position:${change.position}` });
  return html`<div class="panel-body">
    <p class="row"><strong>Submission <span class="number">${number}</span></strong>
      <${Time} at=${Date.parse(change.time) / 1000} /></p>
    <p class="hint">by ${actor?.name && `“${actor.name}” `}
      <span class="id">${actor?.masked ?? actor?.id ?? change.causation ?? "the service"}</span></p>
    ${change.request && html`<p class="hint">request <${IdLink} id=${change.request} /></p>`}
    <p><a href=${then}>The dispute as it was then</a></p>
  </div>`;
}
