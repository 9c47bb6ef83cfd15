"""Refunds: domain events and state (contract §2.7). The decisions are in `refund_decisions`.

A refund is appended together with a `ChargeRefunded` on the charge's stream. That event moves the money and
reduces what remains of the charge; the refund's own stream folds to the object that callers see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.money import BalanceTransaction, Movement
from ledger.domain.redaction.rules import Rule, redact_members, redact_metadata, redact_text


@domain_event
class RefundCreated(DomainEvent):
    """`amount` (minor units) of the charge with the id `charge` was refunded.

    created             unix seconds; before `at` for a refund made in another system and registered later
    payment_method      id of the charged card; `method` is its type, None if unknown
    charge_description  description of the charge, which the balance transaction quotes
    moved               copy of the movement of the ChargeRefunded, to render the refund; it is not posted
    """

    TOPIC: ClassVar[str] = "refund.created"
    REDACTION: ClassVar[Mapping[str, Rule]] = {
        "charge_description": redact_text,
        "metadata": redact_metadata,
    }
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)
    class_version: ClassVar[int] = 2

    account: str
    livemode: bool
    created: int
    charge: str
    customer: str | None
    payment_intent: str | None
    payment_method: str | None
    method: str | None
    amount: int
    currency: str
    reason: str | None
    metadata: dict[str, str] | None
    charge_description: str | None
    moved: Movement

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Version 1 had no `created`: no refund was registered from another system."""
        state["created"] = state["at"]


@domain_event
class RefundUpdated(DomainEvent):
    """`changes` has the new value of `metadata`."""

    TOPIC: ClassVar[str] = "refund.updated"
    REDACTION: ClassVar[Mapping[str, Rule]] = {"changes": redact_members({"metadata": redact_metadata})}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    changes: dict[str, Any] | None


EVENTS: tuple[type[DomainEvent], ...] = (RefundCreated, RefundUpdated)


class Refund(State, frozen=True, kw_only=True):
    """A refund of `amount` minor units. Its `status` is always succeeded: refunds to cards succeed at
    once."""

    created: int
    charge: str
    customer: str | None
    payment_intent: str | None
    payment_method: str | None
    method: str | None
    amount: int
    currency: str
    reason: str | None
    status: str
    metadata: dict[str, str]
    balance_transaction: BalanceTransaction


def evolve(state: Refund | None, event: DomainEvent) -> Refund:
    """The refund after `event`. Raises TypeError for an event that cannot follow `state`."""
    match event:
        case RefundCreated():
            return _create_refund(event)
        case RefundUpdated() if state is not None:
            return msgspec.structs.replace(state, version=event.originator_version, **event.changes or {})
    raise TypeError(f"{type(event).__name__} is not a refund event, or cannot be its first")


def make_balance_transaction(
    refund_id: str, charge_description: str | None, movement: Movement
) -> BalanceTransaction:
    """The balance transaction of a refund's `movement` (contract §2.8), for its state and for lists."""
    description_suffix = f" ({charge_description})" if charge_description else ""
    return BalanceTransaction(
        **movement,
        type="refund",
        reporting_category="refund",
        description=f"REFUND FOR CHARGE{description_suffix}",
        fee_description="",
        source=refund_id,
    )


def _create_refund(event: RefundCreated) -> Refund:
    return Refund(
        id=event.originator_id,
        version=event.originator_version,
        account=event.account,
        livemode=event.livemode,
        created=event.created,
        charge=event.charge,
        customer=event.customer,
        payment_intent=event.payment_intent,
        payment_method=event.payment_method,
        method=event.method,
        amount=event.amount,
        currency=event.currency,
        reason=event.reason,
        status="succeeded",
        metadata=event.metadata or {},
        balance_transaction=make_balance_transaction(
            event.originator_id, event.charge_description, event.moved
        ),
    )
