// Jobs that send many: retries of all that match (wrt_…), and replays of a window to one endpoint (whr_…).

import { post } from "../../lib/api.js";
import { formatCount, formatDuration } from "../../lib/format.js";
import { useList, useResource } from "../../lib/resource.js";
import { hrefOf } from "../../lib/router.js";
import { html } from "../../lib/ui.js";
import { Tabs } from "../../parts/forms.js";
import { Action } from "../../parts/dialog.js";
import { Empty, Loading, Notice, Page } from "../../parts/notice.js";
import { Progress } from "../../parts/progress.js";
import { Pages, Table } from "../../parts/table.js";
import { Copy, Count, Facts, IdLink, Time } from "../../parts/values.js";
import { useEndpoints } from "./endpoints.js";
import { describeFilters, describeLeftOut, describeWait, State } from "./words.js";

const NEWEST = 20;

/** @param {any} job */
function isRetry(job) {
  return job.object === "webhook_retry";
}

/** @param {string} id */
function pathOf(id) {
  return `/internal/v1/webhooks/${id.startsWith("wrt_") ? "retries" : "replays"}/${encodeURIComponent(id)}`;
}

/** What a job sends, in words. @param {any} job */
function describeJob(job) {
  if (isRetry(job)) return describeFilters(job.filters);
  const { endpoint, types, only_failed: onlyFailed, object_id: object } = job;
  return [
    `a window to ${endpoint}`, types.join(", "), onlyFailed && "only what was given up",
    object && `of ${object}`,
  ].filter(Boolean).join(" · ");
}

/** How many it is of, without those it does not send. @param {any} job @returns {number | null} */
function countTotal(job) {
  if (!isRetry(job)) return job.total === null ? null : job.total - job.left_alone - job.unreadable;
  if (job.matched === null) return null;
  const leftOut = Object.values(job.left_out).map(Number);
  return leftOut.reduce((left, count) => left - count, job.matched);
}

/** The newest jobs of both kinds, those that have not ended first, every two seconds. */
export function useJobs() {
  const retries = useResource("/internal/v1/webhooks/retries", { limit: NEWEST }, { every: 2 });
  const replays = useResource("/internal/v1/webhooks/replays", { limit: NEWEST }, { every: 2 });
  const all = [...(retries.data?.data ?? []), ...(replays.data?.data ?? [])];
  return {
    running: all.filter(({ ended }) => ended === null),
    error: retries.error ?? replays.error,
    reload: () => { retries.reload(); replays.reload(); },
  };
}

/** @param {{ jobs: ReturnType<typeof useJobs> }} props */
export function RunningJobs({ jobs }) {
  if (jobs.running.length === 0) return null;
  return html`<section class="panel"><header><h2>Jobs under way</h2></header>
    <div class="panel-body stack">
      ${jobs.running.map((job) => html`<div class="job" key=${job.id}>
        <${JobProgress} job=${job} />
        <${JobButtons} job=${job} onDone=${jobs.reload} small />
      </div>`)}
    </div>
  </section>`;
}

/** @param {{ job: any }} props */
function JobProgress({ job }) {
  const settled = job.delivered + job.failed + job.dropped;
  const counts = [
    job.pending && `${formatCount(job.pending)} pending`, job.failed && `${formatCount(job.failed)} failed`,
    job.dropped && `${formatCount(job.dropped)} dropped`,
    job.rate !== null && `${job.rate} a second`,
    job.eta_seconds !== null && `about ${formatDuration(job.eta_seconds)} left`,
    job.state === "paused" && "paused", ...job.waits_for.map(describeWait),
  ];
  const label = html`<a class="id" href=${hrefOf(`deliveries/${job.id}`)}>${job.id}</a>${" "}<span
    class="soft">${describeJob(job)}</span>`;
  return html`<${Progress} label=${label} value=${settled} total=${countTotal(job)} noun="done"
    detail=${counts.filter(Boolean).join(" · ")} />`;
}

