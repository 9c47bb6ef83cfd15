// Server-sent events by fetch, because an EventSource can send no header and gives up after an error.

import { ApiError, encodeParams, headersOf, readError } from "./api.js";
import { NO_ANSWER, outage, untilVisible, waitBefore } from "./connection.js";

// The service sends a heartbeat every 15 seconds: a connection that is silent for longer is dead.
const SILENT_MS_MAX = 40_000;

/**
 * @typedef {object} Handlers
 * @property {(item: any, id: string | null) => void} onItem  each event without a name
 * @property {(progress: any) => void} [onProgress]  each event named "progress"
 * @property {() => void} [onOpen]  connected, also again
 * @property {() => void} [onClose]  the connection was lost; it is tried again
 * @property {AbortSignal} signal
 */

/**
 * Follow a stream until `signal` is aborted. A lost connection is taken up again after the last event that
 * came, within 2 seconds once the service is back. While nobody sees the page there is no connection: a
 * browser has six for all pages of a host, and a seventh page would not even load. Rejects with an ApiError
 * that trying again does not change (a missing scope, a wrong parameter).
 * @param {string} path
 * @param {Record<string, any>} params
 * @param {Handlers} handlers
 * @returns {Promise<void>}
 */
export async function streamEvents(path, params, handlers) {
  const { signal } = handlers;
  const query = encodeParams(params).toString();
  const position = { id: /** @type {string | null} */ (null), isLeft: false };
  for (let failures = 0; !signal.aborted; ) {
    await untilVisible(signal);
    if (signal.aborted) return;
    position.isLeft = false;
    try {
      await readOnce(query ? `${path}?${query}` : path, position, handlers, () => { failures = 0; });
    } catch (error) {
      if (signal.aborted) return;
      if (position.isLeft) continue;
      if (error instanceof ApiError && error.status < 500) throw error;
      outage.value = error instanceof ApiError ? `${error.message} Trying again.` : NO_ANSWER;
    }
    handlers.onClose?.();
    failures += 1;
    await waitBefore(failures, signal).catch(() => undefined);
  }
}

/**
 * @param {string} url
 * @param {{ id: string | null, isLeft: boolean }} position  `isLeft`: because nobody sees the page
 * @param {Handlers} handlers
 * @param {() => void} onAnswer
 */
async function readOnce(url, position, handlers, onAnswer) {
  const connection = new AbortController();
  const stop = () => connection.abort();
  const stopIfHidden = () => {
    if (!document.hidden) return;
    position.isLeft = true;
    stop();
  };
  handlers.signal.addEventListener("abort", stop, { once: true });
  document.addEventListener("visibilitychange", stopIfHidden);
  let timer = setTimeout(stop, SILENT_MS_MAX);
  try {
    const headers = headersOf({ headers: { Accept: "text/event-stream" } });
    if (position.id !== null) headers["Last-Event-ID"] = position.id;
    const response = await fetch(url, { headers, signal: connection.signal, cache: "no-store" });
    if (!response.ok || !response.body) throw await readError(response);
    onAnswer();
    outage.value = null;
    handlers.onOpen?.();
    const parser = new Parser(position, handlers);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      clearTimeout(timer);
      timer = setTimeout(stop, SILENT_MS_MAX);
      parser.push(part.value);
    }
  } finally {
    clearTimeout(timer);
    handlers.signal.removeEventListener("abort", stop);
    document.removeEventListener("visibilitychange", stopIfHidden);
  }
}

/** Cuts the text of a stream into events. The feed ends its lines with a line feed only. */
class Parser {
  /**
   * @param {{ id: string | null }} position
   * @param {Handlers} handlers
   */
  constructor(position, handlers) {
    this.position = position;
    this.handlers = handlers;
    this.unread = "";
  }

  /** @param {string} text */
  push(text) {
    this.unread += text;
    let end = this.unread.indexOf("\n\n");
    let start = 0;
    for (; end >= 0; end = this.unread.indexOf("\n\n", start)) {
      this.take(this.unread.slice(start, end));
      start = end + 2;
    }
    this.unread = this.unread.slice(start);
  }

  /** @param {string} block */
  take(block) {
    let name = "";
    let data = "";
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      const value = line.slice(colon + 1).replace(/^ /, "");
      if (line.startsWith("data:")) data += (data && "\n") + value;
      else if (line.startsWith("event:")) name = value;
      else if (line.startsWith("id:")) this.position.id = value;
    }
    if (!data) return;
    if (name === "progress") this.handlers.onProgress?.(JSON.parse(data));
    else if (name === "") this.handlers.onItem(JSON.parse(data), this.position.id);
  }
}
