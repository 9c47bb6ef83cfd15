"""The JSON of resources of other services and of imported Events, for expansion and audit, and their Events.

A charge's payment intent, for example, expands to the resource that another service published.
"""

from __future__ import annotations

from ledger.domain.event import DomainEvent
from ledger.domain.imported_event import EventImported, ImportedEvent
from ledger.domain.resource import UPDATED_SUFFIX, Resource
from ledger.wire.json_values import Json
from ledger.wire.previous_attributes import PublicEvent, diff_attributes


def render_resource(state: Resource) -> Json:
    """A resource as it was published last."""
    return dict(state.object)


def render_imported_event(state: ImportedEvent) -> Json:
    """The members of an imported Event that its state has; its data is only in the feed."""
    return {"id": state.id, "object": "event", "livemode": state.livemode, "type": state.type}


def make_resource_event(before: Resource | None, event: DomainEvent, after: Resource) -> PublicEvent:
    """The public Event of a publication or deletion; its type comes from the owner of the resource.

    An update that is the first publication of a resource has empty previous attributes: what it changed is
    unknown.
    """
    old_values = None
    if after.event_type.endswith(UPDATED_SUFFIX):
        old_values = {}
        if before is not None and not before.deleted:
            old_values = diff_attributes(before.object, after.object)
    return after.event_type, after.object, old_values


def make_imported_event(
    before: ImportedEvent | None, event: DomainEvent, after: ImportedEvent
) -> PublicEvent:
    """The public Event as it was imported."""
    assert isinstance(event, EventImported)
    return event.type, event.object or {}, event.previous_attributes
