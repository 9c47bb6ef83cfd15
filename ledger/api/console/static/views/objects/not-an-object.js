// An id that names no object itself: an Event, a request, a card … leads to what it belongs to.

import { navigate } from "../../lib/router.js";
import { useResource } from "../../lib/resource.js";
import { html, useEffect } from "../../lib/ui.js";
import { Empty, Loading, Notice, Page } from "../../parts/notice.js";
import { placeOfAlert, placeOfHit } from "./hits.js";

/** @param {{ id: string }} props */
export function NotAnObject({ id }) {
  const alert = placeOfAlert(id);
  const found = useResource(alert ? null : "/internal/v1/audit/find", { q: id });
  const hits = found.data?.data ?? [];
  const place = alert ?? (hits.length === 1 ? placeOfHit(hits[0])
    : hits.length > 1 ? `find?q=${encodeURIComponent(id)}` : null);
  useEffect(() => {
    if (place) navigate(place, { replace: true });
  }, [place]);
  return html`
    <${Page} title="Object" name=${`Object ${id}`} lead=${html`<span class="id">${id}</span>`} />
    <${Notice} error=${found.error} retry=${found.reload} />
    ${found.isLoading || place ? html`<${Loading} />` : found.data && html`
      <${Empty} title="There is nothing with this id">It may belong to another account, or to the other mode:
        choose the account in the menu, or sign in with a key of the other mode.</${Empty}>`}`;
}
