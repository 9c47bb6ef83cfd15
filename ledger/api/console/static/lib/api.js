// Requests to the service. Views use `get` and `post`, or the hooks of resource.js on top of them.

import { NO_ANSWER, outage, waitBefore } from "./connection.js";
import { route } from "./router.js";
import { endSession, lastAction, sessionState } from "./session.js";

const TIMEOUT_MS = 40_000;
const UNAVAILABLE = new Set([502, 503, 504]);
// An action under an Idempotency-Key is tried again for so long, then its dialog says that there was no
// answer.
const ACTION_TRIES_MAX = 20;

/** An answer that is an error, or none at all (status 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {{ type?: string, code?: string, param?: string, message?: string }} error
   * @param {string | null} requestId
   */
  constructor(status, error, requestId) {
    super(error.message ?? `The service answered with status ${status}.`);
    this.name = "ApiError";
    this.status = status;
    this.type = error.type ?? null;
    this.code = error.code ?? null;
    this.param = error.param ?? null;
    this.requestId = requestId;
    /** Whether an earlier try had no answer: the change may have been made by that. */
    this.isAfterSilence = false;
  }
}

/**
 * @typedef {object} Options
 * @property {AbortSignal} [signal]
 * @property {string | null} [account]  the connected account to act for; by default the page's, null for none
 * @property {Record<string, string>} [headers]
 * @property {(response: Response) => void} [onResponse]  to read headers, for example Ledger-Behind-Events
 */

/**
 * GET as JSON. It waits and tries again while the service does not answer; the frame says so meanwhile.
 * @param {string} path  from the root: "/internal/v1/projections"
 * @param {Record<string, any>} [params]  as for `encodeParams`
 * @param {Options} [options]
 * @returns {Promise<any>}
 */
export async function get(path, params, options = {}) {
  const response = await send("GET", withParams(path, params), options, Infinity);
  return response.json();
}

/**
 * GET as text, for what is no JSON: checkpoints, proofs.
 * @param {string} path
 * @param {Record<string, any>} [params]
 * @param {Options} [options]
 */
export async function getText(path, params, options = {}) {
  const response = await send("GET", withParams(path, params), options, Infinity);
  return response.text();
}

/**
 * POST a JSON body (internal API, /v2). With an idempotency key it is tried again while there is no answer;
 * without one it is sent once only, because it may have been done all the same.
 * @param {string} path
 * @param {any} [body]
 * @param {Options & { idempotencyKey?: string }} [options]
 */
export function post(path, body = {}, options = {}) {
  return change("POST", path, JSON.stringify(body), "application/json", options);
}

/**
 * POST a form, as /v1 takes them: { metadata: { order: 7 } } is sent as metadata[order]=7.
 * @param {string} path
 * @param {Record<string, any>} [form]
 * @param {Options & { idempotencyKey?: string }} [options]
 */
export function postForm(path, form = {}, options = {}) {
  return change("POST", path, encodeParams(form).toString(), "application/x-www-form-urlencoded", options);
}

/**
 * DELETE.
 * @param {string} path
 * @param {Options & { idempotencyKey?: string }} [options]
 */
export function remove(path, options = {}) {
  return change("DELETE", path, undefined, null, options);
}

/** A new Idempotency-Key. `crypto.randomUUID` exists in secure contexts only; this page may be plain HTTP. */
export function newIdempotencyKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `console-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {string | undefined} body
 * @param {string | null} type
 * @param {Options & { idempotencyKey?: string }} options
 */
async function change(method, path, body, type, { idempotencyKey, ...options }) {
  const headers = { ...options.headers };
  if (type) headers["Content-Type"] = type;
  if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
  const tries = idempotencyKey ? ACTION_TRIES_MAX : 1;
  const wasSignedIn = sessionState.peek() === "open";
  try {
    const response = await send(method, path, { ...options, headers }, tries, body);
    return response.status === 204 ? null : response.json();
  } catch (error) {
    // The page that asks to sign in takes the place of the dialog, and has to say it.
    if (wasSignedIn && error instanceof ApiError && error.status === 401) {
      lastAction.value = error.isAfterSilence ? "not known" : "not done";
    }
    throw error;
  }
}

/**
 * The headers of every request: the page says that it is the console, since browsers send no Sec-Fetch-Site
 * to a service on plain HTTP, and for which account it acts.
 * @param {Options} [options]
 * @returns {Record<string, string>}
 */
export function headersOf({ account, headers } = {}) {
  const actsFor = account === undefined ? route.peek().account : account;
  return { "Ledger-Console": "1", ...(actsFor ? { "Stripe-Account": actsFor } : {}), ...headers };
}

/**
 * One request, tried until there is an answer that counts.
 * @param {string} method
 * @param {string} path
 * @param {Options} options
 * @param {number} tries
 * @param {string} [body]
 */
async function send(method, path, options, tries, body) {
  for (let count = 1; ; count++) {
    const response = await attempt(method, path, options, body);
    const error = response && !response.ok ? await readError(response) : null;
    if (response && !UNAVAILABLE.has(response.status)) {
      outage.value = null;
      if (error) {
        error.isAfterSilence = count > 1;
        throw error;
      }
      options.onResponse?.(response);
      return response;
    }
    outage.value = error ? `${error.message} Trying again.` : NO_ANSWER;
    if (count >= tries) throw error ?? noAnswerError(method);
    await waitBefore(count, options.signal);
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {Options} options
 * @param {string} [body]
 * @returns {Promise<Response | null>}  null: no answer
 */
async function attempt(method, path, options, body) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
  try {
    return await fetch(path, { method, body, headers: headersOf(options), signal });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    return null;
  }
}

/** @param {string} method */
function noAnswerError(method) {
  const text = method === "GET"
    ? "No answer from the service."
    : "No answer from the service: the change may have been made all the same. Look before you try it again.";
  return new ApiError(0, { message: text, code: "no_answer" }, null);
}

/**
 * The error of an answer. 401 means that the session is over, and the frame shows that.
 * @param {Response} response
 */
export async function readError(response) {
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) endSession();
  const error = body.error ?? { message: `The service answered with status ${response.status}.` };
  return new ApiError(response.status, error, response.headers.get("Request-Id"));
}

/**
 * @param {string} path
 * @param {Record<string, any>} [params]
 */
function withParams(path, params) {
  const query = encodeParams(params ?? {}).toString();
  return query ? `${path}?${query}` : path;
}

/**
 * Parameters in Stripe's form encoding: { created: { gte: 5 }, state: ["a", "b"], to: null } is
 * created[gte]=5 and state=a&state=b; null, undefined and "" are left out. Arrays under a name that ends in
 * "[]" keep that.
 * @param {Record<string, any>} params
 */
export function encodeParams(params) {
  const sent = new URLSearchParams();
  /** @type {(name: string, value: any) => void} */
  const add = (name, value) => {
    if (value === null || value === undefined || value === "") return;
    if (Array.isArray(value)) {
      for (const each of value) add(name, each);
    } else if (typeof value === "object") {
      for (const [key, each] of Object.entries(value)) add(`${name}[${key}]`, each);
    } else {
      sent.append(name, String(value));
    }
  };
  for (const [name, value] of Object.entries(params)) add(name, value);
  return sent;
}
