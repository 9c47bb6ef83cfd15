// The operators' routes of projections, and what their answers mean.

import { post } from "../../lib/api.js";

export const PROJECTIONS = "/internal/v1/projections";

/**
 * @typedef {object} Generation
 * @property {string} projection
 * @property {number} generation
 * @property {boolean} live
 * @property {number} position
 * @property {number} events
 * @property {number} seconds
 * @property {{ stream: string, position: number, error: string, topic: string | null, reason: string }[]}
 *   parked
 * @property {number} differing
 * @property {string} state
 * @property {boolean} stands_still
 * @property {{ code: string, message: string } | null} cause
 * @property {{ at: number, position: number, rows: number, differing: number, keys: string[] } | null}
 *   verified
 */

/**
 * @typedef {object} Operation
 * @property {string} at
 * @property {string} who
 * @property {string} action
 * @property {number | null} generation
 * @property {number | null} position
 * @property {string} reason
 * @property {any} details
 */

/**
 * @typedef {{ name: string, live: number | null, incomplete: boolean, generations: Generation[], rebuild?:
 *   any, operations?: Operation[], workers?: number }} Projection
 */

/**
 * An action on one projection: "rebuild", "parked/cus_1/retry" …
 * @param {string} name
 * @param {string} action
 * @param {any} body
 * @param {string} [idempotencyKey]
 */
export function act(name, action, body, idempotencyKey) {
  return post(`${PROJECTIONS}/${encodeURIComponent(name)}/${action}`, body, { idempotencyKey });
}

/**
 * The same as what a dialog runs, with its reason, without a result to show.
 * @param {string} name
 * @param {string} action
 * @param {any} [body]
 * @returns {(reason: string, idempotencyKey: string) => Promise<void>}
 */
export function runAction(name, action, body = {}) {
  return async (reason, idempotencyKey) => {
    await act(name, action, { ...body, reason }, idempotencyKey);
  };
}

/**
 * The generation that readers see.
 * @param {Projection} projection
 * @returns {Generation | null}
 */
export function liveOf(projection) {
  return projection.generations.find((each) => each.live) ?? null;
}

/**
 * Its state in a word, with the tone of its badge.
 * @param {Generation | null} live
 * @returns {["ok" | "waiting" | "warning" | "danger" | "info" | "neutral", string]}
 */
export function stateOf(live) {
  if (!live) return ["waiting", "being filled"];
  if (live.stands_still) return ["danger", "stalled"];
  if (live.parked.length) return ["warning", "incomplete"];
  if (live.differing) return ["warning", "differing"];
  if (live.seconds > 1) return ["waiting", "behind"];
  return ["ok", "up to date"];
}

/** @param {Operation} operation  whose time is ISO 8601 */
export function timeOf(operation) {
  return Date.parse(operation.at) / 1000;
}
