"""Money of disputes: after refunds, at a loss, escalated, with times in the past, in special currencies."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain import charge, dispute, dispute_decisions
from ledger.domain.charge import Charge, ChargeDisputed
from ledger.domain.dispute import Dispute, InquiryEscalated
from ledger.domain.dispute_decisions import DisputeReport
from ledger.domain.dispute_money import PaidCharge
from ledger.domain.event import DomainEvent
from ledger.errors import InvalidParameter, InvalidState
from tests.domain.builders import (
    DUE_BY,
    NOW,
    TERMS,
    a_charge,
    close_dispute,
    create_refund_events,
    days,
    expire_dispute,
    register_charge,
    report_fact,
)


class Books:
    """A charge with its refunds and disputes, and the events that made them."""

    def __init__(self, state: Charge | None = None) -> None:
        self.charge = state or a_charge()
        self.disputes: dict[str, Dispute] = {}

    @property
    def paid(self) -> PaidCharge:
        return PaidCharge(charge=self.charge, disputes=list(self.disputes.values()))

    def apply(self, events: list[DomainEvent]) -> None:
        for event in events:
            stream = event.originator_id
            if stream == self.charge.id:
                self.charge = charge.evolve(self.charge, event)
            elif stream.startswith("du"):
                self.disputes[stream] = dispute.evolve(self.disputes.get(stream), event)

    def refund(self, amount: int | None = None) -> None:
        number = len(self.charge.refunds)
        self.apply(create_refund_events(self.charge, amount, tuple(self.paid.disputes), number))

    def open(self, dispute_id: str = "du_1", kind: str = "chargeback", **report: Any) -> None:
        self.apply(
            dispute_decisions.open_dispute(
                self.charge,
                DisputeReport(kind=kind, **report),
                dispute_id=dispute_id,
                txn_id=f"txn_{dispute_id}",
                terms=TERMS,
                now=NOW,
            )
        )

    def report(self, fact: str, dispute_id: str = "du_1", **report: Any) -> None:
        self.apply(report_fact(self.disputes[dispute_id], fact, paid=self.paid, **report))

    def moved(self, dispute_id: str = "du_1") -> list[int]:
        return [transaction["amount"] for transaction in self.disputes[dispute_id].balance_transactions]


@pytest.mark.parametrize("end", ["lost", "close", "overdue"])
def test_a_loss_returns_the_part_that_had_been_refunded(end: str) -> None:
    books = Books()
    books.refund(500)
    books.open()
    state = books.disputes["du_1"]
    assert (state.amount, books.moved()) == (2000, [-2000])
    if end == "lost":
        books.report("lost")
    elif end == "close":
        books.apply(close_dispute(state, paid=books.paid))
    else:
        books.apply(expire_dispute(state, paid=books.paid, now=DUE_BY + 1))
    state = books.disputes["du_1"]
    assert (state.status, state.refundable, books.moved()) == ("lost", False, [-2000, 500])
    assert [transaction["fee"] for transaction in state.balance_transactions] == [1500, 0]
    assert state.balance_transactions[1]["reporting_category"] == "dispute_reversal"


def test_a_win_after_a_refund_returns_everything_and_allows_refunds_of_the_rest() -> None:
    books = Books()
    books.refund(500)
    books.open()
    books.report("won")
    assert books.moved() == [-2000, 2000]
    books.refund()
    assert books.charge.amount_refunded == 2000


def test_a_dispute_over_what_was_not_refunded_returns_nothing() -> None:
    books = Books()
    books.refund(500)
    books.open(amount=1500)
    books.report("lost")
    assert books.moved() == [-1500]


def test_two_disputes_share_what_had_been_refunded() -> None:
    books = Books()
    books.refund(1200)
    books.open("du_1", amount=1000)
    books.open("du_2", amount=1000)
    books.report("lost", "du_1")
    books.report("lost", "du_2")
    assert (books.moved("du_1"), books.moved("du_2")) == ([-1000, 200], [-1000, 1000])


def test_a_lost_dispute_keeps_no_part_of_another_that_was_won() -> None:
    books = Books()
    books.refund(1200)
    books.open("du_1", amount=1000)
    books.open("du_2", amount=1000)
    books.report("won", "du_1")
    books.report("lost", "du_2")
    assert (books.moved("du_1"), books.moved("du_2")) == ([-1000, 1000], [-1000, 200])


def test_an_appeal_that_is_won_returns_what_the_loss_had_kept() -> None:
    books = Books()
    books.refund(500)
    books.open()
    for step in ("lost", "appeal_opened"):
        books.report(step)
    state = books.disputes["du_1"]
    params = {"evidence": {"appeal": {"card": {"reason_for_filing": "New facts."}}}}
    books.apply(dispute_decisions.update(state, params, file_bytes={}, now=NOW))
    lost_again, won = Books(books.charge), Books(books.charge)
    lost_again.disputes, won.disputes = dict(books.disputes), dict(books.disputes)
    lost_again.report("lost")
    won.report("won")
    assert (lost_again.moved(), won.moved()) == ([-2000, 500], [-2000, 500, 1500])


def test_an_appeal_against_a_loss_that_returned_everything_moves_nothing() -> None:
    books = Books()
    books.refund(1200)
    books.open("du_1", amount=1000)
    books.open("du_2", amount=1000)
    for dispute_id in ("du_1", "du_2"):
        books.report("lost", dispute_id)
    books.report("appeal_opened", "du_2")
    params = {"evidence": {"appeal": {"card": {"reason_for_filing": "New facts."}}}}
    books.apply(dispute_decisions.update(books.disputes["du_2"], params, file_bytes={}, now=NOW))
    books.report("won", "du_2")
    assert (books.disputes["du_2"].status, books.moved("du_2")) == ("won", [-1000, 1000])


@pytest.mark.parametrize("refunded", [0, 500])
def test_at_most_what_was_captured_and_not_disputed_can_be_disputed(refunded: int) -> None:
    books = Books()
    if refunded:
        books.refund(refunded)
    books.open("du_1", amount=1500)
    with pytest.raises(InvalidState) as refused:
        books.open("du_2", amount=501)
    assert refused.value.message == "Only $5.00 of charge ch_1 can still be disputed."
    books.open("du_2")
    assert books.disputes["du_2"].amount == 500
    with pytest.raises(InvalidState) as refused:
        books.open("du_3")
    assert refused.value.message == (
        "Charge ch_1 is already disputed in full; nothing of it can be disputed."
    )


@pytest.mark.parametrize("amount", [None, 1])
def test_a_charge_that_was_refunded_as_a_whole_cannot_be_disputed(amount: int | None) -> None:
    books = Books()
    books.refund()
    with pytest.raises(InvalidState) as refused:
        books.open(amount=amount)
    assert refused.value.param == "amount"
    assert refused.value.message == ("Charge ch_1 has been fully refunded; nothing of it can be disputed.")


def test_an_inquiry_that_was_refunded_in_part_is_escalated_by_the_same_rule() -> None:
    books = Books()
    books.open(kind="inquiry")
    books.refund(1500)
    books.report("escalated")
    assert books.moved() == [-2000]
    books.report("lost")
    assert books.moved() == [-2000, 1500]


def test_an_escalation_may_name_an_amount() -> None:
    books = Books()
    books.open("du_1", kind="inquiry", amount=500)
    books.open("du_2", amount=1000)
    with pytest.raises(InvalidState) as refused:
        books.report("escalated", amount=1001)
    assert refused.value.message == "Only $10.00 of charge ch_1 can still be disputed."
    events = report_fact(books.disputes["du_1"], "escalated", paid=books.paid, amount=1000)
    assert [type(event) for event in events] == [ChargeDisputed, InquiryEscalated]
    books.apply(events)
    assert (books.disputes["du_1"].amount, books.moved()) == (1000, [-1000])
    assert books.charge.disputes == {"du_1": 1000, "du_2": 1000}
    smaller = Books()
    smaller.open(kind="inquiry")
    smaller.report("escalated", amount=700)
    assert (smaller.charge.disputes, smaller.moved()) == ({"du_1": 700}, [-700])


def test_a_dispute_reported_late_has_all_its_times_in_the_past() -> None:
    created = NOW - days(20)
    books = Books(register_charge(created=created - 1))
    books.open(created=created)
    state = books.disputes["du_1"]
    (transaction,) = state.balance_transactions
    assert (state.created, transaction["created"], transaction["available_on"]) == (created,) * 3
    assert state.due_by == DUE_BY - days(20)
    books.report("won", created=created + 5)
    assert books.disputes["du_1"].balance_transactions[1]["created"] == created + 5


@pytest.mark.parametrize(
    ("created", "text"), [(NOW + 1, "created is in the future."), (NOW - 11, "before the creation of charge")]
)
def test_the_time_of_a_dispute_has_bounds(created: int, text: str) -> None:
    books = Books(register_charge(created=NOW - 10))
    with pytest.raises(InvalidParameter, match=text) as refused:
        books.open(created=created)
    assert refused.value.param == "created"
    books.open(created=NOW - 10)
    for out_of_bounds in (NOW + 1, NOW - 11):
        with pytest.raises(InvalidParameter) as refused:
            books.report("won", created=out_of_bounds)
        assert refused.value.param == "created"


def test_a_dispute_reported_after_its_deadline_waits_for_its_outcome() -> None:
    for kind in ("chargeback", "inquiry"):
        books = Books(register_charge(created=NOW - days(200)))
        books.open(kind=kind, created=NOW - days(150))
        assert dispute_decisions.compute_deadline(books.disputes["du_1"]) == NOW + 3600
    books.report("escalated", created=NOW - days(140))
    assert books.disputes["du_1"].due_by == DUE_BY - days(140)


@pytest.mark.parametrize(("currency", "step"), [("isk", 100), ("ugx", 100), ("kwd", 10), ("tnd", 10)])
def test_amounts_of_disputes_are_those_of_the_currency(currency: str, step: int) -> None:
    books = Books(register_charge(currency=currency, amount=4000))
    with pytest.raises(InvalidParameter) as refused:
        books.open(amount=step + 1)
    assert (refused.value.param, f"divisible by {step}" in refused.value.message) == ("amount", True)
    books.open(kind="inquiry", amount=1000)
    with pytest.raises(InvalidParameter):
        books.report("escalated", amount=step - 1)
    with pytest.raises(InvalidParameter):
        books.refund(step + 1)
    books.refund(step)
    books.report("escalated")
    assert books.disputes["du_1"].balance_transactions[0]["fee"] % step == 0
