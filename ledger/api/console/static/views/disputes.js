// Disputes: the board, the list, and one dispute with its evidence. It only reads.
//
// /console/disputes?view=&reason=&due=&status=&order=&after=   ·   /console/disputes/du_1?sold=

import { html } from "../lib/ui.js";
import { Overview } from "./disputes/overview.js";
import { Dispute } from "./disputes/dispute.js";

/** @param {{ path: string[], query: URLSearchParams }} props */
export function View({ path, query }) {
  const [id] = path;
  return id ? html`<${Dispute} key=${id} id=${id} query=${query} />` : html`<${Overview} query=${query} />`;
}