/** @param {{ job: any, onDone: () => void, small?: boolean }} props */
function JobButtons({ job, onDone, small }) {
  if (job.ended !== null) return null;
  const act = (/** @type {string} */ action) =>
    async (/** @type {string} */ reason, /** @type {string} */ idempotencyKey) => {
      await post(`${pathOf(job.id)}/${action}`, { reason }, { idempotencyKey });
    };
  const pause = job.state === "paused"
    ? html`<${Action} label="Resume" small=${small} run=${act("resume")} onDone=${onDone}>
        <p>It goes on where it stopped.</p></${Action}>`
    : html`<${Action} label="Pause" small=${small} run=${act("pause")} onDone=${onDone}>
        <p>Nothing further becomes due. ${formatCount(job.pending)} that are pending are sent.</p>
      </${Action}>`;
  const effect = isRetry(job)
    ? "get the state back that they had before it; what was pending before stays pending."
    : "are given up, unless the endpoint had accepted them before.";
  return html`<div class="row job-buttons">${pause}
    <${Action} label="Cancel" title="Cancel the job" confirm="Cancel the job" danger small=${small}
      run=${act("cancel")} onDone=${onDone}>
      <p>${formatCount(job.delivered)} are delivered and stay so. ${formatCount(job.pending)} that are
        pending ${effect} What is under way ends.</p>
    </${Action}></div>`;
}

const JOB_COLUMNS = [
  { title: "Job", cell: (/** @type {any} */ row) => html`<span class="id">${row.id}</span>` },
  { title: "State", cell: (/** @type {any} */ row) => html`<${State} state=${row.state} />` },
  { title: "Sends", cell: describeJob },
  {
    title: "Of", align: /** @type {const} */ ("end"),
    cell: (/** @type {any} */ row) => html`<${Count} value=${countTotal(row)} />`,
  },
  {
    title: "Delivered", align: /** @type {const} */ ("end"),
    cell: (/** @type {any} */ row) => html`<${Count} value=${row.delivered} />`,
  },
  {
    title: "Failed", align: /** @type {const} */ ("end"),
    cell: (/** @type {any} */ row) => html`<${Count} value=${row.failed} />`,
  },
  { title: "Started", cell: (/** @type {any} */ row) => html`<${Time} at=${row.created} />` },
];

/** @param {{ query: URLSearchParams }} props */
export function Jobs({ query }) {
  const kind = query.get("tab") === "replays" ? "replays" : "retries";
  const list = useList(`/internal/v1/webhooks/${kind}`, {}, { query, name: `after_${kind}`, every: 2 });
  const what = kind === "retries" ? "Send again all that match" : "Replay a window";
  return html`
    <${Page} title="Jobs" lead="Retries of all that match, and replays of a window to an endpoint.">
      <a class="button" href=${hrefOf("deliveries")}>All deliveries</a></${Page}>
    <${Tabs} label="Kind of job" query=${query} tabs=${[["retries", "Retries"], ["replays", "Replays"]]} />
    <${Notice} error=${list.error} retry=${list.reload} />
    <${Table} label="Jobs" columns=${JOB_COLUMNS} rows=${list.rows}
      rowKey=${(/** @type {any} */ row) => row.id} to=${(/** @type {any} */ row) => `deliveries/${row.id}`}
      isLoading=${list.isLoading && !list.data}
      empty=${list.data && html`<${Empty} title=${`No ${kind} yet`}>“${what}” in <a
        href=${hrefOf("deliveries")}>Deliveries</a> starts one.</${Empty}>`} />
    <${Pages} list=${list} />`;
}

