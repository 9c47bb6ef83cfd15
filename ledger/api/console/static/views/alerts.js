// Alerts: what is wrong with the service now, what was, and who is told of it.
//
// /console/alerts?tab=active|ended|receivers, and /console/alerts/alrt_… for one alert with its events.

import { Page } from "../parts/notice.js";
import { Tabs } from "../parts/forms.js";
import { html } from "../lib/ui.js";
import { ActiveAlerts, EndedAlerts } from "./alerts/list.js";
import { AlertRecord } from "./alerts/record.js";
import { Receivers } from "./alerts/receivers.js";

/** @type {[id: string, title: string][]} */
const TABS = [["active", "Active"], ["ended", "Ended"], ["receivers", "Receivers"]];

/** @param {{ path: string[], query: URLSearchParams }} props */
export function View({ path, query }) {
  const [id] = path;
  if (id) return html`<${AlertRecord} key=${id} id=${id} />`;
  const tab = query.get("tab");
  return html`<${Page} title="Alerts"
      lead="What the service finds wrong with itself. An alert ends when its cause is gone." />
    <${Tabs} tabs=${TABS} query=${query} label="Alerts" />
    ${tab === "receivers" ? html`<${Receivers} />`
      : tab === "ended" ? html`<${EndedAlerts} query=${query} />`
      : html`<${ActiveAlerts} />`}`;
}
