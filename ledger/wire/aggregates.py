"""The registry of aggregates: one row for each, which the rest of the ledger reads.

From the rows follow the stored event classes (`store/codec`), nouns in errors and rendering (`objects`),
public Events (`wire/public_events`), expandable fields (`wire/expansion`) and scopes of restricted keys
(`accounts`). docs/architecture.md has the steps to add an aggregate; tests/wire/test_aggregates.py checks
that none is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Generic, TypeVar

from ledger.domain import (
    charge,
    customer,
    customer_session,
    dispute,
    file,
    file_link,
    imported_event,
    legal_hold,
    payment_intent,
    redaction_job,
    refund,
    resource,
    webhook_endpoint,
    webhook_endpoint_quota,
)
from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.wire import (
    charges,
    customer_sessions,
    customers,
    disputes,
    files,
    payment_intents,
    redaction_jobs,
    refunds,
    resources,
    webhook_endpoints,
)
from ledger.wire.json_values import Json
from ledger.wire.previous_attributes import PublicEvent

Kind = TypeVar("Kind", bound=State)
EventTypes = tuple[str, ...] | Callable[[Any], tuple[str, ...]]
"""Types of the public Events that a domain event makes, in order; a function of the event if they vary."""


@dataclass(frozen=True, kw_only=True)
class Aggregate(Generic[Kind]):
    """One aggregate: its state, its domain events and what callers see of it.

    module              its module in `ledger/domain`, with `EVENTS` and `evolve`
    state               its state class, which that `evolve` returns
    noun                its name in error messages
    render              its JSON, from state and time (unix seconds); see `Json`
    object_type         member `object` of that JSON; None if no route of the public API returns it
    path_param          `param` of the error if the object in a path does not exist (contract §1.6)
    permission          a restricted key needs `rak_<permission>_read` to see it (contract §1.2)
    expandable_fields   what `expand[]` may name in it; see `wire/expansion`
    public_event_types  by domain event class; a class that is missing makes no public Event (contract §4.2)
    published_too       other services may publish objects of this type and Events of its family, too: the
                        objects that they keep themselves
    make_public_event   only for objects of other systems: the public Event of each domain event, from the
                        state before, the event and the state after
    """

    module: ModuleType
    state: type[Kind]
    noun: str
    render: Callable[[Kind, int], Json]
    object_type: str | None = None
    path_param: str = "id"
    permission: str | None = None
    expandable_fields: Mapping[str, Any] = field(default_factory=dict)
    public_event_types: Mapping[type[DomainEvent], EventTypes] = field(default_factory=dict)
    published_too: bool = False
    make_public_event: Callable[[Kind | None, DomainEvent, Kind], PublicEvent] | None = None


# Without an annotation: mypy then checks each row's functions against its state class.
_ROWS = (
    Aggregate(
        module=customer,
        state=customer.Customer,
        noun="customer",
        render=lambda state, now: customers.render_customer(state),
        object_type="customer",
        permission="customer",
        expandable_fields=customers.EXPANDABLE_FIELDS,
        public_event_types={
            customer.CustomerCreated: ("customer.created",),
            customer.CustomerUpdated: ("customer.updated",),
            customer.CustomerDeleted: ("customer.deleted",),
        },
    ),
    Aggregate(
        module=charge,
        state=charge.Charge,
        noun="charge",
        render=lambda state, now: charges.render_charge(state),
        object_type="charge",
        permission="charge",
        expandable_fields=charges.EXPANDABLE_FIELDS,
        public_event_types={
            charge.ChargeSucceeded: ("charge.succeeded",),
            charge.ChargeFailed: ("charge.failed",),
            charge.ChargeCaptured: ("charge.captured",),
            charge.ChargeUpdated: ("charge.updated",),
            charge.ChargeRefunded: ("charge.refunded",),
            charge.ChargeExpired: ("charge.expired",),
        },
    ),
    Aggregate(
        module=customer_session,
        state=customer_session.CustomerSession,
        noun="customer session",
        render=lambda state, now: customer_sessions.render_customer_session(state, ""),
        object_type="customer_session",
        permission="customer_session",
        expandable_fields=customer_sessions.EXPANDABLE_FIELDS,
    ),
    Aggregate(
        module=dispute,
        state=dispute.Dispute,
        noun="dispute",
        render=disputes.render_dispute,
        object_type="dispute",
        path_param="dispute",
        permission="dispute",
        expandable_fields=disputes.EXPANDABLE_FIELDS,
        public_event_types={
            dispute.DisputeOpened: disputes.get_opening_event_types,
            dispute.DisputeUpdated: ("charge.dispute.updated",),
            dispute.EvidenceStaged: ("charge.dispute.updated",),
            dispute.EvidenceSubmitted: ("charge.dispute.updated",),
            dispute.DisputeConceded: disputes.get_closing_event_types,
            dispute.DisputeLost: disputes.get_closing_event_types,
            dispute.DisputeWon: disputes.get_closing_event_types,
            dispute.InquiryEscalated: ("charge.dispute.updated", "charge.dispute.funds_withdrawn"),
            dispute.InquiryClosed: ("charge.dispute.closed",),
            dispute.AppealOpened: ("charge.dispute.updated",),
        },
    ),
    Aggregate(
        module=payment_intent,
        state=payment_intent.PaymentIntent,
        noun="payment_intent",
        render=lambda state, now: payment_intents.render_payment_intent(state),
        object_type="payment_intent",
        path_param="intent",
        permission="payment_intent",
        expandable_fields=payment_intents.EXPANDABLE_FIELDS,
        public_event_types={
            payment_intent.PaymentIntentCreated: ("payment_intent.created",),
            payment_intent.PaymentIntentAuthorized: ("payment_intent.amount_capturable_updated",),
            payment_intent.PaymentIntentSucceeded: ("payment_intent.succeeded",),
            payment_intent.PaymentIntentFailed: ("payment_intent.payment_failed",),
            payment_intent.PaymentIntentCanceled: ("payment_intent.canceled",),
        },
        published_too=True,
    ),
    Aggregate(
        module=refund,
        state=refund.Refund,
        noun="refund",
        render=lambda state, now: refunds.render_refund(state),
        object_type="refund",
        path_param="refund",
        permission="charge",
        expandable_fields=refunds.EXPANDABLE_FIELDS,
        public_event_types={
            refund.RefundCreated: ("refund.created",),
            refund.RefundUpdated: ("refund.updated", "charge.refund.updated"),
        },
    ),
    Aggregate(
        module=file,
        state=file.File,
        noun="file",
        render=lambda state, now: files.render_file(state),
        object_type="file",
        permission="file",
        expandable_fields=files.EXPANDABLE_FIELDS,
    ),
    Aggregate(
        module=file_link,
        state=file_link.FileLink,
        noun="file link",
        render=files.render_file_link,
        object_type="file_link",
        permission="file",
        expandable_fields=files.LINK_EXPANDABLE_FIELDS,
    ),
    Aggregate(
        module=webhook_endpoint,
        state=webhook_endpoint.WebhookEndpoint,
        noun="webhook endpoint",
        render=lambda state, now: webhook_endpoints.render_webhook_endpoint(state),
        object_type="webhook_endpoint",
        path_param="webhook_endpoint",
        permission="webhook",
    ),
    Aggregate(
        module=webhook_endpoint_quota,
        state=webhook_endpoint_quota.WebhookEndpointQuota,
        noun="webhook endpoint quota",
        render=lambda state, now: webhook_endpoints.render_webhook_endpoint_quota(state),
    ),
    Aggregate(
        module=redaction_job,
        state=redaction_job.RedactionJob,
        noun="redaction job",
        render=lambda state, now: redaction_jobs.render_redaction_job(state),
        object_type="privacy.redaction_job",
        path_param="job",
        permission="redaction_job",
        expandable_fields=redaction_jobs.EXPANDABLE_FIELDS,
        public_event_types={
            redaction_job.RedactionJobCreated: ("privacy.redaction_job.created",),
            redaction_job.RedactionJobValidated: ("privacy.redaction_job.ready",),
            redaction_job.RedactionJobValidationFailed: ("privacy.redaction_job.validation_error",),
            redaction_job.RedactionJobSucceeded: ("privacy.redaction_job.succeeded",),
            redaction_job.RedactionJobCanceled: ("privacy.redaction_job.canceled",),
        },
    ),
    Aggregate(
        module=legal_hold,
        state=legal_hold.LegalHold,
        noun="legal hold",
        path_param="id",
        render=lambda state, now: redaction_jobs.render_legal_hold(state),
    ),
    Aggregate(
        module=resource,
        state=resource.Resource,
        noun="resource",
        render=lambda state, now: resources.render_resource(state),
        make_public_event=resources.make_resource_event,
    ),
    Aggregate(
        module=imported_event,
        state=imported_event.ImportedEvent,
        noun="event",
        render=lambda state, now: resources.render_imported_event(state),
        make_public_event=resources.make_imported_event,
    ),
)
AGGREGATES: tuple[Aggregate[Any], ...] = _ROWS
AGGREGATES_BY_STATE: dict[type[State], Aggregate[Any]] = {row.state: row for row in AGGREGATES}
AGGREGATES_BY_EVENT: dict[type[DomainEvent], Aggregate[Any]] = {
    event_class: row for row in AGGREGATES for event_class in row.module.EVENTS
}
EVENT_CLASSES = tuple(AGGREGATES_BY_EVENT)
"""Every class of domain event that the log may contain."""
LEDGER_OBJECT_TYPES = frozenset(
    {
        "balance_transaction",
        "event",
        *(row.object_type for row in AGGREGATES if row.object_type and not row.published_too),
    }
)
"""Types of objects that are the ledger's own alone: no other service can publish one."""
SHARED_OBJECT_TYPES = frozenset(row.object_type for row in AGGREGATES if row.published_too)
"""Types of objects that the ledger has and other services may publish."""
