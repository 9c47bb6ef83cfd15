"""Which public Events a domain event makes, in order, and what they say (contract 3.2, 4.2).

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
from ledger.domain.imported_event import EventImported, PastEvent
from ledger.domain.refund import Refund
from ledger.domain.resource import Resource
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.domain.webhook_endpoint_quota import WebhookRoster
from ledger.wire import charges, refunds, render
from ledger.wire.render import Json

State = (
    Customer
    | CustomerSession
    | Charge
    | Dispute
    | Refund
    | File
    | FileLink
    | WebhookEndpoint
    | WebhookRoster
    | Resource
    | PastEvent
)
PublicEvent = tuple[str, Json, Json | None]
"""Type, `data.object`, `data.previous_attributes`."""

_DISPUTE_UPDATED = "charge.dispute.updated"
_DISPUTE_WITHDRAWN = "charge.dispute.funds_withdrawn"
_DISPUTE_CLOSED = "charge.dispute.closed"
# The silent ones are missing: files and their links, customer sessions, webhook endpoints, and
# charge.disputed turning true.
TYPES: dict[type[DomainEvent], tuple[str, ...]] = {
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
    dispute.InquiryEscalated: (_DISPUTE_UPDATED, _DISPUTE_WITHDRAWN),
    dispute.InquiryClosed: (_DISPUTE_CLOSED,),
    dispute.AppealOpened: (_DISPUTE_UPDATED,),
    refund.RefundCreated: ("refund.created",),
    refund.RefundUpdated: ("refund.updated", "charge.refund.updated"),
}
EVENTS_MAX = 2
"""That one change makes."""
# What other services tell of says itself which Event it makes.
TOLD: frozenset[type[DomainEvent]] = frozenset({*resource.EVENTS, *imported_event.EVENTS})


def public_events(before: State | None, event: DomainEvent, after: State) -> list[PublicEvent]:
    """The Events that `event` makes, which took the object from `before` to `after`; often [] or one."""
    types = TYPES.get(type(event), ())
    if not types:
        return [_told(before, event, after)] if type(event) in TOLD else []
    if isinstance(event, DisputeOpened) and event.movement is not None:
        types = (*types, _DISPUTE_WITHDRAWN)
    resource = _shown(after, event.at)
    made: list[PublicEvent] = []
    for name in types:
        previous = None
        if name.endswith(".updated") and before is not None:
            previous = previous_attributes(_shown(before, event.at), resource)
        made.append((name, resource, previous))
    return made


def event_id(event: DomainEvent, ordinal: int, recorded_at: float) -> str:
    """The id of one of the Events that `event` makes: its own, if it came with one; else it follows from
    the log."""
    if isinstance(event, EventImported):
        return event.originator_id
    return ids.derived_id("evt", recorded_at, event.originator_id, event.originator_version, ordinal)


def is_of(event_id: str, stream: str, version: int) -> bool:
    """Whether it is the id of an Event that `stream` made, up to `version`: told from the id alone."""
    made = ids.id_time(event_id)
    return made is not None and any(
        event_id == ids.derived_id("evt", made, stream, each, ordinal)
        for each in range(1, version + 1)
        for ordinal in range(EVENTS_MAX)
    )


def previous_attributes(old: Json, new: Json) -> Json:
    """The old values of what differs between two versions of a resource."""
    previous: Json = {}
    for name, value in new.items():
        was = old.get(name)
        if was == value:
            continue
        if isinstance(was, dict) and isinstance(value, dict):
            was = previous_attributes(was, value)
        previous[name] = was
    for name, was in old.items():
        if name not in new:
            previous[name] = was
    return previous


def _told(before: State | None, event: DomainEvent, after: State) -> PublicEvent:
    """What others tell of is shown as they told it. Of an update that is the first we hear of a resource
    nothing is known to have changed."""
    if isinstance(event, EventImported):
        return event.type, event.object or {}, event.previous_attributes
    assert isinstance(after, Resource)
    previous = None
    if after.event_type.endswith(resource.UPDATED):
        previous = {}
        if isinstance(before, Resource) and not before.deleted:
            previous = previous_attributes(before.object, after.object)
    return after.event_type, after.object, previous


def _shown(state: State, now: int) -> Json:
    match state:
        case Customer():
            return render.customer(state)
        case Charge():
            return charges.charge(state)
        case Dispute():
            return render.dispute(state, now)
        case Refund():
            return refunds.refund(state)
    raise TypeError(f"a {type(state).__name__} is in no Event")
