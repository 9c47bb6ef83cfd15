// A signed note as it is, to copy or to keep elsewhere.

import { html, useEffect, useMemo } from "../../lib/ui.js";
import { Copy } from "../../parts/values.js";

/** @param {{ note: string, name?: string }} props */
export function NoteText({ note, name = "checkpoint" }) {
  const url = useMemo(() => URL.createObjectURL(new Blob([note], { type: "text/plain" })), [note]);
  useEffect(() => () => URL.revokeObjectURL(url), [url]);
  return html`<div class="note-file">
    <pre class="command" tabindex="0" aria-label="The signed note">${note}</pre>
    <div class="row"><${Copy} text=${note} /><a href=${url} download=${name}>Download</a>
      <span class="hint">Keep it elsewhere: <code>ledger audit verify --against</code> takes it.</span></div>
  </div>`;
}
