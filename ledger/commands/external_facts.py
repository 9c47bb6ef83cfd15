"""What happened elsewhere, told to the ledger: customers and charges made there, and the network's facts.

A thing told twice happens once: by its id, and a fact by its reference. Facts are no request's doing, so
their Events name none (CONTRACT 3.1, 4.1); the log keeps who told them and, as causation, the reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from ledger.call import Call
from ledger.commands import refunds, webhook_endpoints
from ledger.commands.execution import Decide, Decided, Reading
from ledger.domain import charge_decisions, customer, dispute_decisions, file, imported_event
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_decisions import Opening
from ledger.domain.event import DomainEvent
from ledger.domain.file import File
from ledger.domain.imported_event import PastEvent
from ledger.domain.money import Terms
from ledger.domain.refund import Refund
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import InvalidParameter, StateForbids
from ledger.files.storage import Contents
from ledger.ids import id_time
from ledger.objects import Kind, addressed, named, shown, visible
from ledger.store.codec import State, evolve
from ledger.store.journal import Change
from ledger.wire.event_types import check_event_type
from ledger.wire.public_events import is_of

_WITH_DUE_BY = ("escalated", "appeal_opened")


class Told(NamedTuple):
    """What came of telling: changes to append, none when it was known, and the object it is about."""

    changes: Sequence[Change]
    state: State


Tell = Callable[[Call, Reading, int], Awaitable[Told]]


def whole(tell: Tell) -> Decide:
    """Answered with the object as the public API shows it."""

    async def decide(call: Call, reading: Reading, now: int) -> Decided:
        changes, state = await tell(call, reading, now)
        return Decided(changes, shown(state, now))

    return decide


def briefly(tell: Tell) -> Decide:
    """Answered with what it is called, and whether this made a change."""

    async def decide(call: Call, reading: Reading, now: int) -> Decided:
        changes, state = await tell(call, reading, now)
        return Decided(changes, {"id": state.id, "changed": bool(changes)})

    return decide


async def customer_made(call: Call, reading: Reading, now: int) -> Told:
    """`POST /internal/v1/customers`"""
    given = call.parameters
    known = await _known(call, Customer, reading)
    if known is not None:
        return Told([], known)
    events = customer.create(
        customer_id=given.get("id") or reading.new_id("cus"),
        account=call.account,
        livemode=call.livemode,
        given=given,
        card_id=reading.new_id("card") if "source" in given else "",
        now=now,
    )
    return _told(events, {}, None)


async def charge_made(call: Call, reading: Reading, now: int) -> Told:
    """`POST /internal/v1/charges`: no card is charged, no test card's dispute opened."""
    given = call.parameters
    known = await _known(call, Charge, reading)
    if known is not None:
        return Told([], known)
    if "customer" in given:
        await named(call, Customer, "customer", given["customer"], reading.state)
    events = charge_decisions.register(
        charge_id=given.get("id") or reading.new_id("ch"),
        account=call.account,
        livemode=call.livemode,
        given=given,
        txn_id=reading.new_id("txn"),
        now=now,
    )
    return _told(events, {}, None)


def endpoint_made(terms: Terms) -> Tell:
    """A webhook endpoint, as a line of an import."""

    async def tell(call: Call, reading: Reading, now: int) -> Told:
        known = await _known(call, WebhookEndpoint, reading)
        if known is not None:
            return Told([], known)
        endpoint_id = call.parameters["id"]
        changes = await webhook_endpoints.made(call, reading, now, endpoint_id=endpoint_id, terms=terms)
        return Told(changes, changes[-1].state)

    return tell


def dispute_opened(terms: Terms) -> Tell:
    """`POST /internal/v1/disputes`"""

    async def tell(call: Call, reading: Reading, now: int) -> Told:
        given = call.parameters
        charge = await named(call, Charge, "charge", given["charge"], reading.state)
        known = await _known(call, Dispute, reading)
        if known is not None and known.charge != charge.id:
            raise taken(known.id)
        reference = given.get("reference")
        told = known.id if known is not None else charge.references.get(reference or "")
        if told is not None:
            state = await reading.state(told)
            assert state is not None, "a charge names disputes that were opened with it"
            return Told([], state)
        opening = Opening(
            kind=given["kind"],
            reason=given.get("reason", "general"),
            network_reason_code=given.get("network_reason_code"),
            amount=given.get("amount"),
            due_by=given.get("due_by"),
            reference=reference,
        )
        events = dispute_decisions.open_dispute(
            charge,
            opening,
            dispute_id=given.get("id") or reading.new_id("du"),
            txn_id=reading.new_id("txn"),
            terms=terms,
            now=now,
        )
        return _told(events, {charge.id: charge}, _source(call))

    return tell


