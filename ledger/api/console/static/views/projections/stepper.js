// One event at a time through a projection: the event at the left, what it changes in the rows at the right.

import { formatCount, formatName } from "../../lib/format.js";
import { useKeys } from "../../lib/keyboard.js";
import { useResource } from "../../lib/resource.js";
import { hrefOf, navigate, setQuery } from "../../lib/router.js";
import { hasScope } from "../../lib/session.js";
import { html, useEffect, useState } from "../../lib/ui.js";
import { Field, Select } from "../../parts/forms.js";
import { Json } from "../../parts/json.js";
import { Empty, Loading, Notice, Page } from "../../parts/notice.js";
import { Badge, Facts, IdLink, Time } from "../../parts/values.js";
import { PROJECTIONS } from "./api.js";
import { SideBySide } from "./comparison.js";
import { Rows } from "./step-rows.js";

/** @type {Record<string, "ok" | "waiting" | "warning" | "danger" | "info" | "neutral">} */
const OUTCOMES = {
  applied: "ok", unchanged: "neutral", handler_raised: "danger", unreadable: "danger",
  parked_before: "warning", not_followed: "neutral", other_account: "info", stream_too_long: "warning",
};
/** @type {Record<string, "ok" | "waiting" | "warning" | "danger" | "info" | "neutral">} */
const LIVE = {
  equal: "ok", differing: "danger", parked: "warning", parked_here: "warning", behind: "waiting",
};

/** @param {{ name: string, query: URLSearchParams }} props */
export function Stepper({ name, query }) {
  const path = `${PROJECTIONS}/${encodeURIComponent(name)}/step`;
  const params = Object.fromEntries(["position", "after", "before", "stream"].map((each) =>
    [each, query.get(each)]));
  const { data, error, isLoading, reload } = useResource(path, params);
  const isAsked = query.has("position") || query.has("after") || query.has("before");
  // A link is the step, also of one that was asked for as "the last".
  useEffect(() => {
    if (data?.position && !isAsked && !isLoading) setQuery({ position: data.position }, { replace: true });
  }, [data, isAsked, isLoading]);
  const go = (/** @type {any} */ place) => {
    if (!place) return false;
    if (isLoading) return true; // its neighbours are not known yet
    setQuery({ position: null, after: null, before: null, ...place });
    return true;
  };
  const moves = findMoves(data);
  useKeys([
    ["ArrowLeft", "the event before", () => go(moves.previous)],
    ["ArrowRight", "the next event", () => go(moves.next)],
  ], "Steps");
  const lead = html`<a href=${hrefOf("projections")}>Projections</a> · <a
    href=${hrefOf(`projections/${encodeURIComponent(name)}`)}>${name}</a> · nothing is written`;
  return html`<${Page} title=${`Step through ${name}`} lead=${lead}>
      <${Place} name=${name} query=${query} />
    </${Page}>
    <${Controls} data=${data} moves=${moves} go=${go} query=${query} />
    <${Notice} error=${error} retry=${reload} />
    ${data ? html`<${Step} step=${data} key=${data.position} />`
      : !error && html`<${Loading} lines=${8} />`}`;
}

/**
 * Where the buttons lead: to a neighbour, or on with the search for one.
 * @param {any} step
 * @returns {{ previous: any, next: any }}
 */
function findMoves(step) {
  if (!step) return { previous: null, next: null };
  const { next, previous, searched, head } = step;
  return {
    previous: previous ? { position: previous } : searched.first > 1 ? { before: searched.first } : null,
    next: next ? { position: next } : searched.last < head ? { after: searched.last } : null,
  };
}

/** Another projection at the same place. @param {{ name: string, query: URLSearchParams }} props */
function Place({ name, query }) {
  const { data } = useResource(PROJECTIONS);
  const names = data?.data.map((/** @type {any} */ each) => each.name) ?? [name];
  return html`<${Select} label="Projection" hideLabel value=${name} options=${names}
    onChange=${(/** @type {string} */ other) => navigate(`projections/${encodeURIComponent(other)}/step`,
      { query: Object.fromEntries(query) })} />`;
}