/** @param {{ id: string }} props */
export function Job({ id }) {
  const { data, error, reload } = useResource(pathOf(id), {}, { every: 2 });
  const title = id.startsWith("wrt_") ? "Retry of many" : "Replay";
  if (!data) {
    return html`<${Page} title=${title} />${error ? html`<${Notice} error=${error} retry=${reload} />`
      : html`<${Loading} />`}`;
  }
  return html`
    <${Page} title=${title} lead=${html`<span class="id">${id}</span> <${Copy} text=${id} />`}>
      <${State} state=${data.state} />
      <a class="button" href=${hrefOf("deliveries", { job: id })}>Its deliveries</a>
      <${JobButtons} job=${data} onDone=${reload} />
    </${Page}>
    <${Notice} error=${error} retry=${reload} />
    ${data.ended === null && html`<section class="panel"><div class="panel-body">
      <${JobProgress} job=${data} /></div></section>`}
    <div class="columns">
      <section class="panel"><header><h2>What it sends</h2></header>
        <div class="panel-body"><${JobFacts} job=${data} /></div></section>
      <section class="panel"><header><h2>How it went</h2></header>
        <div class="panel-body"><${JobCounts} job=${data} /></div></section>
    </div>
    ${isRetry(data) && html`<${Parts} job=${data} />`}`;
}

/** @param {{ job: any }} props */
function JobFacts({ job }) {
  return html`<${Facts} rows=${[
    ["Sends", describeJob(job)],
    !isRetry(job) && ["From", html`<${Time} at=${job.from} full />`],
    !isRetry(job) && ["To", html`<${Time} at=${job.to} full />`],
    ["Started", html`<${Time} at=${job.created} />`],
    ["By", html`<${IdLink} id=${job.created_by} to="keys" />`],
    ["Why", job.reason || null],
    ["Ended", html`<${Time} at=${job.ended} />`],
  ]} />`;
}

/** @param {{ job: any }} props */
function JobCounts({ job }) {
  const count = (/** @type {number | null} */ value) => html`<${Count} value=${value} />`;
  const own = isRetry(job)
    ? [["Match", count(job.matched)], ["Made due", count(job.made_due)],
      ["Left out", count(job.matched === null ? null : job.matched - (countTotal(job) ?? 0))],
      ["Returned to their state", count(job.returned)]]
    : [["Found", count(job.total)], ["Became deliveries", count(job.queued)],
      ["Left alone", count(job.left_alone)], ["Unreadable", count(job.unreadable)]];
  return html`<${Facts} rows=${[
    ...own, ["Delivered", count(job.delivered)], ["Pending", count(job.pending)],
    ["Given up", count(job.failed)], ["Dropped", count(job.dropped)],
  ]} />`;
}

/** @param {{ job: any }} props */
function Parts({ job }) {
  // A job waits for endpoints that are paused by their breakers, which is theirs, not the job's.
  const known = useEndpoints(job.ended === null).data?.data ?? [];
  const columns = [
    {
      title: "Endpoint",
      cell: (/** @type {any} */ row) => html`<${IdLink} id=${row.endpoint}
        to=${`deliveries?endpoint=${row.endpoint}&job=${job.id}`} />`,
    },
    {
      title: "Match", align: /** @type {const} */ ("end"),
      cell: (/** @type {any} */ row) => html`<${Count} value=${row.matched} />`,
    },
    {
      title: "Made due", align: /** @type {const} */ ("end"),
      cell: (/** @type {any} */ row) => html`<${Count} value=${row.made_due} />`,
    },
    {
      title: "Left out, and what it waits for",
      cell: (/** @type {any} */ row) =>
        [...describeLeftOut(row.left_out), ...waitsOf(row, known).map(describeWait)].join(" ") || "—",
    },
  ];
  return html`<section class="panel"><header><h2>By endpoint</h2></header>
    <${Table} label="By endpoint" columns=${columns} rows=${job.endpoints} keys=${false}
      rowKey=${(/** @type {any} */ row) => row.endpoint}
      empty=${html`<div class="panel-body"><${Empty} title="No delivery matched" /></div>`} />
  </section>`;
}

/**
 * What the job waits for at an endpoint.
 * @param {any} row
 * @param {any[]} endpoints  as they are now
 * @returns {string[]}
 */
function waitsOf(row, endpoints) {
  const own = endpoints.find(({ id }) => id === row.endpoint)?.waits_for ?? [];
  return [...new Set([...row.waits_for, ...own])];
}
