"""Which public Events a domain event makes, in order, and what they say (contract §3.2, §4.2).

Every visible change makes at least one, no change makes any. `data.object` is the resource right after the
change, as of the second it happened. `previous_attributes` exists on `*.updated` only: the old values of
what changed, a nested hash only its changed members, a new member null, a changed array whole.
"""

from __future__ import annotations

from ledger import ids
from ledger.domain import charge, customer, dispute, imported_event, refund, resource
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.domain.dispute import Dispute, DisputeOpened
from ledger.domain.event import DomainEvent
from ledger.domain.file import File
from ledger.domain.file_link import FileLink
from ledger.domain.imported_event import EventImported, ImportedEvent
from ledger.domain.refund import Refund
from ledger.domain.resource import Resource
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.domain.webhook_endpoint_quota import WebhookEndpointQuota
from ledger.wire import charges, refunds, render
from ledger.wire.render import Json

AggregateState = (
    Customer
    | CustomerSession
    | Charge
    | Dispute
    | Refund
    | File
    | FileLink
    | WebhookEndpoint
    | WebhookEndpointQuota
    | Resource
    | ImportedEvent
)
PublicEvent = tuple[str, Json, Json | None]
"""Type, `data.object`, `data.previous_attributes`."""

_DISPUTE_UPDATED = "charge.dispute.updated"
_DISPUTE_FUNDS_WITHDRAWN = "charge.dispute.funds_withdrawn"
_DISPUTE_CLOSED = "charge.dispute.closed"
# The silent ones are missing: files and their links, customer sessions, webhook endpoints, and
# charge.disputed turning true.
PUBLIC_EVENT_TYPES: dict[type[DomainEvent], tuple[str, ...]] = {
    customer.CustomerCreated: ("customer.created",),
    customer.CustomerUpdated: ("customer.updated",),
    customer.CustomerDeleted: ("customer.deleted",),
    charge.ChargeSucceeded: ("charge.succeeded",),
    charge.ChargeFailed: ("charge.failed",),
    charge.ChargeCaptured: ("charge.captured",),
    charge.ChargeUpdated: ("charge.updated",),
    charge.ChargeRefunded: ("charge.refunded",),
    charge.ChargeExpired: ("charge.expired",),
    dispute.DisputeOpened: ("charge.dispute.created",),
    dispute.DisputeUpdated: (_DISPUTE_UPDATED,),
    dispute.EvidenceStaged: (_DISPUTE_UPDATED,),
    dispute.EvidenceSubmitted: (_DISPUTE_UPDATED,),
    dispute.DisputeConceded: (_DISPUTE_CLOSED,),
    dispute.DisputeLost: (_DISPUTE_CLOSED,),
    dispute.DisputeWon: ("charge.dispute.funds_reinstated", _DISPUTE_CLOSED),
    dispute.InquiryEscalated: (_DISPUTE_UPDATED, _DISPUTE_FUNDS_WITHDRAWN),
    dispute.InquiryClosed: (_DISPUTE_CLOSED,),
    dispute.AppealOpened: (_DISPUTE_UPDATED,),
    refund.RefundCreated: ("refund.created",),
    refund.RefundUpdated: ("refund.updated", "charge.refund.updated"),
}
EVENTS_PER_CHANGE_MAX = 2
"""That one change makes."""
# What other services tell of says itself which Event it makes.
EXTERNAL_EVENTS: frozenset[type[DomainEvent]] = frozenset({*resource.EVENTS, *imported_event.EVENTS})


def derive_public_events(
    before: AggregateState | None, event: DomainEvent, after: AggregateState
) -> list[PublicEvent]:
    """The Events that `event` makes, which took the object from `before` to `after`; often [] or one."""
    types = PUBLIC_EVENT_TYPES.get(type(event), ())
    if not types:
        return [_make_external_event(before, event, after)] if type(event) in EXTERNAL_EVENTS else []
    if isinstance(event, DisputeOpened) and event.movement is not None:
        types = (*types, _DISPUTE_FUNDS_WITHDRAWN)
    rendered = _render(after, event.at)
    events: list[PublicEvent] = []
    for event_type in types:
        old_values = None
        if event_type.endswith(".updated") and before is not None:
            old_values = diff_attributes(_render(before, event.at), rendered)
        events.append((event_type, rendered, old_values))
    return events


def derive_event_id(event: DomainEvent, ordinal: int, recorded_at: float) -> str:
    """The id of one of the Events that `event` makes: its own, if it came with one; else it follows from
    the log."""
    if isinstance(event, EventImported):
        return event.originator_id
    return ids.derive_id("evt", recorded_at, event.originator_id, event.originator_version, ordinal)


def is_event_of_stream(event_id: str, stream_id: str, version_max: int) -> bool:
    """Whether it is the id of an Event that `stream_id` made, up to `version_max`: told from the id alone."""
    created_at = ids.parse_id_time(event_id)
    return created_at is not None and any(
        event_id == ids.derive_id("evt", created_at, stream_id, candidate, ordinal)
        for candidate in range(1, version_max + 1)
        for ordinal in range(EVENTS_PER_CHANGE_MAX)
    )


def diff_attributes(old: Json, new: Json) -> Json:
    """The old values of what differs between two versions of a resource."""
    old_values: Json = {}
    for name, new_value in new.items():
        old_value = old.get(name)
        if old_value == new_value:
            continue
        if isinstance(old_value, dict) and isinstance(new_value, dict):
            old_value = diff_attributes(old_value, new_value)
        old_values[name] = old_value
    for name, old_value in old.items():
        if name not in new:
            old_values[name] = old_value
    return old_values


def _make_external_event(
    before: AggregateState | None, event: DomainEvent, after: AggregateState
) -> PublicEvent:
    """What others tell of is shown as they told it. Of an update that is the first we hear of a resource
    nothing is known to have changed."""
    if isinstance(event, EventImported):
        return event.type, event.object or {}, event.previous_attributes
    assert isinstance(after, Resource)
    old_values = None
    if after.event_type.endswith(resource.UPDATED_SUFFIX):
        old_values = {}
        if isinstance(before, Resource) and not before.deleted:
            old_values = diff_attributes(before.object, after.object)
    return after.event_type, after.object, old_values


def _render(state: AggregateState, now: int) -> Json:
    match state:
        case Customer():
            return render.render_customer(state)
        case Charge():
            return charges.render_charge(state)
        case Dispute():
            return render.render_dispute(state, now)
        case Refund():
            return refunds.render_refund(state)
    raise TypeError(f"a {type(state).__name__} is in no Event")
