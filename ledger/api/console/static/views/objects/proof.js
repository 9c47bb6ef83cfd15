// The proof of the record that made the shown version.

import { getText } from "../../lib/api.js";
import { html, useEffect, useState } from "../../lib/ui.js";

/** @param {{ position: number }} props */
export function ProofLine({ position }) {
  const [said, setSaid] = useState("");
  useEffect(() => setSaid(""), [position]);
  const download = async () => {
    try {
      save(`${position}.tlog-proof`, await getText(`/internal/v1/audit/proof/${position}.tlog-proof`));
      setSaid("");
    } catch (/** @type {any} */ error) {
      const isUnsealed = error.code === "not_sealed_yet";
      setSaid(isUnsealed ? "It is not sealed yet: try again in a few seconds." : error.message);
    }
  };
  return html`<span class="row">
    <button type="button" class="button-small" onClick=${download}>Download ${position}.tlog-proof</button>
    <span role="status" class="soft">${said}</span></span>`;
}

/**
 * Give a text to the user as a file.
 * @param {string} name
 * @param {string} text
 */
function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}
