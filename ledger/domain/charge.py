"""Charges: their domain events and the state these make. The decisions are in `charging`.

Events hold every fact a charge is shown with; a decline is a fact too, `ChargeFailed`. Which disputes
and refunds there were is kept here, so what is left of the charge is decided on one stream. A personal
field that has been erased comes back as None, and `evolve` bears it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from ledger.domain.cards import SourceCard
from ledger.domain.event import DomainEvent
from ledger.domain.money import BalanceTransaction, Movement

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


@dataclass(frozen=True, kw_only=True)
class _ChargeCreated(DomainEvent):
    """What a charge is made with. `card` is the test card charged; a charge registered from elsewhere
    has `payment_method_details` instead, shown as they were given."""

    PERSONAL: ClassVar[frozenset[str]] = frozenset(
        {
            "description",
            "receipt_email",
            "shipping",
            "billing_details",
            "card",
            "payment_method_details",
            "metadata",
        }
    )

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


@dataclass(frozen=True, kw_only=True)
class ChargeSucceeded(_ChargeCreated):
    """Paid if there is a `movement`; without one it is authorized only, to be captured."""

    TOPIC: ClassVar[str] = "charge.succeeded"

    movement: Movement | None


@dataclass(frozen=True, kw_only=True)
class ChargeFailed(_ChargeCreated):
    TOPIC: ClassVar[str] = "charge.failed"

    failure_code: str
    failure_message: str


@dataclass(frozen=True, kw_only=True)
class ChargeCaptured(DomainEvent):
    """`movement["amount"]` is what was captured; `changes` as in ChargeUpdated."""

    TOPIC: ClassVar[str] = "charge.captured"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"changes"})

    movement: Movement
    changes: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class ChargeUpdated(DomainEvent):
    """`changes` maps a changed field of the state to its whole new value."""

    TOPIC: ClassVar[str] = "charge.updated"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"changes"})

    changes: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class ChargeDisputed(DomainEvent):
    """A dispute over `amount` was opened; `reference` is the network's, of that fact."""

    TOPIC: ClassVar[str] = "charge.disputed"

    dispute: str
    amount: int
    reference: str | None


@dataclass(frozen=True, kw_only=True)
class ChargeRefunded(DomainEvent):
    """`refund` was made: -`movement["amount"]` went back."""

    TOPIC: ClassVar[str] = "charge.refunded"

    refund: str
    movement: Movement


@dataclass(frozen=True, kw_only=True)
class ChargeExpired(DomainEvent):
    """It was authorized only, and not captured in time: nothing was paid."""

    TOPIC: ClassVar[str] = "charge.expired"


EVENTS: tuple[type[DomainEvent], ...] = (
    ChargeSucceeded,
    ChargeFailed,
    ChargeCaptured,
    ChargeUpdated,
    ChargeDisputed,
    ChargeRefunded,
    ChargeExpired,
)


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """A charge as of `version`.

    disputes     amount by dispute id, of every dispute there ever was
    references   dispute id by the network's reference for its opening
    expired      it was not captured in time, and cannot be any more
    refunds      amount by refund id
    """

    id: str
    version: int
    account: str
    livemode: bool
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
    refunds: dict[str, int] = {}
    disputes: dict[str, int] = {}
    references: dict[str, str] = {}
    expired: bool = False

    @property
    def amount_disputable(self) -> int:
        """What a new dispute may be about: captured, neither refunded nor disputed already."""
        return self.amount_captured - self.amount_refunded - sum(self.disputes.values())


def evolve(state: Charge | None, event: DomainEvent) -> Charge:
    if isinstance(event, _ChargeCreated):
        return _create_charge(event)
    if state is None:
        raise TypeError(f"{type(event).__name__} cannot begin a charge")
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
    raise TypeError(f"{type(event).__name__} is no event of a charge")


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
