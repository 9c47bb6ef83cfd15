"""Commands that ingest facts from other systems: customers, charges, refunds, files, webhook endpoints and
Events that exist elsewhere, and what the card network reports about disputes.

Ingesting is idempotent: by id, and for the network's facts by reference. The same report again is answered
again; another one under a known id or reference is a ContentConflict. No request caused these facts, so their
Events have `request: null` (contract §3.1, §4.1). The log keeps who reported them and, as causation,
the network's reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ledger.call import Call
from ledger.commands import refunds, webhook_endpoints
from ledger.commands.context import DecisionContext
from ledger.commands.disputes import read_paid_charge
from ledger.commands.execution import Decide, Decision
from ledger.commands.usable_objects import get_usable_param
from ledger.domain import (
    charge_decisions,
    customer,
    dispute_decisions,
    file,
    imported_event,
    repeats,
    webhook_endpoint_decisions,
)
from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute, DisputeOpened
from ledger.domain.dispute_decisions import FACTS_ABOUT_CHARGE, DisputeReport, FactReport
from ledger.domain.event import DomainEvent
from ledger.domain.file import File
from ledger.domain.imported_event import EventImported, ImportedEvent
from ledger.domain.payment_intent import PaymentIntent
from ledger.domain.redaction.rules import redact_text
from ledger.domain.refund import Refund, RefundCreated
from ledger.domain.webhook_endpoint import FROM_ACCOUNTS, FROM_SELF, WebhookEndpoint
from ledger.errors import ContentConflict, InvalidParameter, InvalidState
from ledger.ids import parse_id_time
from ledger.objects import Kind, fetch_own, get_param, get_target, is_visible, render_object
from ledger.store.journal import Change, fold_changes
from ledger.wire.event_destinations import check_enabled_events
from ledger.wire.event_types import check_event_type
from ledger.wire.public_events import is_event_of_stream

_FACTS_WITH_FIELD = {"amount": ("escalated",), "due_by": ("escalated", "appeal_opened")}


class IngestResult(NamedTuple):
    """The changes of an ingested fact (none if it was known), and the object that it is about."""

    changes: Sequence[Change]
    state: State


Ingest = Callable[[Call, DecisionContext, int], Awaitable[IngestResult]]
"""Decides on a fact at a time (unix seconds). Raises RequestError for one that is refused."""


def answer_with_object(ingest: Ingest) -> Decide:
    """The command that ingests a fact and answers with its object, as the public API shows it."""

    async def decide(call: Call, context: DecisionContext, now: int) -> Decision:
        changes, state = await ingest(call, context, now)
        return Decision(changes, render_object(state, now))

    return decide


def answer_with_summary(ingest: Ingest) -> Decide:
    """The command that ingests a fact and answers with its object's id, and whether anything changed."""

    async def decide(call: Call, context: DecisionContext, now: int) -> Decision:
        changes, state = await ingest(call, context, now)
        return Decision(changes, {"id": state.id, "changed": bool(changes)})

    return decide


