"""A charge, its refunds and disputes driven at random against a model written from the table of contract
§3.2, not from the code.

After every step the invariants of §3.3 hold: how many transactions, what they sum to, that the charge never
returns more than was captured, and that the double entries of everything so far sum to zero.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger.domain import charge, dispute, dispute_decisions, refund_decisions
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_decisions import DisputeReport, FactReport
from ledger.domain.dispute_money import PaidCharge
from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.domain.postings import derive_postings
from ledger.errors import InvalidState
from ledger.wire.disputes import render_dispute
from tests.domain.builders import APPEAL, NOW, a_charge, days

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
    ("warning_needs_response", "close"): "warning_closed",
    ("warning_needs_response", "escalated"): "needs_response",
    ("warning_needs_response", "inquiry_closed"): "warning_closed",
    ("warning_needs_response", "overdue"): "warning_closed",
    ("warning_under_review", "close"): "warning_closed",
    ("warning_under_review", "escalated"): "needs_response",
    ("warning_under_review", "inquiry_closed"): "warning_closed",
    ("warning_under_review", "overdue"): "warning_closed",
    ("lost", "appeal_opened"): "appeal_needs_response",
    ("appeal_needs_response", "submit"): "appeal_under_review",
    ("appeal_needs_response", "close"): "lost",
    ("appeal_needs_response", "overdue"): "lost",
    ("appeal_under_review", "won"): "won",
    ("appeal_under_review", "lost"): "lost",
}
STEPS = sorted({step for _, step in TRANSITIONS})
OPEN_INQUIRY = ("warning_needs_response", "warning_under_review")
WITHOUT_MONEY = (*OPEN_INQUIRY, "warning_closed", "prevented")
KEEPS_THE_MONEY = ("lost", "appeal_needs_response", "appeal_under_review")
CAPTURED, FEE = 2000, 1500


@dataclass
class Model:
    """What a dispute should be: its status, amount, and how much it has taken and returned."""

    status: str
    amount: int
    withdrawn: int = 0
    returned: list[int] = field(default_factory=list)
    references: dict[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        return self.withdrawn - sum(self.returned)


class DisputeMachine(RuleBasedStateMachine):
    @initialize(
        credited=st.booleans(),
        refunded=st.sampled_from([0, 0, 1, 1200]),
        openings=st.lists(
            st.tuples(st.sampled_from(["chargeback", "inquiry"]), st.sampled_from([500, 1000, 2000])),
            max_size=2,
        ),
    )
    def pay(self, credited: bool, refunded: int, openings: list[tuple[str, int]]) -> None:
        self.terms = Terms(fee_credited_on_win=credited)
        self.now = NOW
        self.charge: Charge = a_charge()
        self.events: list[DomainEvent] = []
        self.disputes: dict[str, Dispute] = {}
        self.models: dict[str, Model] = {}
        self.refunded = 0
        if refunded:
            self.refund(refunded)
        for kind, amount in openings:
            self.open_dispute(kind, amount)

    def append(self, events: list[DomainEvent]) -> None:
        """Folds the events into the charge and the disputes; those of a refund itself have no state here."""
        self.events += events
        for event in events:
            stream = event.originator_id
            if stream == self.charge.id:
                self.charge = charge.evolve(self.charge, event)
            elif stream.startswith("du"):
                self.disputes[stream] = dispute.evolve(self.disputes.get(stream), event)

    @property
    def paid(self) -> PaidCharge:
        return PaidCharge(charge=self.charge, disputes=list(self.disputes.values()))

    def next_txn(self) -> str:
        return f"txn_{len(self.events) + 1}"

    def disputable(self, dispute_id: str = "") -> int:
        others = sum(model.amount for name, model in self.models.items() if name != dispute_id)
        return 0 if self.refunded == CAPTURED else CAPTURED - others

    @rule(seconds=st.integers(0, days(3)))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(kind=st.sampled_from(sorted(INITIAL_STATUS)), amount=st.sampled_from([None, 1, 500, 1000, 2000]))
    def open_dispute(self, kind: str, amount: int | None) -> None:
        dispute_id = f"du_{len(self.disputes) + 1}"
        expected = self.disputable() if amount is None else amount
        report = DisputeReport(kind=kind, amount=amount)
        try:
            events = dispute_decisions.open_dispute(
                self.charge,
                report,
                dispute_id=dispute_id,
                txn_id=self.next_txn(),
                terms=self.terms,
                now=self.now,
            )
        except InvalidState:
            assert not 1 <= expected <= self.disputable()
            return
        assert 1 <= expected <= self.disputable()
        self.append(events)
        takes_money = kind in ("chargeback", "compliance")
        self.models[dispute_id] = Model(INITIAL_STATUS[kind], expected, expected if takes_money else 0)

    @rule(amount=st.sampled_from([None, 1, 400, 1000]))
    def refund(self, amount: int | None) -> None:
        left = CAPTURED - self.refunded
        expected = left if amount is None else amount
        blocked = any(model.status not in (*WITHOUT_MONEY, "won") for model in self.models.values())
        params = {} if amount is None else {"amount": amount}
        try:
            events = refund_decisions.create(
                self.charge,
                params,
                disputes=self.paid.disputes,
                refund_id=f"re_{len(self.events)}",
                txn_id=self.next_txn(),
                now=self.now,
            )
        except InvalidState:
            assert blocked or expected > left or not left
            return
        assert not blocked
        assert 1 <= expected <= left
        self.append(events)
        self.append(refund_decisions.close_inquiries(self.charge, self.paid.disputes, now=self.now))
        self.refunded += expected
        if self.refunded == CAPTURED:
            for model in self.models.values():
                model.status = "warning_closed" if model.status in OPEN_INQUIRY else model.status

    @rule(data=st.data(), text=st.sampled_from(["a", "b", None]))
    def stage(self, data: st.DataObject, text: str | None) -> None:
        if not self.models:
            return
        dispute_id = data.draw(st.sampled_from(sorted(self.models)))
        status = self.models[dispute_id].status
        evidence = (
            {"appeal": text and {"card": {"reason_for_filing": text}}}
            if status == "appeal_needs_response"
            else {"uncategorized_text": text}
        )
        params = {"evidence": evidence, "submit": False, "metadata": {"a": text or ""}}
        try:
            events = dispute_decisions.update(self.disputes[dispute_id], params, file_bytes={}, now=self.now)
        except InvalidState:
            assert (status, "submit") not in TRANSITIONS
        else:
            assert (status, "submit") in TRANSITIONS
            self.append(events)

    @rule(data=st.data(), amount=st.sampled_from([None, 1, 500, 2000]))
    def step(self, data: st.DataObject, amount: int | None) -> None:
        if not self.models:
            return
        dispute_id = data.draw(st.sampled_from(sorted(self.models)))
        model, state = self.models[dispute_id], self.disputes[dispute_id]
        possible = sorted(step for status, step in TRANSITIONS if status == model.status)
        step = data.draw(st.sampled_from([*possible, *possible, *STEPS]))
        expected = TRANSITIONS.get((model.status, step))
        escalated_over = model.amount if amount is None else amount
        is_possible = step != "escalated" or escalated_over <= self.disputable(dispute_id)
        try:
            events = self.decide(state, step, amount if step == "escalated" else None)
        except InvalidState:
            assert expected is None or not is_possible
            assert step != "overdue"
            return
        if expected is None:
            assert (step, events) == ("overdue", [])
            return
        assert is_possible
        of_dispute = [event for event in events if event.originator_id == dispute_id]
        assert len(of_dispute) == 1, "one status change is one version"
        self.append(events)
        model.status = expected
        if step == "escalated":
            model.amount = model.withdrawn = escalated_over
        elif expected == "won":
            model.returned += [model.kept] if model.kept or self.terms.fee_credited_on_win else []
        elif expected == "lost":
            others = sum(
                each.kept
                for each in self.models.values()
                if each is not model and each.status in KEEPS_THE_MONEY
            )
            part = max(0, model.kept + others + self.refunded - CAPTURED)
            model.returned += [part] if part else []

    def decide(self, state: Dispute, step: str, amount: int | None) -> list[DomainEvent]:
        if step == "submit":
            evidence = APPEAL if state.status == "appeal_needs_response" else {"customer_name": "Ada"}
            return dispute_decisions.update(state, {"evidence": evidence}, file_bytes={}, now=self.now)
        if step == "close":
            return dispute_decisions.close(state, paid=self.paid, txn_id=self.next_txn(), now=self.now)
        if step == "overdue":
            self.now += days(200)
            return dispute_decisions.expire(state, paid=self.paid, txn_id=self.next_txn(), now=self.now)
        reference = f"net_{len(self.events)}"
        events = self.report_fact(state, FactReport(fact=step, amount=amount, reference=reference))
        self.models[state.id].references[reference] = step
        return events

    def report_fact(self, state: Dispute, report: FactReport) -> list[DomainEvent]:
        return dispute_decisions.report_fact(
            state, report, paid=self.paid, txn_id=self.next_txn(), terms=self.terms, now=self.now
        )

    @rule()
    def report_facts_again(self) -> None:
        for dispute_id, model in self.models.items():
            for reference, fact in model.references.items():
                report = FactReport(fact=fact, reference=reference)
                assert self.report_fact(self.disputes[dispute_id], report) == []

    @invariant()
    def money_adds_up(self) -> None:
        for dispute_id, model in self.models.items():
            state = self.disputes[dispute_id]
            assert (state.status, state.amount) == (model.status, model.amount)
            shown = render_dispute(state, self.now)["balance_transactions"]
            expected = [-model.withdrawn, *model.returned] if model.withdrawn else []
            assert [transaction["amount"] for transaction in shown] == expected
            assert len({transaction["id"] for transaction in shown}) == len(shown) <= 3
            fees = sum(transaction["amount"] - transaction["net"] for transaction in shown)
            is_credited = model.status == "won" and self.terms.fee_credited_on_win
            assert fees == (FEE if model.withdrawn and not is_credited else 0)

    @invariant()
    def the_charge_never_returns_more_than_was_captured(self) -> None:
        kept = [model.kept for model in self.models.values() if model.status in KEEPS_THE_MONEY]
        assert self.charge.amount_refunded == self.refunded
        assert self.refunded + sum(kept) <= CAPTURED
        assert sum(self.charge.disputes.values()) <= CAPTURED
        assert self.charge.disputes == {name: model.amount for name, model in self.models.items()}

    @invariant()
    def entries_sum_to_zero(self) -> None:
        accounts: Counter[str] = Counter()
        for event in self.events:
            for posting in derive_postings(event):
                assert posting.currency == "usd"
                accounts[posting.account] += posting.amount
        assert accounts.total() == 0
        transactions = [t for state in self.disputes.values() for t in state.balance_transactions]
        net = sum(t["amount"] - t["fee"] for t in transactions) - self.refunded
        assert accounts["merchant_balance"] == -net

    @invariant()
    def state_survives_json(self) -> None:
        for state in self.disputes.values():
            assert msgspec.json.decode(msgspec.json.encode(state), type=Dispute) == state


TestDisputeMachine = DisputeMachine.TestCase
TestDisputeMachine.settings = settings(max_examples=300, stateful_step_count=20)
