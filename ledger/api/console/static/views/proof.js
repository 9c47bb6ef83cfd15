// Proof: the newest checkpoint, who witnesses it, and whether all of it verifies.

import { navigate } from "../lib/router.js";
import { useKeys } from "../lib/keyboard.js";
import { html, useState } from "../lib/ui.js";
import { Tabs } from "../parts/forms.js";
import { Page } from "../parts/notice.js";
import { Check } from "./proof/check.js";
import { Checkpoints } from "./proof/checkpoints.js";
import { Keys } from "./proof/keys.js";
import { Now } from "./proof/now.js";
import { Verify } from "./proof/verify.js";

/** @type {[id: string, title: string][]} */
const TABS = [
  ["now", "Now"], ["verify", "Verify"], ["checkpoints", "Kept checkpoints"], ["keys", "Keys of the log"],
  ["check", "Check a file"],
];

/** @param {{ path: string[], query: URLSearchParams }} props */
export function View({ query }) {
  const tab = query.get("tab") ?? "now";
  const [turn, setTurn] = useState(0);
  const verify = () => {
    setTurn(turn + 1);
    if (tab !== "verify") navigate("proof", { query: { tab: "verify" } });
  };
  useKeys([["v", "verify now", verify]]);
  return html`<${Page} title="Proof"
    lead="Every record is a leaf of a Merkle tree whose checkpoints the log signs and
    witnesses cosign. Signatures and proofs are checked in this browser.">
      <button type="button" class="button-primary" onClick=${verify}>Verify now <kbd>v</kbd></button>
    </${Page}>
    <${Tabs} tabs=${TABS} query=${query} label="Proof" />
    ${tab === "now" && html`<${Now} />`}
    ${tab === "verify" && html`<${Verify} turn=${turn} onStart=${verify} />`}
    ${tab === "checkpoints" && html`<${Checkpoints} query=${query} />`}
    ${tab === "keys" && html`<${Keys} />`}
    ${tab === "check" && html`<${Check} />`}`;
}
