// Values as people read them: times, durations, amounts, counts, ids.

import { clockOffset } from "./session.js";
import { signal } from "./ui.js";

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Whether times are shown in full, in UTC, and not as "5 min ago". The key `t` changes it. */
export const showsFullTimes = signal(false);

/** The service's time in whole seconds, once a second. */
export const clock = signal(readClock());

/** The service's time now, in unix seconds. A test clock may be far from this machine's. */
export function readClock() {
  return Math.floor(Date.now() / 1000 + clockOffset.peek());
}

/** Let `clock` go. */
export function startClock() {
  setInterval(() => { clock.value = readClock(); }, 1000);
}

/**
 * "2026-11-28 19:33:36 UTC"; with milliseconds if there are any.
 * @param {number} at  unix seconds
 */
export function formatTime(at) {
  const date = new Date(at * 1000);
  if (Number.isNaN(date.getTime())) return String(at);
  const digits = Number.isInteger(at) ? 19 : 23;
  return `${date.toISOString().slice(0, digits).replace("T", " ")} UTC`;
}

/**
 * "5 min ago", "in 3 d", "now".
 * @param {number} at  unix seconds
 * @param {number} now
 */
export function formatRelative(at, now) {
  const seconds = Math.round(at - now);
  if (seconds === 0) return "now";
  return seconds < 0 ? `${formatDuration(-seconds)} ago` : `in ${formatDuration(seconds)}`;
}

/**
 * "0.25 s", "12 s", "5 min", "3 h 20 min", "2 d 5 h": two units at most.
 * @param {number} seconds
 */
export function formatDuration(seconds) {
  if (seconds < 10 && !Number.isInteger(seconds)) return `${Number(seconds.toFixed(seconds < 1 ? 3 : 1))} s`;
  const whole = Math.round(seconds);
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min`;
  if (whole < DAY) return join(Math.floor(whole / HOUR), "h", Math.floor((whole % HOUR) / MINUTE), "min");
  if (whole < 60 * DAY) return join(Math.floor(whole / DAY), "d", Math.floor((whole % DAY) / HOUR), "h");
  return `${formatCount(Math.floor(whole / DAY))} d`;
}

/** @type {(large: number, unit: string, small: number, smallUnit: string) => string} */
function join(large, unit, small, smallUnit) {
  return small ? `${large} ${unit} ${small} ${smallUnit}` : `${large} ${unit}`;
}

/**
 * "120,544".
 * @param {number} count
 */
export function formatCount(count) {
  return count.toLocaleString("en-US");
}

/**
 * "12 events", "1 event".
 * @param {number} count
 * @param {string} noun
 * @param {string} [plural]
 */
export function formatNumberOf(count, noun, plural = `${noun}s`) {
  return `${formatCount(count)} ${count === 1 ? noun : plural}`;
}

/**
 * "1.4 MB".
 * @param {number} bytes
 */
export function formatBytes(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = bytes / 1000;
  let place = 0;
  for (; value >= 1000 && place < units.length - 1; place++) value /= 1000;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[place]}`;
}

// As in ledger/domain/money.py: how many minor units the API counts, which is not what CLDR says of each
// currency.
const ZERO_DECIMAL = new Set(
  "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split(" "),
);
const THREE_DECIMAL = new Set("bhd jod kwd omr tnd".split(" "));

/**
 * "1,234.56 USD". An amount beyond exact integers comes as a string or bigint.
 * @param {number | bigint | string} amount  in minor units
 * @param {string} currency
 */
export function formatMoney(amount, currency) {
  const digits = ZERO_DECIMAL.has(currency) ? 0 : THREE_DECIMAL.has(currency) ? 3 : 2;
  const text = BigInt(amount).toString();
  const [sign, figures] = text.startsWith("-") ? ["−", text.slice(1)] : ["", text];
  const padded = figures.padStart(digits + 1, "0");
  const whole = padded.slice(0, padded.length - digits).replace(/\B(?=(\d{3})+$)/g, ",");
  const fraction = digits ? `.${padded.slice(-digits)}` : "";
  return `${sign}${whole}${fraction} ${currency.toUpperCase()}`;
}

/**
 * "needs_response" → "needs response".
 * @param {string} name
 */
export function formatName(name) {
  return name.replaceAll("_", " ");
}

// Ids begin with letters and an underscore. Secrets do, too: they are never made a link, which has them in a
// URL.
const ID = /^(?!sk_|rk_|pk_|ek_|whsec_)[a-z]{1,12}(?:_test|_live)?_[0-9A-Za-z][0-9A-Za-z_.-]{5,}$/;

/**
 * Whether a text looks like the id of something that the console can find.
 * @param {unknown} value
 */
export function isId(value) {
  return typeof value === "string" && value.length <= 255 && ID.test(value) && /\d/.test(value)
    && !value.includes("_secret_");
}
