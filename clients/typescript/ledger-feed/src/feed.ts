// Reads the feed over HTTP, with nothing but fetch.

import { Backoff } from "./backoff.js";
import { EventStreamBody, NDJSON, NdjsonBody, SERVER_SENT_EVENTS, type Body } from "./bodies.js";
import {
  FeedRefused,
  Interrupted,
  KeyRefused,
  LedgerChanged,
  MalformedFeed,
  PositionFromTheFuture,
} from "./errors.js";
import { toLastItem, type Batch, type Item, type LastItem, type Message } from "./items.js";
import { Sequence } from "./sequence.js";

const PATH = "/internal/v1/feed";
/** The longest silence of server-sent events. */
const HEARTBEAT_SECONDS = 15;
/** What an answer may be late before its connection counts as lost. */
const GRACE_SECONDS = 15;
/** How long a process of the service may take to learn of an event that another one has sent. */
const CHECK_SECONDS = 5;
/** Refusals that pass by themselves, as all 5xx do. */
const RETRIED = new Set([408, 425, 429]);

export interface FeedOptions {
  readonly types?: readonly string[];
  readonly account?: string;
  readonly object?: string;
  /** The key has the scope ledger_feed and nothing is filtered, so a missing position is an error. */
  readonly wholeLedger?: boolean;
  /** Long polls of NDJSON, or server-sent events. */
  readonly transport?: "ndjson" | "sse";
  /** How long a poll waits for something to come. */
  readonly waitSeconds?: number;
  /** In place of the platform's fetch. */
  readonly fetch?: typeof fetch;
  /** Is told of each interruption. */
  readonly log?: (message: string) => void;
}

type Parameters = Record<string, string>;

/** The feed as one key may read it, through one filter. */
export class Feed {
  /** What passes, as one text: the same for the same filter. */
  readonly filter: string;
  private readonly url: URL;
  private readonly headers: Record<string, string>;
  private readonly parameters: Parameters;
  private readonly options: FeedOptions;
  private readonly sendsEvents: boolean;
  private readonly waitSeconds: number;
  private readonly fetch: typeof fetch;
  private readonly log: (message: string) => void;

