// How long a dispute can still be answered: by text and shape.

import { clock, formatDuration, formatTime } from "../../lib/format.js";
import { html, useComputed, useSignal } from "../../lib/ui.js";
import { Badge } from "../../parts/values.js";
import { AWAITING } from "./statuses.js";

const HOUR = 3600;
const SOON_SECONDS = 24 * HOUR;
const NEXT_SECONDS = 72 * HOUR;

/**
 * What the filter `due` may say, with how many seconds from now it reaches.
 * @type {Record<string, number>}
 */
export const DUE_FILTERS = { past: 0, "24h": SOON_SECONDS, "72h": NEXT_SECONDS, "7d": 7 * 24 * HOUR };

/** @type {[value: string, text: string][]} */
export const DUE_OPTIONS = [
  ["past", "past due"], ["24h", "within 24 hours"], ["72h", "within 72 hours"], ["7d", "within 7 days"],
];

/**
 * The time left, or that it is over. Nothing is left to say of a dispute that awaits no response.
 * @param {{ dispute: { status: string, due_by: number | null } }} props
 */
export function Due({ dispute }) {
  const dueBy = useSignal(dispute.due_by ?? 0);
  dueBy.value = dispute.due_by ?? 0;
  // As texts, so that a card is drawn again when its text changes and not each second.
  const tone = useComputed(() => {
    const left = dueBy.value - clock.value;
    return left < SOON_SECONDS ? "danger" : left < NEXT_SECONDS ? "warning" : "neutral";
  });
  const text = useComputed(() => describeTimeLeft(dueBy.value - clock.value));
  if (!AWAITING.includes(dispute.status)) return null;
  if (!dispute.due_by) return html`<${Badge}>no due date</${Badge}>`;
  const due = `Due ${formatTime(dispute.due_by)}`;
  return html`<${Badge} tone=${tone.value} title=${due}>${text.value}</${Badge}>`;
}

/** @param {number} seconds */
function describeTimeLeft(seconds) {
  if (seconds < 0) return `past due by ${formatDuration(-seconds)}`;
  return seconds < HOUR ? `${formatDuration(seconds)} left!` : `${formatDuration(seconds)} left`;
}