async def ingest_customer(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """`POST /internal/v1/customers`"""
    params = call.parameters
    existing = await _find_existing(call, Customer, context)
    events = customer.create(
        customer_id=params.get("id") or context.new_id("cus"),
        account=call.account,
        livemode=call.livemode,
        params=params,
        card_id=context.new_id("card") if "source" in params else "",
        now=now,
    )
    if existing is not None:
        return await _repeat_creation(call, context, existing, events[0])
    return _apply_events(events)


async def ingest_charge(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """`POST /internal/v1/charges`. Charges no card, and opens no dispute for a test card."""
    params = call.parameters
    existing = await _find_existing(call, Charge, context)
    if "customer" in params and existing is None:
        await get_usable_param(call, Customer, "customer", params["customer"], context.get)
    if "payment_intent" in params:
        await _check_intent(call, context, params["payment_intent"])
    events = charge_decisions.register(
        charge_id=params.get("id") or context.new_id("ch"),
        account=call.account,
        livemode=call.livemode,
        params=params,
        txn_id=context.new_id("txn"),
        now=now,
    )
    if existing is not None:
        if params.get("amount_captured", existing.amount_captured) != existing.amount_captured:
            return _repeat(existing, "amount_captured")
        return await _repeat_creation(call, context, existing, events[0])
    return _apply_events(events)


async def _check_intent(call: Call, context: DecisionContext, intent_id: str | None) -> None:
    """Raises InvalidState for a payment intent that this ledger charges itself: a charge from elsewhere would
    contradict it. An id of any other kind is kept. Ids made here contain their time; others need no read."""
    if intent_id is None or parse_id_time(intent_id) is None:
        return
    state = await fetch_own(call, intent_id, context.get)
    if isinstance(state, PaymentIntent) and is_visible(state, call):
        text = f"The payment intent '{intent_id}' is managed by this ledger; it makes its charges itself."
        raise InvalidState(text, param="payment_intent")


async def ingest_webhook_endpoint(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """A webhook endpoint, as a line of an import."""
    call = call.replace(parameters=_check_endpoint(call.parameters))
    existing = await _find_existing(call, WebhookEndpoint, context)
    if existing is not None:
        (event,) = webhook_endpoint_decisions.create_any(
            endpoint_id=existing.id,
            account=call.account,
            livemode=call.livemode,
            params=call.parameters,
            now=now,
        )
        result = await _repeat_creation(call, context, existing, event)
        options = webhook_endpoint_decisions.get_first_options(await context.get_events(existing.id))
        differing = (name for name in options if call.parameters.get(name, options[name]) != options[name])
        return _repeat(result.state, next(differing, None))
    changes = await webhook_endpoints.decide_endpoint(call, context, now, call.parameters["id"])
    return IngestResult(changes, changes[-1].state)


def _check_endpoint(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an endpoint, or of an event destination, that a line has. Raises InvalidParameter for
    members of the other."""
    checked = dict(params)
    is_thin = checked.pop("event_payload", "snapshot") == "thin"
    if "name" not in params:
        for member in ("event_payload", "events_from"):
            if member in params:
                text = f"Invalid {member}: only an event destination has it, which has a name."
                raise InvalidParameter(text, param=member)
    elif "connect" in params:
        text = f"Invalid connect: with a name, pass events_from: {FROM_SELF}, {FROM_ACCOUNTS}."
        raise InvalidParameter(text, param="connect")
    else:
        checked["thin"] = is_thin
    check_enabled_events(params["enabled_events"], thin=is_thin)
    return checked


async def ingest_dispute(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """`POST /internal/v1/disputes`"""
    params = call.parameters
    charge = await get_param(call, Charge, "charge", params["charge"], context.get)
    existing = await _find_existing(call, Dispute, context)
    reference = params.get("reference")
    existing_id = existing.id if existing is not None else charge.references.get(reference or "")
    if existing_id is not None:
        opened, *_ = await context.get_events(existing_id)
        assert isinstance(opened, DisputeOpened), "a charge names only disputes as its references"
        difference = repeats.find_dispute_difference(opened, params)
        if difference is not None and existing is None:
            raise _reference_conflict(call, difference)
        return _repeat(await context.get(existing_id), difference)
    report = DisputeReport(
        kind=params["kind"],
        reason=params.get("reason", "general"),
        network_reason_code=params.get("network_reason_code"),
        amount=params.get("amount"),
        created=params.get("created"),
        due_by=params.get("due_by"),
        reference=reference,
    )
    events = dispute_decisions.open_dispute(
        charge,
        report,
        dispute_id=params.get("id") or context.new_id("du"),
        txn_id=context.new_id("txn"),
        terms=context.environment.terms,
        now=now,
    )
    return _apply_events(events, charge, causation=_causation(call))


async def ingest_dispute_fact(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """`POST /internal/v1/disputes/{id}/facts`. Raises InvalidDisputeState for a fact that the dispute's
    status does not allow."""
    params = call.parameters
    fact, reference = params["fact"], params.get("reference")
    state = await get_target(call, Dispute, context.get)
    for name, facts in _FACTS_WITH_FIELD.items():
        if name in params and fact not in facts:
            raise InvalidParameter(f"{name} is accepted only with {' and '.join(facts)}.", param=name)
    events = dispute_decisions.report_fact(
        state,
        FactReport(**params),
        paid=await read_paid_charge(state, context) if fact in FACTS_ABOUT_CHARGE else None,
        txn_id=context.new_id("txn"),
        terms=context.environment.terms,
        now=now,
    )
    if events:
        charge = await context.get(state.charge) if len(events) > 1 else None
        return _apply_events(events, *filter(None, (charge, state)), causation=_causation(call))
    recorded = [event for event in await context.get_events(state.id) if _is_report(event, reference)]
    difference = repeats.find_fact_difference(recorded[0], params) if recorded else None
    if difference is not None:
        raise _reference_conflict(call, difference)
    return IngestResult([], state)


async def ingest_refund(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """A refund from another system, as a line of an import. Refused for the reasons of `POST /v1/refunds`,
    but recorded for a charge that has been redacted: the money was returned all the same."""
    params = call.parameters
    existing = await _find_existing(call, Refund, context)
    if existing is None:
        charge = await get_target(call.replace(target=params["charge"]), Charge, context.get)
        state, changes = await refunds.decide_refund(call, context, now, charge, params["id"])
        return IngestResult(changes, state)
    created, *_ = await context.get_events(existing.id)
    assert isinstance(created, RefundCreated), "the first event of a refund"
    return _repeat(existing, repeats.find_refund_difference(created, params))


async def ingest_event(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """An Event from another system, as a line of an import. Raises ContentConflict for the id of an Event
    that this ledger has derived for the same object."""
    params = call.parameters
    check_event_type(params["type"], "type")
    object_id = params["object"].get("id")
    if isinstance(object_id, str) and parse_id_time(params["id"]) is not None:
        subject = await context.get(object_id)
        if subject is not None and is_event_of_stream(params["id"], subject.id, subject.version):
            raise id_taken_error(params["id"])
    events = imported_event.create(
        event_id=params["id"],
        account=call.account,
        livemode=call.livemode,
        type=params["type"],
        object=params["object"],
        previous_attributes=params.get("previous_attributes"),
        now=now,
    )
    existing = await _find_existing(call, ImportedEvent, context)
    result = _apply_events(events, causation=f"import:{call.cause.request_id}")
    if existing is None:
        return result
    if existing == result.state:
        return IngestResult([], existing)
    recorded, *_ = await context.get_events(existing.id)
    (reported,) = events
    assert isinstance(recorded, EventImported)
    assert isinstance(reported, EventImported)
    return _repeat(existing, repeats.find_event_difference(recorded, reported))


async def ingest_file(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """A file from another system, as a line of an import. The contents are stored before the event that
    creates the file is appended, as for an upload; storing the same contents again changes nothing."""
    params = call.parameters
    object_id, filename, content = params["id"], params.get("filename"), params["content"]
    existing = await context.get(object_id)
    if existing is None:
        upload = await context.environment.storage.store_whole(object_id, filename, content)
        events = file.upload(
            file_id=object_id,
            account=call.account,
            livemode=call.livemode,
            purpose=params["purpose"],
            filename=filename,
            size=upload.size,
            type=upload.type,
            digest=upload.digest,
            pages=upload.pages,
            created=params.get("created"),
            now=now,
        )
        return _apply_events(events)
    if not isinstance(existing, File) or not is_visible(existing, call):
        raise id_taken_error(object_id)
    if existing.redaction:
        filename = None if existing.filename is None else redact_text(filename)
    sent = {
        "purpose": (params["purpose"], existing.purpose),
        "filename": (filename, existing.filename),
        "content": (hashlib.sha256(content).hexdigest(), existing.digest),
        "created": (params.get("created", existing.created), existing.created),
    }
    return _repeat(existing, next((name for name, (new, known) in sent.items() if new != known), None))


async def _repeat_creation(
    call: Call, context: DecisionContext, existing: State, reported: DomainEvent
) -> IngestResult:
    """The answer to a report of an object that exists; `reported` is the event that would create it."""
    recorded, *_ = await context.get_events(existing.id)
    return _repeat(existing, repeats.find_creation_difference(recorded, reported, call.parameters))


def _repeat(existing: State | None, difference: str | None) -> IngestResult:
    """The answer to a report under a known id. Raises ContentConflict for the field that differs, if any."""
    assert existing is not None, "a dispute is appended together with its ChargeDisputed"
    if difference is not None:
        text = f"'{existing.id}' was recorded before with another value of {difference}."
        raise ContentConflict(text, param=difference)
    return IngestResult([], existing)


def _reference_conflict(call: Call, difference: str) -> ContentConflict:
    text = f"The reference '{call.parameters['reference']}' was used before with another {difference}."
    return ContentConflict(text, param=difference)


def _is_report(event: DomainEvent, reference: str | None) -> bool:
    return getattr(event, "reference", None) == reference


async def _find_existing(call: Call, kind: type[Kind], context: DecisionContext) -> Kind | None:
    """The object with the call's `id`, None if there is none yet. Raises ContentConflict if the id belongs to
    another kind of object, account or mode."""
    object_id = call.parameters.get("id")
    state = None if object_id is None else await context.get_new(object_id)
    if state is None:
        return None
    if not isinstance(state, kind) or not is_visible(state, call):
        raise id_taken_error(state.id)
    return state


def id_taken_error(object_id: str) -> ContentConflict:
    """The refusal of an id that belongs to another object, of any kind, account or mode."""
    return ContentConflict(f"The id '{object_id}' belongs to another object.", param="id")


def _causation(call: Call) -> str:
    return f"network:{call.parameters.get('reference') or call.cause.request_id}"


def _apply_events(
    events: Sequence[DomainEvent], *before: State, causation: str | None = None
) -> IngestResult:
    """The changes of `events`, on streams whose aggregates are `before`, and the object of the last one."""
    changes = fold_changes(events, *before, causation=causation)
    return IngestResult(changes, changes[-1].state)
