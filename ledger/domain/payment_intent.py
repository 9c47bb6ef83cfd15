"""Payment intents: domain events and state (contract §2.12). The decisions are in `payment_intent_decisions`.

An intent charges a card, with success at most once. Each outcome is appended together with the event of the
charge that it follows from, so an intent and its newest charge never disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, TypedDict

import msgspec

from ledger.domain.aggregate import State
from ledger.domain.cards import SourceCard
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.redaction.rules import (
    REDACTION_OF_PAYMENT,
    REDACTION_OF_PAYMENT_CHANGES,
    Rule,
    keep,
    redact_card,
    redact_members,
)

REQUIRES_PAYMENT_METHOD = "requires_payment_method"
REQUIRES_CONFIRMATION = "requires_confirmation"
REQUIRES_CAPTURE = "requires_capture"
SUCCEEDED = "succeeded"
CANCELED = "canceled"


class PaymentError(TypedDict):
    """Why the last confirmation failed. `code`, `decline_code`, `message` and `param` are those of the card
    error (contract §1.6); `charge` is the id of the failed charge."""

    charge: str
    code: str
    decline_code: str | None
    message: str
    param: str | None


@domain_event
class PaymentIntentCreated(DomainEvent):
    """`amount` (minor units of `currency`) is to be charged to `card`, or to a card named later.

    capture_method  `manual`: a confirmation only authorizes the amount; otherwise it also captures it
    """

    TOPIC: ClassVar[str] = "payment_intent.created"
    REDACTION: ClassVar[Mapping[str, Rule]] = {**REDACTION_OF_PAYMENT, "card": redact_card}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    account: str
    livemode: bool
    amount: int
    currency: str
    capture_method: str
    confirmation_method: str
    automatic_payment_methods: dict[str, Any] | None
    customer: str | None = None
    card: SourceCard | None = None
    description: str | None = None
    metadata: dict[str, str] | None = field(default_factory=dict)
    receipt_email: str | None = None
    shipping: dict[str, Any] | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    transfer_group: str | None = None


@domain_event
class PaymentIntentUpdated(DomainEvent):
    """`changes` maps each changed field of the state to its complete new value."""

    TOPIC: ClassVar[str] = "payment_intent.updated"
    REDACTION: ClassVar[Mapping[str, Rule]] = {
        "changes": redact_members(
            {
                **REDACTION_OF_PAYMENT_CHANGES,
                "amount": keep,
                "capture_method": keep,
                "card": redact_card,
                "currency": keep,
            }
        )
    }
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    changes: dict[str, Any] | None


@domain_event
class PaymentIntentAuthorized(DomainEvent):
    """The charge with the id `charge` authorized the amount, which awaits capture."""

    TOPIC: ClassVar[str] = "payment_intent.authorized"

    charge: str


@domain_event
class PaymentIntentSucceeded(DomainEvent):
    """The charge with the id `charge` captured `amount_received` (minor units)."""

    TOPIC: ClassVar[str] = "payment_intent.succeeded"

    charge: str
    amount_received: int


@domain_event
class PaymentIntentFailed(DomainEvent):
    """The issuer declined the card; `error` names the failed charge."""

    TOPIC: ClassVar[str] = "payment_intent.failed"

    error: PaymentError


@domain_event
class PaymentIntentCanceled(DomainEvent):
    """Nothing more will be charged. `reason`: the caller's or None, or `expired` if the authorization was not
    captured in time."""

    TOPIC: ClassVar[str] = "payment_intent.canceled"

    reason: str | None


EVENTS: tuple[type[DomainEvent], ...] = (
    PaymentIntentCreated,
    PaymentIntentUpdated,
    PaymentIntentAuthorized,
    PaymentIntentSucceeded,
    PaymentIntentFailed,
    PaymentIntentCanceled,
)


class PaymentIntent(State, frozen=True, kw_only=True):
    """A payment intent. Amounts are in minor units of `currency`, times in unix seconds.

    status         requires_payment_method, requires_confirmation, requires_capture, succeeded or canceled
    card           the card that a confirmation charges, or has charged
    latest_charge  id of the newest charge, also of a failed one
    failed_card    the card that the last confirmation was declined for, together with `last_payment_error`
    """

    created: int
    amount: int
    currency: str
    status: str
    capture_method: str
    confirmation_method: str
    automatic_payment_methods: dict[str, Any] | None
    customer: str | None
    card: SourceCard | None
    description: str | None
    metadata: dict[str, str]
    receipt_email: str | None
    shipping: dict[str, Any] | None
    statement_descriptor: str | None
    statement_descriptor_suffix: str | None
    transfer_group: str | None
    amount_received: int = 0
    latest_charge: str | None = None
    last_payment_error: PaymentError | None = None
    failed_card: SourceCard | None = None
    canceled_at: int | None = None
    cancellation_reason: str | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether a confirmation had an effect that cannot be repeated: paid, authorized or canceled."""
        return self.status in (REQUIRES_CAPTURE, SUCCEEDED, CANCELED)


def evolve(state: PaymentIntent | None, event: DomainEvent) -> PaymentIntent:
    """The intent after `event`. Raises TypeError for an event that cannot follow `state`."""
    if isinstance(event, PaymentIntentCreated):
        return _create_intent(event)
    if state is None:
        raise TypeError(f"the first event of a payment intent cannot be {type(event).__name__}")
    replace, version = msgspec.structs.replace, event.originator_version
    match event:
        case PaymentIntentUpdated():
            cleared = {"last_payment_error": None, "failed_card": None}
            state = replace(state, version=version, **cleared, **event.changes or {})
            if state.card is not None and state.status == REQUIRES_PAYMENT_METHOD:
                return replace(state, status=REQUIRES_CONFIRMATION)
            return state
        case PaymentIntentAuthorized():
            return replace(
                state,
                version=version,
                status=REQUIRES_CAPTURE,
                latest_charge=event.charge,
                last_payment_error=None,
                failed_card=None,
            )
        case PaymentIntentSucceeded():
            return replace(
                state,
                version=version,
                status=SUCCEEDED,
                latest_charge=event.charge,
                amount_received=event.amount_received,
                last_payment_error=None,
                failed_card=None,
            )
        case PaymentIntentFailed():
            return replace(
                state,
                version=version,
                status=REQUIRES_PAYMENT_METHOD,
                latest_charge=event.error["charge"],
                last_payment_error=event.error,
                card=None,
                failed_card=state.card,
            )
        case PaymentIntentCanceled():
            return replace(
                state,
                version=version,
                status=CANCELED,
                canceled_at=event.at,
                cancellation_reason=event.reason,
            )
    raise TypeError(f"{type(event).__name__} is not a payment intent event")


def _create_intent(event: PaymentIntentCreated) -> PaymentIntent:
    return PaymentIntent(
        id=event.originator_id,
        version=event.originator_version,
        account=event.account,
        livemode=event.livemode,
        created=event.at,
        amount=event.amount,
        currency=event.currency,
        status=REQUIRES_PAYMENT_METHOD if event.card is None else REQUIRES_CONFIRMATION,
        capture_method=event.capture_method,
        confirmation_method=event.confirmation_method,
        automatic_payment_methods=event.automatic_payment_methods,
        customer=event.customer,
        card=event.card,
        description=event.description,
        metadata=event.metadata or {},
        receipt_email=event.receipt_email,
        shipping=event.shipping,
        statement_descriptor=event.statement_descriptor,
        statement_descriptor_suffix=event.statement_descriptor_suffix,
        transfer_group=event.transfer_group,
    )