/** @param {{ data: any, moves: any, go: (place: any) => void, query: URLSearchParams }} props */
function Controls({ data, moves, go, query }) {
  const [typed, setTyped] = useState("");
  useEffect(() => setTyped(data?.position ? String(data.position) : ""), [data?.position]);
  const [stream, setStream] = useState(query.get("stream") ?? "");
  useEffect(() => setStream(query.get("stream") ?? ""), [query.get("stream")]);
  const jump = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (typed.trim()) setQuery({ position: typed.trim(), after: null, before: null });
  };
  const limit = () => setQuery({ stream: stream.trim() || null,
    position: stream.trim() ? null : data?.position, after: null, before: null });
  return html`<div class="step-controls">
    <button type="button" disabled=${!moves.previous}
      onClick=${() => go(moves.previous)}>← Previous</button>
    <form onSubmit=${jump}><${Field} label="Position" value=${typed} onInput=${setTyped} inputmode="numeric"
      class="step-position" /></form>
    <span class="hint step-head">of ${data ? formatCount(data.head) : "…"}</span>
    <button type="button" disabled=${!moves.next} onClick=${() => go(moves.next)}>Next →</button>
    <form class="step-stream" onSubmit=${(/** @type {Event} */ event) => (event.preventDefault(), limit())}>
      <${Field} label="Only one object" value=${stream} onInput=${setStream} onChange=${limit}
        placeholder="its id" mono /></form>
  </div>`;
}

/** @param {{ step: any }} props */
function Step({ step }) {
  const { event, outcome, live } = step;
  if (!event) {
    return html`<${Empty} title=${outcome.message}>Its neighbours are looked for within 100,000 positions: go
      on with the buttons.</${Empty}>`;
  }
  const isForeign = outcome.code === "other_account";
  return html`<div class="step">
    <section class="panel step-event" aria-label="Event">
      <header><h2><code>${event.type}</code></h2><span class="faint">${formatCount(event.position)}</span>
      </header>
      <div class="panel-body stack">
        <${Facts} rows=${[
          ["Object", html`<${IdLink} id=${event.stream} />, version ${event.version}`],
          ["Recorded", html`<${Time} at=${Date.parse(event.time) / 1000} full />`],
          !isForeign && ["Account", html`<span class="id">${event.account}</span>`],
          !isForeign && ["By", event.actor
            ? html`${event.actor.name ?? ""} <span class="id">${event.actor.id}</span>` : "time or network"],
          event.request_id && ["Request", html`<${IdLink} id=${event.request_id} />`],
          event.unreadable && ["Not readable", formatName(event.unreadable)],
        ]} />
      </div>
      ${event.data && html`<${Json} value=${event.data} label="Data of the event" depth=${2} />`}
      ${event.withheld?.length > 0 && !hasScope("personal_data") && html`<p
        class="hint step-withheld">Personal data is left out
        (${event.withheld.map(formatName).join(", ")}): the key lacks the scope <code>personal_data</code>.
      </p>`}
    </section>
    <div class="step-result">
      <section class="panel" aria-label="Outcome">
        <header><h2>What the projection makes of it</h2><${Badge}
          tone=${OUTCOMES[outcome.code] ?? "neutral"}>${formatName(outcome.code)}</${Badge}></header>
        <div class="panel-body stack">
          <p>${outcome.message}</p>
          ${live && html`<p class="row"><${Badge} tone=${LIVE[live.state] ?? "neutral"}>live: ${
            formatName(live.state)}</${Badge}><span class="soft">${live.message}</span></p>`}
        </div>
      </section>
      ${live?.differences.map((/** @type {any} */ each) => html`<${SideBySide} key=${each.key}
        title=${html`<${IdLink} id=${each.key} />`} left=${each.live} right=${each.expected} leftTitle="Live"
        rightTitle="Expected" />`)}
      <${Rows} step=${step} />
    </div>
  </div>`;
}
