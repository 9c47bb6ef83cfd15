// Object: what it is, every change of it, how it was at any moment, and what belongs to it.

import { formatName } from "../lib/format.js";
import { Link, route } from "../lib/router.js";
import { hasScope, session } from "../lib/session.js";
import { html } from "../lib/ui.js";
import { Tabs } from "../parts/forms.js";
import { Empty, Loading, Note, Notice, Page } from "../parts/notice.js";
import { ProofBadge } from "../parts/proof-badge.js";
import { Badge, Copy, Count, Facts, Time } from "../parts/values.js";
import { DeliveriesTab } from "./objects/deliveries.js";
import { usePast } from "./objects/history.js";
import { MoneyTab } from "./objects/money.js";
import { MomentBar } from "./objects/moment.js";
import { NotAnObject } from "./objects/not-an-object.js";
import { PublicObject } from "./objects/public-object.js";
import { RelatedTab } from "./objects/related.js";
import { RawTab, StateTab } from "./objects/state.js";
import { Status, Title } from "./objects/status.js";
import { Timeline } from "./objects/timeline.js";

const WITH_MONEY = new Set(["charge", "dispute", "refund"]);

/** @param {{ path: string[], query: URLSearchParams }} props */
export function View({ path, query }) {
  const id = path[0];
  if (!id) {
    return html`<${Page} title="Object" />
      <${Empty} title="No object is chosen"><${Link} to="find">Find</${Link}> one by any id.</${Empty}>`;
  }
  if (!hasScope("audit")) return html`<${PublicObject} key=${id} id=${id} />`;
  return html`<${PastObject} key=${id} id=${id} query=${query} />`;
}

/** @param {{ id: string, query: URLSearchParams }} props */
function PastObject({ id, query }) {
  const past = usePast(id, query);
  if (past.isMissing) return html`<${NotAnObject} id=${id} />`;
  if (past.isFirstLoad) {
    return html`
      <${Page} title=${html`<${Title} type="object" id=${id} />`} name=${id} />
      <${Loading} lines=${8} />`;
  }
  return html`
    <${Head} id=${id} past=${past} />
    ${past.newer > 0 && html`<${Note} title=${`It has changed since: ${past.newer} newer`}>
      <p><button type="button" onClick=${past.reload}>Show the newest</button></p></${Note}>`}
    <${Notice} error=${past.unreadable} title="A record of this object cannot be read" />
    ${past.unreadable && html`<p class="hint object-gap">
      Choose a moment before that record; all its changes are listed in the timeline.</p>`}
    <${MomentBar} past=${past} query=${query} />
    <div class="object-columns">
      <div class="object-state"><${Content} id=${id} past=${past} query=${query} /></div>
      <${Timeline} id=${id} past=${past} query=${query} />
    </div>`;
}

/** @param {{ id: string, past: import("./objects/history.js").Past }} props */
function Head({ id, past }) {
  const object = past.shown?.object ?? past.now?.object;
  const type = formatName(object?.object ?? "object");
  const status = object?.status ?? object?.state;
  return html`
    <${Page} name=${`${type} ${id}`} title=${html`<${Title} type=${type} id=${id} />`}>
      ${object?.deleted && html`<${Badge} tone="danger">deleted</${Badge}>`}
      ${past.shown?.redaction && html`<${Badge} tone="warning">${
        past.shown.redaction === "processing" ? "being redacted" : "redacted"}</${Badge}>`}
      <${Status} status=${status} />
      <${Copy} text=${id} label="Copy id" />
    </${Page}>
    <${Facts} class="object-facts" rows=${[
      ["Account", html`<${Account} />`],
      typeof object?.created === "number" && ["Created", html`<${Time} at=${object.created} />`],
      past.last > 0 && ["Changes", html`<${Count} value=${past.last} />`],
    ]} />
    ${past.change && html`<div class="object-proof">
      <${ProofBadge} position=${past.change.position} /></div>`}`;
}

/** Whose it is: the account that the page acts for. */
function Account() {
  const own = session.value;
  const connected = route.value.account;
  return html`
    ${connected ? html`<span class="id">${connected}</span>, connected to ` : ""}${own?.account_name}
    <span class="faint"> ${own?.livemode ? "live mode" : "test mode"}</span>`;
}

/** @param {{ id: string, past: import("./objects/history.js").Past, query: URLSearchParams }} props */
function Content({ id, past, query }) {
  const type = (past.shown ?? past.now)?.object.object;
  /** @type {[string, any][]} */
  const tabs = [
    ["state", "State"],
    ["related", "Related"],
    ...(WITH_MONEY.has(type) ? [/** @type {[string, any]} */ (["money", "Money"])] : []),
    ["deliveries", "Deliveries"],
    ["raw", "Raw JSON"],
  ];
  const tab = query.get("tab") ?? "state";
  return html`
    <${Tabs} label="Of this object" tabs=${tabs} query=${query} />
    <div role="tabpanel" aria-label=${tabs.find(([name]) => name === tab)?.[1] ?? "State"}>
      ${tab === "related" ? html`<${RelatedTab} id=${id} past=${past} />`
        : tab === "money" ? html`<${MoneyTab} id=${id} past=${past} />`
        : tab === "deliveries" ? html`<${DeliveriesTab} past=${past} />`
        : tab === "raw" ? html`<${RawTab} past=${past} />`
        : html`<${StateTab} past=${past} />`}
    </div>`;
}

