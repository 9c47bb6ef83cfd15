"""Builders: an aggregate in a given state, made by its own decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ledger.domain import (
    aggregate,
    charge,
    charge_decisions,
    customer,
    customer_session,
    dispute,
    dispute_decisions,
    file,
    refund,
    refund_decisions,
)
from ledger.domain.cards import make_source_card
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_decisions import DisputeReport, FactReport
from ledger.domain.dispute_money import PaidCharge
from ledger.domain.event import DomainEvent
from ledger.domain.file import File
from ledger.domain.money import DAY_SECONDS, Terms
from ledger.domain.refund import Refund

NOW = 1_700_000_000
TERMS = Terms()
DUE_BY = 1_700_697_599  # 2023-11-22 23:59:59 UTC, the eighth day after NOW

State = TypeVar("State", bound=aggregate.State)
APPEAL: dict[str, Any] = {"appeal": {"card": {"reason_for_filing": "New facts."}}}


def fold(evolve: Callable[[State | None, DomainEvent], State], events: Iterable[DomainEvent]) -> State:
    state = None
    for event in events:
        state = evolve(state, event)
    assert state is not None
    return state


def a_customer(**params: Any) -> Customer:
    events = customer.create(
        customer_id="cus_1", account="acct_1", livemode=False, params=params, card_id="card_1", now=NOW
    )
    return fold(customer.evolve, events)


def a_session(**components: Any) -> CustomerSession:
    events = customer_session.create(
        session_id="cuss_1",
        account="acct_1",
        livemode=False,
        customer="cus_1",
        components=components or {"pricing_table": {"enabled": True}},
        terms=TERMS,
        now=NOW,
    )
    return fold(customer_session.evolve, events)


def a_charge(token: str = "tok_visa", amount: int = 2000, **params: Any) -> Charge:
    events = charge_decisions.create(
        charge_id="ch_1",
        account="acct_1",
        livemode=False,
        params={"amount": amount, "currency": "usd", **params},
        card=make_source_card(token, card_id="card_1", livemode=False),
        txn_id="txn_charge",
        now=NOW,
    )
    return fold(charge.evolve, events)


def register_charge(*, livemode: bool = False, **params: Any) -> Charge:
    """A charge of 2000 usd that another system made, save for what is given."""
    events = charge_decisions.register(
        charge_id="ch_1",
        account="acct_1",
        livemode=livemode,
        params={"amount": 2000, "currency": "usd", **params},
        txn_id="txn_charge",
        now=NOW,
    )
    return fold(charge.evolve, events)


def create_refund_events(
    state: Charge,
    amount: int | None = None,
    disputes: tuple[Dispute, ...] = (),
    number: int = 1,
    **params: Any,
) -> list[DomainEvent]:
    """The events of a refund of `amount`, or of all that remains."""
    if amount is not None:
        params["amount"] = amount
    return refund_decisions.create(
        state, params, disputes=disputes, refund_id=f"re_{number}", txn_id=f"txn_{number}", now=NOW
    )


def a_refund(**params: Any) -> Refund:
    return fold(refund.evolve, create_refund_events(a_charge(), **params)[:1])


def open_a_dispute(kind: str = "chargeback", amount: int = 2000, **opening: Any) -> list[DomainEvent]:
    """The dispute's own events after its opening at NOW."""
    events = dispute_decisions.open_dispute(
        a_charge(),
        DisputeReport(kind=kind, amount=amount, **opening),
        dispute_id="du_1",
        txn_id="txn_1",
        terms=TERMS,
        now=NOW,
    )
    return events[1:]


def apply_steps(events: list[DomainEvent], *steps: str, now: int = NOW) -> list[DomainEvent]:
    """`events` and those of the steps: submit, stage, close, or a fact that the network reports."""
    for step in steps:
        state = fold(dispute.evolve, events)
        if step == "submit":
            params: dict[str, Any] = {"evidence": {"customer_name": f"Jenny {len(events)}"}}
            if state.status == "appeal_needs_response":
                params["evidence"] = APPEAL
            new_events = dispute_decisions.update(state, params, file_bytes={}, now=now)
        elif step == "stage":
            params = {"evidence": {"customer_name": f"Jenny {len(events)}"}, "submit": False}
            new_events = dispute_decisions.update(state, params, file_bytes={}, now=now)
        elif step == "close":
            new_events = close_dispute(state, now=now)
        else:
            new_events = report_fact(state, step, now=now)
        events = [*events, *new_events]
    return events


def pay_for(state: Dispute) -> PaidCharge:
    """The charge of 2000 usd that `state` disputes, with no other dispute."""
    return PaidCharge(charge=a_charge(), disputes=[state])


def report_fact(
    state: Dispute,
    fact: str,
    reference: str | None = None,
    *,
    paid: PaidCharge | None = None,
    terms: Terms = TERMS,
    now: int = NOW,
    **report: Any,
) -> list[DomainEvent]:
    return dispute_decisions.report_fact(
        state,
        FactReport(fact=fact, reference=reference, **report),
        paid=paid or pay_for(state),
        txn_id=f"txn_{state.version + 1}",
        terms=terms,
        now=now,
    )


def close_dispute(state: Dispute, *, paid: PaidCharge | None = None, now: int = NOW) -> list[DomainEvent]:
    return dispute_decisions.close(
        state, paid=paid or pay_for(state), txn_id=f"txn_{state.version + 1}", now=now
    )


def expire_dispute(state: Dispute, *, paid: PaidCharge | None = None, now: int) -> list[DomainEvent]:
    return dispute_decisions.expire(
        state, paid=paid or pay_for(state), txn_id=f"txn_{state.version + 1}", now=now
    )


def upload_a_file(**overrides: Any) -> list[DomainEvent]:
    """The events of a file that may be evidence, save for the given fields."""
    defaults: dict[str, Any] = {
        "file_id": "file_1",
        "account": "acct_1",
        "livemode": False,
        "purpose": "dispute_evidence",
        "filename": "Ada's receipt.pdf",
        "size": 1000,
        "type": "pdf",
        "digest": "ab" * 32,
        "pages": 3,
        "now": NOW,
    }
    return file.upload(**defaults | overrides)


def a_file(**overrides: Any) -> File:
    return fold(file.evolve, upload_a_file(**overrides))


# Kind of dispute and steps that lead to each of the ten statuses.
STATUS_PATHS: dict[str, tuple[str, tuple[str, ...]]] = {
    "needs_response": ("chargeback", ()),
    "under_review": ("chargeback", ("submit",)),
    "won": ("chargeback", ("submit", "won")),
    "lost": ("chargeback", ("submit", "lost")),
    "warning_needs_response": ("inquiry", ()),
    "warning_under_review": ("inquiry", ("submit",)),
    "warning_closed": ("inquiry", ("submit", "inquiry_closed")),
    "prevented": ("prevented", ()),
    "appeal_needs_response": ("chargeback", ("lost", "appeal_opened")),
    "appeal_under_review": ("chargeback", ("lost", "appeal_opened", "submit")),
}


def a_dispute(status: str = "needs_response") -> Dispute:
    kind, steps = STATUS_PATHS[status]
    state = fold(dispute.evolve, apply_steps(open_a_dispute(kind), *steps))
    assert state.status == status
    return state


def days(count: int) -> int:
    return count * DAY_SECONDS
