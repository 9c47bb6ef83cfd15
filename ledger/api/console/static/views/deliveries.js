// Deliveries over all endpoints: how they go, one with its attempts, and many sent again.

import { html } from "../lib/ui.js";
import { Deliveries } from "./deliveries/list.js";
import { Delivery } from "./deliveries/delivery.js";
import { Job, Jobs } from "./deliveries/jobs.js";

/** @param {{ path: string[], query: URLSearchParams }} props */
export function View({ path, query }) {
  const [id = ""] = path;
  if (id === "jobs") return html`<${Jobs} query=${query} />`;
  if (id.startsWith("wrt_") || id.startsWith("whr_")) return html`<${Job} key=${id} id=${id} />`;
  if (id) return html`<${Delivery} key=${id} id=${id} />`;
  return html`<${Deliveries} query=${query} />`;
}
