// Projections: how far each is and why one stalls; rebuilds with their gate; one event at a time through one.
//
// /projections?range=24h                       all of them
// /projections/NAME?range=24h                  one: generations, rebuild, differences, history
// /projections/NAME/step?position=88&stream=…  one event, rows before and after; also after= and before=

import { html } from "../lib/ui.js";
import { Overview } from "./projections/overview.js";
import { ProjectionPage } from "./projections/projection.js";
import { Stepper } from "./projections/stepper.js";

/** @param {{ path: string[], query: URLSearchParams }} props */
export function View({ path, query }) {
  const [name, part] = path;
  if (!name) return html`<${Overview} query=${query} />`;
  if (part === "step") return html`<${Stepper} key=${name} name=${name} query=${query} />`;
  return html`<${ProjectionPage} key=${name} name=${name} query=${query} />`;
}