  constructor(url: string, key: string, options: FeedOptions = {}) {
    const wanted = {
      account: options.account,
      object: options.object,
      types: [...(options.types ?? [])].sort().join(","),
    };
    const entries = Object.entries(wanted).filter((entry): entry is [string, string] => Boolean(entry[1]));
    if (options.wholeLedger && entries.length > 0) throw new RangeError("wholeLedger: a filter leaves events out");
    this.parameters = Object.fromEntries(entries);
    // As the Python library writes it: both may be the same consumer.
    this.filter = `{${entries.map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`).join(", ")}}`;
    this.url = new URL(url.replace(/\/+$/, "") + PATH);
    this.headers = { authorization: `Bearer ${key}` };
    new Headers(this.headers); // a key that is no header is no failure of the network
    this.options = options;
    this.sendsEvents = options.transport === "sse";
    this.waitSeconds = options.waitSeconds ?? 20;
    this.fetch = options.fetch ?? fetch.bind(globalThis);
    this.log = options.log ?? ((message) => console.info(message));
  }

  /**
   * All that comes after a position, until `signal` is aborted.
   *
   * Lost connections and a service that is away are retried. Before that, and at the beginning if `last` is given,
   * checks that the last item still stands at its position. Throws errors of FeedError.
   */
  async *follow(after: number, last: LastItem | undefined, signal: AbortSignal): AsyncGenerator<Batch> {
    const backoff = new Backoff();
    let isChecked = false;
    while (!signal.aborted) {
      try {
        if (last !== undefined && !isChecked) await this.checkLast(last, signal);
        isChecked = true;
        let isAlive = false; // the first batch may come from a service that ends at once
        for await (const batch of this.read(after, signal)) {
          yield batch;
          if (isAlive || batch.position > after) backoff.reset();
          isAlive = true;
          after = batch.position;
          const item = batch.items.at(-1);
          if (item !== undefined) last = toLastItem(item);
        }
        backoff.reset();
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof Interrupted)) throw error;
        this.log(`the feed was interrupted after position ${after}, and is read again: ${error.message}`);
        isChecked = false;
        await backoff.wait(signal, error.secondsMin);
      }
    }
  }

  /** The last position of the log, for a consumer that begins with what comes from now on. */
  async readHead(signal: AbortSignal = new AbortController().signal): Promise<number> {
    return (await this.readNext({ after: "0" }, signal)).head; // unfiltered: the first item ends it
  }

  /** One answer, in batches as its bytes arrive. What came before an interruption holds. */
  private async *read(after: number, signal: AbortSignal): AsyncGenerator<Batch> {
    const body: Body = this.sendsEvents ? new EventStreamBody() : new NdjsonBody();
    const sequence = new Sequence(after, this.options.wholeLedger ?? false);
    const wait: Parameters = this.sendsEvents ? {} : { wait: String(this.waitSeconds) };
    const parameters = { ...this.parameters, after: String(after), ...wait };
    let last: Batch | undefined;
    for await (const chunk of this.request(parameters, this.sendsEvents, signal)) {
      const batch = sequence.accept(body.accept(chunk));
      if (batch.items.length === 0 && batch.head === undefined) continue;
      last = batch;
      yield batch;
    }
    if (this.sendsEvents) throw new Interrupted("the service ended the stream");
    if (last?.head === undefined) throw new Interrupted("the answer ended without its progress");
    if (last.position === after && last.head > after) throw new Interrupted("the service could not read on");
  }

  private async checkLast(last: LastItem, signal: AbortSignal): Promise<void> {
    const parameters = { ...this.parameters, after: String(last.position - 1), wait: String(CHECK_SECONDS) };
    const { item, head } = await this.readNext(parameters, signal);
    if (item === undefined && head >= last.position) throw new Interrupted("the service could not read on");
    const found = describe(item);
    if (found !== describe(last)) throw new LedgerChanged(last.position, describe(last), found);
  }

  /** The next item, if there is one, and the head. */
  private async readNext(
    parameters: Parameters & { after: string },
    signal: AbortSignal,
  ): Promise<{ item: Item | undefined; head: number }> {
    const body = new NdjsonBody();
    const messages: Message[] = [];
    for await (const chunk of this.request({ ...parameters, limit: "1" }, false, signal)) {
      messages.push(...body.accept(chunk));
    }
    const { items, head } = new Sequence(Number(parameters.after), false).accept(messages);
    if (head === undefined) throw new Interrupted("the answer ended without its progress");
    return { item: items[0], head };
  }

  /** The bytes of an answer. Throws FeedRefused, or Interrupted if it cannot be had now. */
  private async *request(
    parameters: Parameters,
    sendsEvents: boolean,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const accept = sendsEvents ? SERVER_SENT_EVENTS : NDJSON;
    const silenceSeconds = (sendsEvents ? HEARTBEAT_SECONDS : this.waitSeconds) + GRACE_SECONDS;
    const abort = new AbortController();
    const onAbort = (): void => abort.abort(signal.reason);
    signal.addEventListener("abort", onAbort);
    if (signal.aborted) onAbort();
    try {
      const url = new URL(this.url);
      url.search = new URLSearchParams(parameters).toString();
      const request = this.fetch(url, { headers: { ...this.headers, accept }, signal: abort.signal });
      const response = await within(silenceSeconds, abort, request);
      if (!response.ok) throw toRefusal(response, await within(silenceSeconds, abort, response.text()));
      const found = response.headers.get("content-type") ?? "no content type";
      if (found.split(";")[0]?.trim() !== accept) {
        throw new MalformedFeed(`${this.url.href} answers with ${found}, not with ${accept}`);
      }
      const reader = response.body?.getReader();
      while (reader !== undefined) {
        const { done, value } = await within(silenceSeconds, abort, reader.read());
        if (done) return;
        yield value;
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      abort.abort(); // whoever stops in the middle gives the connection back
    }
  }
}

/**
 * What fetch gives, in time. Throws Interrupted if the network fails, is silent, or `abort` is aborted.
 *
 * It listens to `abort` itself: a fetch of Node 20 and earlier (undici before 7, its issue 4089) never settles a read
 * of an answer that has arrived whole, if it is aborted before its end is read.
 */
async function within<Value>(seconds: number, abort: AbortController, value: Promise<Value>): Promise<Value> {
  const { signal } = abort;
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort);
  });
  const timer = setTimeout(() => abort.abort(new Error(`silent for ${seconds} s`)), seconds * 1000);
  try {
    return await Promise.race([value, aborted]);
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    throw new Interrupted(String(cause), 0, { cause: error });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

function describe(item: LastItem | undefined): string {
  if (item === undefined) return "no event";
  return `${item.object} version ${item.version} (position ${item.position})`;
}

/** What an answer that is no success means. */
function toRefusal(response: Response, text: string): Error {
  const { status } = response;
  if (RETRIED.has(status) || status >= 500) {
    const seconds = Number(response.headers.get("retry-after") ?? 0);
    return new Interrupted(`status ${status}`, Number.isFinite(seconds) ? seconds : 0);
  }
  let error: { message?: string; code?: string; param?: string } | undefined;
  try {
    error = (JSON.parse(text) as { error?: typeof error }).error;
  } catch {
    error = undefined;
  }
  if (error?.message === undefined) {
    return new MalformedFeed(`${response.url} answers with status ${status}: ${text.slice(0, 200)}`);
  }
  const isKey = status === 401 || status === 403;
  const kind = error.code === "position_from_the_future" ? PositionFromTheFuture : isKey ? KeyRefused : FeedRefused;
  return new kind(status, error.message, error.code, error.param);
}
