"""Commands that ingest facts from other systems: customers, charges, refunds, files, webhook endpoints and
Events that exist elsewhere, and what the card network reports about disputes.

Ingesting is idempotent: by id, and for the network's facts by reference. No request caused these facts, so
their Events have `request: null` (contract §3.1, §4.1). The log keeps who reported them and, as causation,
the network's reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from ledger.call import Call
from ledger.commands import refunds, webhook_endpoints
from ledger.commands.context import DecisionContext
from ledger.commands.execution import Decide, Decision
from ledger.domain import charge_decisions, customer, dispute_decisions, file, imported_event
from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_decisions import DisputeReport
from ledger.domain.event import DomainEvent
from ledger.domain.file import File
from ledger.domain.imported_event import ImportedEvent
from ledger.domain.payment_intent import PaymentIntent
from ledger.domain.refund import Refund
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import InvalidParameter, InvalidState
from ledger.ids import parse_id_time
from ledger.objects import Kind, get_param, get_target, is_visible, render_object
from ledger.store.journal import Change, fold_changes
from ledger.wire.event_types import check_event_type
from ledger.wire.public_events import is_event_of_stream

_FACTS_WITH_DUE_BY = ("escalated", "appeal_opened")


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
    if existing is not None:
        return IngestResult([], existing)
    events = customer.create(
        customer_id=params.get("id") or context.new_id("cus"),
        account=call.account,
        livemode=call.livemode,
        params=params,
        card_id=context.new_id("card") if "source" in params else "",
        now=now,
    )
    return _apply_events(events)


async def ingest_charge(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """`POST /internal/v1/charges`. Charges no card, and opens no dispute for a test card."""
    params = call.parameters
    existing = await _find_existing(call, Charge, context)
    if existing is not None:
        return IngestResult([], existing)
    if "customer" in params:
        await get_param(call, Customer, "customer", params["customer"], context.get)
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
    return _apply_events(events)


async def _check_intent(call: Call, context: DecisionContext, intent_id: str | None) -> None:
    """Raises InvalidState for a payment intent that this ledger charges itself: a charge from elsewhere would
    contradict it. An id of any other kind is kept. Ids made here contain their time; others need no read."""
    if intent_id is None or parse_id_time(intent_id) is None:
        return
    state = await context.get(intent_id)
    if isinstance(state, PaymentIntent) and is_visible(state, call):
        text = f"The payment intent '{intent_id}' is managed by this ledger; it makes its charges itself."
        raise InvalidState(text, param="payment_intent")


async def ingest_webhook_endpoint(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """A webhook endpoint, as a line of an import."""
    existing = await _find_existing(call, WebhookEndpoint, context)
    if existing is not None:
        return IngestResult([], existing)
    changes = await webhook_endpoints.decide_endpoint(call, context, now, call.parameters["id"])
    return IngestResult(changes, changes[-1].state)


async def ingest_dispute(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """`POST /internal/v1/disputes`"""
    params = call.parameters
    charge = await get_param(call, Charge, "charge", params["charge"], context.get)
    existing = await _find_existing(call, Dispute, context)
    if existing is not None and existing.charge != charge.id:
        raise id_taken_error(existing.id)
    reference = params.get("reference")
    existing_id = existing.id if existing is not None else charge.references.get(reference or "")
    if existing_id is not None:
        state = await context.get(existing_id)
        assert state is not None, "a dispute is appended together with its ChargeDisputed"
        return IngestResult([], state)
    report = DisputeReport(
        kind=params["kind"],
        reason=params.get("reason", "general"),
        network_reason_code=params.get("network_reason_code"),
        amount=params.get("amount"),
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
    fact, due_by = params["fact"], params.get("due_by")
    state = await get_target(call, Dispute, context.get)
    if due_by is not None and fact not in _FACTS_WITH_DUE_BY:
        raise InvalidParameter(
            "due_by is accepted only with the facts escalated and appeal_opened.", param="due_by"
        )
    events = dispute_decisions.report_fact(
        state,
        fact,
        params.get("reference"),
        due_by=due_by,
        txn_id=context.new_id("txn"),
        terms=context.environment.terms,
        now=now,
    )
    if not events:
        return IngestResult([], state)
    return _apply_events(events, state, causation=_causation(call))


async def ingest_refund(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """A refund from another system, as a line of an import. Refused for the reasons of `POST /v1/refunds`."""
    params = call.parameters
    existing = await _find_existing(call, Refund, context)
    if existing is None:
        state, changes = await refunds.decide_refund(call, context, now, params["charge"], params["id"])
        return IngestResult(changes, state)
    if existing.charge != params["charge"] or existing.amount != params.get("amount", existing.amount):
        raise id_taken_error(existing.id)
    return IngestResult([], existing)


async def ingest_event(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """An Event from another system, as a line of an import. Raises InvalidState for the id of an Event that
    this ledger has derived for the same object."""
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
    if existing != result.state:
        raise id_taken_error(existing.id)
    return IngestResult([], existing)


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
    sent = (params["purpose"], filename, hashlib.sha256(content).hexdigest())
    if (existing.purpose, existing.filename, existing.digest) != sent:
        raise id_taken_error(object_id)
    return IngestResult([], existing)


async def _find_existing(call: Call, kind: type[Kind], context: DecisionContext) -> Kind | None:
    """The object with the call's `id`, None if there is none yet. Raises InvalidState if the id belongs to
    another kind of object, account or mode."""
    object_id = call.parameters.get("id")
    state = None if object_id is None else await context.get_new(object_id)
    if state is None:
        return None
    if not isinstance(state, kind) or not is_visible(state, call):
        raise id_taken_error(state.id)
    return state


def id_taken_error(object_id: str) -> InvalidState:
    """The refusal of an id that belongs to another object, of any kind, account or mode."""
    return InvalidState(
        f"The id '{object_id}' belongs to another object.", code="resource_already_exists", param="id"
    )


def _causation(call: Call) -> str:
    return f"network:{call.parameters.get('reference') or call.cause.request_id}"


def _apply_events(
    events: Sequence[DomainEvent], *before: State, causation: str | None = None
) -> IngestResult:
    """The changes of `events`, on streams whose aggregates are `before`, and the object of the last one."""
    changes = fold_changes(events, *before, causation=causation)
    return IngestResult(changes, changes[-1].state)