def fact_reported(terms: Terms) -> Tell:
    """`POST /internal/v1/disputes/{id}/facts`. Raises FactForbidden for one that cannot follow."""

    async def tell(call: Call, reading: Reading, now: int) -> Told:
        given = call.parameters
        fact, due_by = given["fact"], given.get("due_by")
        state = await addressed(call, Dispute, reading.state)
        if due_by is not None and fact not in _WITH_DUE_BY:
            raise InvalidParameter(f"The fact {fact} sets no due date.", param="due_by")
        events = dispute_decisions.report_fact(
            state,
            fact,
            given.get("reference"),
            due_by=due_by,
            txn_id=reading.new_id("txn"),
            terms=terms,
            now=now,
        )
        return _told(events, {state.id: state}, _source(call)) if events else Told([], state)

    return tell


async def refund_made(call: Call, reading: Reading, now: int) -> Told:
    """A refund made elsewhere, as a line of an import. Raises what `POST /v1/refunds` is refused with."""
    given = call.parameters
    known = await _known(call, Refund, reading)
    if known is None:
        state, changes = await refunds.made(call, reading, now, given["charge"], given["id"])
        return Told(changes, state)
    if known.charge != given["charge"] or known.amount != given.get("amount", known.amount):
        raise taken(known.id)
    return Told([], known)


async def event_told(call: Call, reading: Reading, now: int) -> Told:
    """An Event from elsewhere, as a line of an import. Raises StateForbids for one that this ledger made
    itself, of the object that it shows."""
    given = call.parameters
    check_event_type(given["type"], "type")
    shown_id = given["object"].get("id")
    if isinstance(shown_id, str) and id_time(given["id"]) is not None:
        about = await reading.state(shown_id)
        if about is not None and is_of(given["id"], about.id, about.version):
            raise taken(given["id"])
    events = imported_event.tell(
        event_id=given["id"],
        account=call.account,
        livemode=call.livemode,
        type=given["type"],
        object=given["object"],
        previous_attributes=given.get("previous_attributes"),
        now=now,
    )
    known = await _known(call, PastEvent, reading)
    told = _told(events, {}, f"import:{call.request_id}")
    if known is None:
        return told
    if known != told.state:
        raise taken(known.id)
    return Told([], known)


def file_kept(contents: Contents) -> Tell:
    """A file from elsewhere, as a line of an import. Its bytes are kept before it is decided, as an upload's
    are: to keep them again changes nothing."""

    async def tell(call: Call, reading: Reading, now: int) -> Told:
        given = call.parameters
        object_id, filename, content = given["id"], given.get("filename"), given["content"]
        known = await reading.state(object_id)
        if known is None:
            upload = await contents.keep(object_id, filename, content)
            events = file.upload(
                file_id=object_id,
                account=call.account,
                livemode=call.livemode,
                purpose=given["purpose"],
                filename=filename,
                size=upload.size,
                type=upload.type,
                digest=upload.digest,
                pages=upload.pages,
                created=given.get("created"),
                now=now,
            )
            return _told(events, {}, None)
        if not isinstance(known, File) or not visible(known, call):
            raise taken(object_id)
        told = (given["purpose"], filename, hashlib.sha256(content).hexdigest())
        if (known.purpose, known.filename, known.digest) != told:
            raise taken(object_id)
        return Told([], known)

    return tell


async def _known(call: Call, kind: type[Kind], reading: Reading) -> Kind | None:
    """The object of the id given, if it was made before. Raises StateForbids when it is another's."""
    object_id = call.parameters.get("id")
    state = None if object_id is None else await reading.unmade(object_id)
    if state is None:
        return None
    if not isinstance(state, kind) or (state.account, state.livemode) != (call.account, call.livemode):
        raise taken(state.id)
    return state


def taken(object_id: str) -> StateForbids:
    """The refusal of an id that another object has, of whatever kind, account or mode."""
    return StateForbids(
        f"The id '{object_id}' belongs to another object.", code="resource_already_exists", param="id"
    )


def _source(call: Call) -> str:
    return f"network:{call.parameters.get('reference') or call.request_id}"


def _told(events: Sequence[DomainEvent], states: dict[str, State], causation: str | None) -> Told:
    """`events` after `states`; the last event is of the object that was told of."""
    changes = []
    for event in events:
        state = states[event.originator_id] = evolve(states.get(event.originator_id), event)
        changes.append(Change(event, state, causation))
    return Told(changes, changes[-1].state)
