// Money: the trial balance at any moment, and the journal of what moved it.

import { html } from "../lib/ui.js";
import { Tabs } from "../parts/forms.js";
import { Page } from "../parts/notice.js";
import { Journal } from "./money/journal.js";
import { TrialBalance } from "./money/trial-balance.js";

/** @type {[id: string, title: string][]} */
const TABS = [["balance", "Trial balance"], ["journal", "Journal"]];

/** @param {{ path: string[], query: URLSearchParams }} props */
export function View({ query }) {
  const tab = query.get("tab") ?? "balance";
  return html`<${Page} title="Money"
    lead="Whatever moves money is an entry of postings whose sum is zero. The books of
    this account are exact at every moment, whatever state the projections are in." />
    <${Tabs} tabs=${TABS} query=${query} label="Money" />
    <p class="hint moments-hint">A moment is a time in UTC, such as 2026-11-28 19:30, unix seconds, or
      position:120.</p>
    ${tab === "journal" ? html`<${Journal} query=${query} />` : html`<${TrialBalance} query=${query} />`}`;
}
