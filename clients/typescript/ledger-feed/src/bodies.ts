// The two forms in which the feed comes, taken apart as their bytes arrive, wherever they are cut.

import { parseMessage, type Message } from "./items.js";

export const NDJSON = "application/x-ndjson";
export const SERVER_SENT_EVENTS = "text/event-stream";

/** The body of one answer. */
export interface Body {
  /** What is complete with these bytes. An incomplete end is kept until the rest of it comes. */
  accept(chunk: Uint8Array): Message[];
}

/** Whole lines of what has come. */
class Lines {
  // It keeps the bytes of a character that is cut in two.
  private readonly decoder = new TextDecoder();
  private begun = "";

  accept(chunk: Uint8Array): string[] {
    const lines = (this.begun + this.decoder.decode(chunk, { stream: true })).split("\n");
    this.begun = lines.pop() ?? "";
    return lines;
  }
}

/** One JSON object a line. The last line of a whole body is its progress. */
export class NdjsonBody implements Body {
  private readonly lines = new Lines();

  accept(chunk: Uint8Array): Message[] {
    return this.lines
      .accept(chunk)
      .filter((line) => line !== "")
      .map(parseMessage);
  }
}

/** Server-sent events: an item is a message, progress an event of this name. What has another name is passed over. */
export class EventStreamBody implements Body {
  private readonly lines = new Lines();
  private name = "";
  private data: string[] = [];

  accept(chunk: Uint8Array): Message[] {
    const messages: Message[] = [];
    for (const line of this.lines.accept(chunk)) {
      const field = line.endsWith("\r") ? line.slice(0, -1) : line;
      if (field !== "") {
        this.acceptField(field);
        continue;
      }
      if (this.data.length > 0 && ["", "message", "progress"].includes(this.name)) {
        messages.push(parseMessage(this.data.join("\n")));
      }
      this.name = "";
      this.data = [];
    }
    return messages;
  }

  private acceptField(line: string): void {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.data.push(value);
    else if (field === "event") this.name = value;
  }
}
