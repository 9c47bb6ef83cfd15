"""Charges: domain events and state (contract §2.6). The decisions are in `charge_decisions`.

A declined charge is recorded too, as `ChargeFailed`. The charge's own stream lists its refunds and disputes:
what may still be refunded or disputed is decided on one stream, under its version check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar

import msgspec

from ledger.domain.aggregate import State
from ledger.domain.cards import SourceCard
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.money import BalanceTransaction, Movement
from ledger.domain.redaction.documents import redact_document
from ledger.domain.redaction.rules import (
    REDACTION_OF_PAYMENT,
    REDACTION_OF_PAYMENT_CHANGES,
    Rule,
    keep,
    redact_billing_details,
    redact_card,
    redact_members,
)

FEE_DESCRIPTION = "Stripe processing fees"
EMPTY_BILLING_DETAILS: dict[str, Any] = {
    "address": {
        "city": None,
        "country": None,
        "line1": None,
        "line2": None,
        "postal_code": None,
        "state": None,
    },
    "email": None,
    "name": None,
    "phone": None,
    "tax_id": None,
}
_REDACTION_OF_CHANGES: dict[str, Rule] = {
    "changes": redact_members({**REDACTION_OF_PAYMENT_CHANGES, "fraud_report": keep})
}


@domain_event
class _ChargeCreated(DomainEvent):
    """The fields of a new charge, paid or declined.

    created  unix seconds; before `at` if the charge was made in another system and registered later
    amount   minor units of `currency`
    outcome  the risk assessment that the API shows
    card     the test card; None for a registered charge, which has `payment_method_details` instead, rendered
             as received
    """

    REDACTION: ClassVar[Mapping[str, Rule]] = {
        **REDACTION_OF_PAYMENT,
        "billing_details": redact_billing_details,
        "card": redact_card,
        "payment_method_details": redact_document,
    }
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    account: str
    livemode: bool
    created: int
    amount: int
    currency: str
    outcome: dict[str, Any]
    customer: str | None = None
    payment_intent: str | None = None
    description: str | None = None
    metadata: dict[str, str] | None = field(default_factory=dict)
    receipt_email: str | None = None
    shipping: dict[str, Any] | None = None
    billing_details: dict[str, Any] | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    transfer_group: str | None = None
    card: SourceCard | None = None
    payment_method_details: dict[str, Any] | None = None


@domain_event
class ChargeSucceeded(_ChargeCreated):
    """The charge was paid if it has a `movement`; without one it was only authorized and awaits capture."""

    TOPIC: ClassVar[str] = "charge.succeeded"

    movement: Movement | None


@domain_event
class ChargeFailed(_ChargeCreated):
    """The issuer declined the card."""

    TOPIC: ClassVar[str] = "charge.failed"

    failure_code: str
    failure_message: str


@domain_event
class ChargeCaptured(DomainEvent):
    """`movement["amount"]` was captured of the authorized amount; `changes` as in ChargeUpdated."""

    TOPIC: ClassVar[str] = "charge.captured"
    REDACTION: ClassVar[Mapping[str, Rule]] = _REDACTION_OF_CHANGES
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    movement: Movement
    changes: dict[str, Any] | None


@domain_event
class ChargeUpdated(DomainEvent):
    """`changes` maps each changed field of the state to its complete new value."""

    TOPIC: ClassVar[str] = "charge.updated"
    REDACTION: ClassVar[Mapping[str, Rule]] = _REDACTION_OF_CHANGES
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    changes: dict[str, Any] | None


@domain_event
class ChargeDisputed(DomainEvent):
    """A dispute over `amount` was opened, or the inquiry was escalated over this amount, another than before.

    `dispute` is its id, `reference` the network's reference of the report that opened it.
    """

    TOPIC: ClassVar[str] = "charge.disputed"

    dispute: str
    amount: int
    reference: str | None


@domain_event
class ChargeRefunded(DomainEvent):
    """The refund with the id `refund` returned -`movement["amount"]` to the card holder."""

    TOPIC: ClassVar[str] = "charge.refunded"

    refund: str
    movement: Movement


@domain_event
class ChargeExpired(DomainEvent):
    """The authorization was not captured in time: nothing was paid."""

    TOPIC: ClassVar[str] = "charge.expired"


@domain_event
class ChargeReleased(DomainEvent):
    """The authorization was given up because the charge's payment intent was canceled: nothing was paid."""

    TOPIC: ClassVar[str] = "charge.released"


EVENTS: tuple[type[DomainEvent], ...] = (
    ChargeSucceeded,
    ChargeFailed,
    ChargeCaptured,
    ChargeUpdated,
    ChargeDisputed,
    ChargeRefunded,
    ChargeExpired,
    ChargeReleased,
)


