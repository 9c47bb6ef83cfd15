"""Refunds: their domain events and the state these make. The decisions are in `refunding`.

A refund is made together with a `ChargeRefunded` on the charge's stream, in one append: that one moves the
money and keeps account of what is left of the charge, this one is the object that a caller sees. A personal
field that has been erased comes back as None, and `evolve` bears it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from ledger.domain.event import DomainEvent
from ledger.domain.money import BalanceTransaction, Movement


@dataclass(frozen=True, kw_only=True)
class RefundCreated(DomainEvent):
    """`amount` goes back to where it came from.

    moved           the movement of the charge's ChargeRefunded, for the refund to be shown with
    created         unix seconds; before it was told of, for one made elsewhere
    payment_method  id of the card charged; `method` is its type, None if unknown
    charge_description  what the charge was described as: its balance transaction quotes it
    """

    TOPIC: ClassVar[str] = "refund.created"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"charge_description", "metadata"})
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
        """There were none from elsewhere."""
        state["created"] = state["at"]


@dataclass(frozen=True, kw_only=True)
class RefundUpdated(DomainEvent):
    """`changes`: the new value of `metadata`."""

    TOPIC: ClassVar[str] = "refund.updated"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"changes"})

    changes: dict[str, Any] | None


EVENTS: tuple[type[DomainEvent], ...] = (RefundCreated, RefundUpdated)


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """A refund as of `version`. On cards it has succeeded once it is made."""

    id: str
    version: int
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
    status: str
    metadata: dict[str, str]
    balance_transaction: BalanceTransaction


def evolve(state: Refund | None, event: DomainEvent) -> Refund:
    match event:
        case RefundCreated():
            return _create_refund(event)
        case RefundUpdated() if state is not None:
            return msgspec.structs.replace(state, version=event.originator_version, **event.changes or {})
    raise TypeError(f"{type(event).__name__} is no event of a refund, or cannot begin one")


def make_balance_transaction(
    refund_id: str, charge_description: str | None, movement: Movement
) -> BalanceTransaction:
    """What `movement` is shown as, wherever it is shown (contract §2.8)."""
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
