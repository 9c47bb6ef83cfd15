"""Disputes driven at random against a model written from the table of contract §3.2, not from the code.

After every step the invariants of §3.3 hold: how many transactions, what they sum to, and that the double
entries of everything so far sum to zero.
"""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger.domain import dispute, dispute_decisions
from ledger.domain.dispute import Dispute
from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.domain.postings import derive_postings
from ledger.errors import InvalidState
from ledger.wire.disputes import render_dispute
from tests.domain.builders import APPEAL, NOW, days, fold, open_a_dispute

INITIAL_STATUS = {
    "chargeback": "needs_response",
    "compliance": "needs_response",
    "inquiry": "warning_needs_response",
    "prevented": "prevented",
}
TRANSITIONS: dict[tuple[str, str], str] = {
    ("needs_response", "submit"): "under_review",
    ("needs_response", "close"): "lost",
    ("needs_response", "won"): "won",
    ("needs_response", "lost"): "lost",
    ("needs_response", "overdue"): "lost",
    ("under_review", "won"): "won",
    ("under_review", "lost"): "lost",
    ("warning_needs_response", "submit"): "warning_under_review",
    ("warning_needs_response", "escalated"): "needs_response",
    ("warning_needs_response", "inquiry_closed"): "warning_closed",
    ("warning_needs_response", "overdue"): "warning_closed",
    ("warning_needs_response", "refunded"): "warning_closed",
    ("warning_under_review", "escalated"): "needs_response",
    ("warning_under_review", "inquiry_closed"): "warning_closed",
    ("warning_under_review", "overdue"): "warning_closed",
    ("warning_under_review", "refunded"): "warning_closed",
    ("lost", "appeal_opened"): "appeal_needs_response",
    ("appeal_needs_response", "submit"): "appeal_under_review",
    ("appeal_needs_response", "close"): "lost",
    ("appeal_needs_response", "overdue"): "lost",
    ("appeal_under_review", "won"): "won",
    ("appeal_under_review", "lost"): "lost",
}
NO_EFFECT_STEPS = {
    "overdue",
    "refunded",
}  # what changes nothing where the table does not list it; the rest is refused
TRANSACTION_COUNTS = {
    "warning_needs_response": 0,
    "warning_under_review": 0,
    "warning_closed": 0,
    "prevented": 0,
    "won": 2,
}
AMOUNT, FEE = 2000, 1500


class DisputeMachine(RuleBasedStateMachine):
    @initialize(kind=st.sampled_from(sorted(INITIAL_STATUS)), credited=st.booleans())
    def open_dispute(self, kind: str, credited: bool) -> None:
        self.terms = Terms(fee_credited_on_win=credited)
        self.now = NOW
        self.events: list[DomainEvent] = open_a_dispute(kind)
        self.status = INITIAL_STATUS[kind]
        self.reported_facts: dict[str, str] = {}

    @property
    def state(self) -> Dispute:
        return fold(dispute.evolve, self.events)

    @rule(seconds=st.integers(0, days(3)))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(text=st.sampled_from(["a", "b", None]))
    def stage(self, text: str | None) -> None:
        given = {"evidence": {"uncategorized_text": text}, "submit": False}
        try:
            made = dispute_decisions.update(self.state, given, file_bytes={}, now=self.now)
        except InvalidState:
            assert (self.status, "submit") not in TRANSITIONS
        else:
            assert (self.status, "submit") in TRANSITIONS
            self.events += made

    @rule(value=st.sampled_from(["1", "2", ""]))
    def set_metadata(self, value: str) -> None:
        self.events += dispute_decisions.update(
            self.state, {"metadata": {"a": value}}, file_bytes={}, now=self.now
        )

    @rule(
        step=st.sampled_from(
            [
                "submit",
                "close",
                "refunded",
                "overdue",
                "won",
                "lost",
                "escalated",
                "inquiry_closed",
                "appeal_opened",
            ]
        )
    )
    def step(self, step: str) -> None:
        expected = TRANSITIONS.get((self.status, step))
        before = self.state
        try:
            made = self.decide(before, step)
        except InvalidState:
            assert expected is None
            assert step not in NO_EFFECT_STEPS
            return
        if expected is None:
            assert step in NO_EFFECT_STEPS
            assert made == []
            return
        assert len(made) == 1, "one status change is one version"
        self.events += made
        self.status = expected

    def decide(self, state: Dispute, step: str) -> list[DomainEvent]:
        if step == "submit":
            given = {"evidence": {"customer_name": "Ada", **APPEAL}}
            return dispute_decisions.update(state, given, file_bytes={}, now=self.now)
        if step == "close":
            return dispute_decisions.close(state, now=self.now)
        if step == "refunded":
            return dispute_decisions.close_refunded_inquiry(state, now=self.now)
        if step == "overdue":
            self.now += days(200)
            return dispute_decisions.expire(state, terms=self.terms, now=self.now)
        reference = f"net_{len(self.reported_facts)}"
        made = self.report_fact(state, step, reference)
        self.reported_facts[reference] = step
        return made

    @rule(data=st.data())
    def report_fact_again(self, data: st.DataObject) -> None:
        if self.reported_facts:
            reference = data.draw(st.sampled_from(sorted(self.reported_facts)))
            assert self.report_fact(self.state, self.reported_facts[reference], reference) == []

    def report_fact(self, state: Dispute, fact: str, reference: str) -> list[DomainEvent]:
        txn_id = f"txn_{len(self.events) + 1}"
        return dispute_decisions.report_fact(
            state, fact, reference, due_by=None, txn_id=txn_id, terms=self.terms, now=self.now
        )

    @invariant()
    def money_adds_up(self) -> None:
        state = self.state
        assert state.status == self.status
        assert state.version == len(self.events)
        shown = render_dispute(state, self.now)["balance_transactions"]
        count = TRANSACTION_COUNTS.get(self.status, 1)
        assert len(shown) == count
        assert len({transaction["id"] for transaction in shown}) == count
        amounts = sum(transaction["amount"] for transaction in shown)
        assert amounts == (0, -AMOUNT, 0)[count]
        kept = 0 if self.terms.fee_credited_on_win else -FEE
        assert sum(transaction["net"] for transaction in shown) == (0, -AMOUNT - FEE, kept)[count]

    @invariant()
    def entries_sum_to_zero(self) -> None:
        totals: Counter[str] = Counter()
        accounts: Counter[str] = Counter()
        for event in self.events:
            for posting in derive_postings(event):
                totals[posting.currency] += posting.amount
                accounts[posting.account] += posting.amount
        assert not any(totals.values())
        net = sum(t["amount"] - t["fee"] for t in self.state.balance_transactions)
        assert accounts["merchant_balance"] == -net

    @invariant()
    def state_survives_json(self) -> None:
        state = self.state
        assert msgspec.json.decode(msgspec.json.encode(state), type=Dispute) == state


TestDisputeMachine = DisputeMachine.TestCase
TestDisputeMachine.settings = settings(max_examples=150, stateful_step_count=20, deadline=None)
