// Times as people type them into filters.

const CLOCK = /^(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2}))?)?(?: ?UTC|Z)?$/;

/**
 * A typed time in unix seconds: "2026-11-28 19:30" and "2026-11-28" are UTC, digits are unix seconds. null
 * for an empty text, undefined for one that is no time.
 * @param {string | null | undefined} text
 * @returns {number | null | undefined}
 */
export function parseTime(text) {
  const typed = (text ?? "").trim();
  if (typed === "") return null;
  if (/^\d{1,12}$/.test(typed)) return Number(typed);
  const found = CLOCK.exec(typed);
  if (!found) return undefined;
  const [year, month, day, hour, minute, second] = found.slice(1).map((part) => Number(part ?? 0));
  const at = Date.UTC(year ?? 0, (month ?? 1) - 1, day, hour, minute, second);
  const isReal = new Date(at).getUTCDate() === day && new Date(at).getUTCMonth() === (month ?? 1) - 1;
  return isReal ? at / 1000 : undefined;
}
