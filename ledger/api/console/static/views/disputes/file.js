// A file of the evidence: what it is, a small picture of an image, and a download.

import { headersOf, readError } from "../../lib/api.js";
import { formatBytes } from "../../lib/format.js";
import { useResource } from "../../lib/resource.js";
import { hasScope } from "../../lib/session.js";
import { html, useEffect, useRef, useState } from "../../lib/ui.js";
import { Notice } from "../../parts/notice.js";
import { IdLink, Time } from "../../parts/values.js";

const IMAGES = new Set(["gif", "jpg", "png"]);
const THUMBNAIL_PX = 160;
// Evidence has no larger ones; files for another purpose may.
const IMAGE_BYTES_MAX = 5_000_000;

/** @param {{ id: string }} props */
export function EvidenceFile({ id }) {
  const mayRead = hasScope("rak_file_read");
  const { data: file, error } = useResource(mayRead ? `/v1/files/${encodeURIComponent(id)}` : null);
  if (!mayRead) {
    return html`<p class="hint"><${IdLink} id=${id} />: a key with the scope <code>rak_file_read</code> shows
      the file.</p>`;
  }
  if (error) return html`<${Notice} error=${error} title=${`The file ${id} could not be read.`} />`;
  if (!file) return html`<p class="faint">…</p>`;
  const type = (file.type ?? "file").toUpperCase();
  return html`<div class="evidence-file">
    ${IMAGES.has(file.type) && file.size <= IMAGE_BYTES_MAX && html`<${Thumbnail} file=${file} />`}
    <div class="evidence-file-text">
      <p class="evidence-file-name">${file.filename ?? file.id}</p>
      <p class="hint">${type} · <span class="number">${formatBytes(file.size)}</span> ·${" "}
        <${Time} at=${file.created} /></p>
      <p><${IdLink} id=${file.id} /></p>
      <${Download} file=${file} />
    </div>
  </div>`;
}

/** @param {{ file: any }} props */
function Download({ file }) {
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const save = () => download(file).then(() => setProblem(null), setProblem);
  return html`<p><button type="button" class="button-small" onClick=${save}>Download${" "}
      <span class="visually-hidden">${file.filename ?? file.id}</span></button></p>
    ${problem && html`<${Notice} error=${problem} title="The download failed." />`}`;
}

/**
 * The bytes, asked for as every other answer is: an <img> could name no connected account.
 * @param {any} file
 * @param {AbortSignal} [signal]
 */
async function fetchBytes(file, signal) {
  const path = `/v1/files/${encodeURIComponent(file.id)}/contents`;
  const response = await fetch(path, { headers: headersOf(), signal, credentials: "same-origin" });
  if (!response.ok) throw await readError(response);
  return response.blob();
}

/** @param {any} file */
async function download(file) {
  const url = URL.createObjectURL(await fetchBytes(file));
  const link = document.createElement("a");
  link.href = url;
  link.download = file.filename ?? file.id;
  link.click();
  URL.revokeObjectURL(url);
}

/**
 * The image on a canvas, scaled down: nothing of the file is more than pixels.
 * @param {{ file: any }} props
 */
function Thumbnail({ file }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const [state, setState] = useState("loading");
  useEffect(() => {
    const abort = new AbortController();
    draw(file, canvas, abort.signal).then(
      () => setState("drawn"),
      () => abort.signal.aborted || setState("failed"),
    );
    return () => abort.abort();
  }, [file.id]);
  if (state === "failed") {
    return html`<p class="hint thumbnail-none">No preview: the file is not the image that its type says.</p>`;
  }
  return html`<canvas class="thumbnail" ref=${canvas} width="1" height="1" role="img"
    aria-label=${`Preview of ${file.filename ?? file.id}`}></canvas>`;
}

/**
 * @param {any} file
 * @param {{ current: HTMLCanvasElement | null }} canvas
 * @param {AbortSignal} signal
 */
async function draw(file, canvas, signal) {
  const bytes = await fetchBytes(file, signal);
  const image = await createImageBitmap(bytes);
  const element = canvas.current;
  if (!element || signal.aborted) return;
  const scale = Math.min(1, THUMBNAIL_PX / Math.max(image.width, image.height)) * devicePixelRatio;
  element.width = Math.max(1, Math.round(image.width * Math.min(1, scale)));
  element.height = Math.max(1, Math.round(image.height * Math.min(1, scale)));
  element.getContext("2d")?.drawImage(image, 0, 0, element.width, element.height);
  image.close();
}
