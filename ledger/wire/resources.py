"""The JSON of what other services keep, and of Events from before this ledger: shown where an id of theirs
is expanded (a charge's payment intent), and to auditors. The Events themselves are in the feed."""

from __future__ import annotations

from typing import Any

from ledger.domain.imported_event import ImportedEvent
from ledger.domain.resource import Resource

Json = dict[str, Any]


def render_resource(state: Resource) -> Json:
    """As it was published last; what was deleted since is shown as a deleted customer is."""
    if state.deleted:
        return {"id": state.id, "object": state.type, "deleted": True}
    return dict(state.object)


def render_imported_event(state: ImportedEvent) -> Json:
    """What is remembered of it; its data is in the feed alone."""
    return {"id": state.id, "object": "event", "livemode": state.livemode, "type": state.type}