class Charge(State, frozen=True, kw_only=True):
    """A charge. Amounts are in minor units of `currency`.

    status      succeeded or failed
    captured    whether the amount was taken; an authorized charge is not captured yet
    refunds     amount by refund id
    disputes    amount by dispute id, of all disputes ever opened, whatever their status
    references  dispute id by the network's reference of the report that opened it
    expired     it was not captured in time, and can no longer be captured
    released    its payment intent was canceled before the capture, and it can no longer be captured
    """

    created: int
    amount: int
    currency: str
    status: str
    captured: bool
    amount_captured: int
    outcome: dict[str, Any]
    customer: str | None
    payment_intent: str | None
    description: str | None
    metadata: dict[str, str]
    receipt_email: str | None
    shipping: dict[str, Any] | None
    billing_details: dict[str, Any]
    statement_descriptor: str | None
    statement_descriptor_suffix: str | None
    transfer_group: str | None
    card: SourceCard | None
    payment_method_details: dict[str, Any] | None
    balance_transaction: BalanceTransaction | None = None
    failure_code: str | None = None
    failure_message: str | None = None
    fraud_report: str | None = None
    amount_refunded: int = 0
    refunds: dict[str, int] = msgspec.field(default_factory=dict)
    disputes: dict[str, int] = msgspec.field(default_factory=dict)
    references: dict[str, str] = msgspec.field(default_factory=dict)
    expired: bool = False
    # Absent from the JSON of other charges: rows of earlier releases stay as they are.
    released: bool | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_refunded(self) -> bool:
        """Whether everything that was captured has been refunded."""
        return self.amount_refunded >= self.amount_captured

    def compute_disputable(self, dispute_id: str) -> int:
        """How much the dispute with that id, which may be new, can be about: what was captured, less the
        amounts of other disputes; nothing if all was refunded (contract §3.3)."""
        other_amounts = (amount for other_id, amount in self.disputes.items() if other_id != dispute_id)
        return 0 if self.is_refunded else self.amount_captured - sum(other_amounts)


def evolve(state: Charge | None, event: DomainEvent) -> Charge:
    """The charge after `event`. Raises TypeError for an event that cannot follow `state`."""
    if isinstance(event, _ChargeCreated):
        return _create_charge(event)
    if state is None:
        raise TypeError(f"the first event of a charge cannot be {type(event).__name__}")
    replace = msgspec.structs.replace
    version = event.originator_version
    match event:
        case ChargeCaptured(movement=movement):
            state = replace(state, **event.changes or {})
            return replace(
                state,
                version=version,
                captured=True,
                amount_captured=movement["amount"],
                balance_transaction=_make_balance_transaction(state.id, state.description, movement),
            )
        case ChargeUpdated():
            return replace(state, version=version, **event.changes or {})
        case ChargeDisputed():
            references = state.references
            if event.reference is not None:
                references = {**references, event.reference: event.dispute}
            disputes = {**state.disputes, event.dispute: event.amount}
            return replace(state, version=version, disputes=disputes, references=references)
        case ChargeRefunded():
            amount = -event.movement["amount"]
            return replace(
                state,
                version=version,
                amount_refunded=state.amount_refunded + amount,
                refunds={**state.refunds, event.refund: amount},
            )
        case ChargeExpired():
            return replace(state, version=version, expired=True, amount_refunded=state.amount)
        case ChargeReleased():
            return replace(state, version=version, released=True)
    raise TypeError(f"{type(event).__name__} is not a charge event")


def _create_charge(event: _ChargeCreated) -> Charge:
    movement, failure_code, failure_message = None, None, None
    if isinstance(event, ChargeSucceeded):
        movement = event.movement
    elif isinstance(event, ChargeFailed):
        failure_code, failure_message = event.failure_code, event.failure_message
    transaction = (
        _make_balance_transaction(event.originator_id, event.description, movement) if movement else None
    )
    return Charge(
        id=event.originator_id,
        version=event.originator_version,
        account=event.account,
        livemode=event.livemode,
        created=event.created,
        amount=event.amount,
        currency=event.currency,
        status="failed" if failure_code else "succeeded",
        captured=movement is not None,
        amount_captured=movement["amount"] if movement else 0,
        outcome=event.outcome,
        customer=event.customer,
        payment_intent=event.payment_intent,
        description=event.description,
        metadata=event.metadata or {},
        receipt_email=event.receipt_email,
        shipping=event.shipping,
        billing_details=event.billing_details or EMPTY_BILLING_DETAILS,
        statement_descriptor=event.statement_descriptor,
        statement_descriptor_suffix=event.statement_descriptor_suffix,
        transfer_group=event.transfer_group,
        card=event.card,
        payment_method_details=event.payment_method_details,
        balance_transaction=transaction,
        failure_code=failure_code,
        failure_message=failure_message,
    )


def _make_balance_transaction(
    charge_id: str, description: str | None, movement: Movement
) -> BalanceTransaction:
    return BalanceTransaction(
        **movement,
        type="charge",
        reporting_category="charge",
        description=description,
        fee_description=FEE_DESCRIPTION,
        source=charge_id,
    )
