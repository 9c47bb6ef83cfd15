"""Disputes: every row of the table in contract §3.2, with its money, evidence and deadlines."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from ledger.domain import charge, dispute, dispute_decisions
from ledger.domain.dispute import (
    Dispute,
    DisputeConceded,
    DisputeLost,
    DisputeOpened,
    DisputeUpdated,
    DisputeWon,
    EvidenceStaged,
    EvidenceSubmitted,
    InquiryClosed,
)
from ledger.domain.dispute_decisions import DisputeReport
from ledger.domain.dispute_states import TRANSITIONS
from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.errors import ContentConflict, InvalidState
from ledger.wire.disputes import render_dispute
from tests.domain.builders import (
    APPEAL,
    DUE_BY,
    NOW,
    STATUS_PATHS,
    a_charge,
    a_dispute,
    apply_steps,
    close_dispute,
    days,
    expire_dispute,
    fold,
    open_a_dispute,
    report_fact,
)

CLOSED = ("won", "lost", "warning_closed", "prevented")
UNDER_REVIEW = ("under_review", "warning_under_review", "appeal_under_review")
AWAITING_RESPONSE = ("needs_response", "warning_needs_response", "appeal_needs_response")


def update(state: Dispute, now: int = NOW, files: dict[str, int] | None = None, **given: Any) -> Dispute:
    """The state after an update; the same object if nothing happened."""
    for event in dispute_decisions.update(state, given, file_bytes=files or {}, now=now):
        state = dispute.evolve(state, event)
    return state


def test_there_is_a_path_into_each_of_the_ten_states() -> None:
    assert len(STATUS_PATHS) == 10
    assert [a_dispute(status).status for status in STATUS_PATHS] == list(STATUS_PATHS)


@pytest.mark.parametrize(
    ("kind", "status", "case_type", "amounts", "refundable"),
    [
        ("chargeback", "needs_response", "chargeback", [-2000], False),
        ("inquiry", "warning_needs_response", "inquiry", [], True),
        ("compliance", "needs_response", "compliance", [-2000], False),
        ("prevented", "prevented", "block", [], True),
    ],
)
def test_opening(kind: str, status: str, case_type: str, amounts: list[int], refundable: bool) -> None:
    state = fold(dispute.evolve, open_a_dispute(kind))
    assert (state.status, state.case_type, state.refundable) == (status, case_type, refundable)
    assert [transaction["amount"] for transaction in state.balance_transactions] == amounts
    assert state.due_by == (0 if kind == "prevented" else DUE_BY)
    assert (state.submission_count, state.past_due, state.evidence) == (0, False, {})


def test_the_withdrawal_is_described() -> None:
    assert a_dispute().balance_transactions == [
        {
            "id": "txn_1",
            "amount": -2000,
            "fee": 1500,
            "currency": "usd",
            "created": NOW,
            "available_on": NOW,
            "type": "adjustment",
            "reporting_category": "dispute",
            "description": "Chargeback withdrawal for ch_1",
            "fee_description": "Dispute fee",
            "source": "du_1",
        }
    ]


def test_a_compliance_case_is_noncompliant_and_requires_the_fee_acknowledgement() -> None:
    state = fold(dispute.evolve, open_a_dispute("compliance"))
    assert (state.reason, state.eligibility) == ("noncompliant", ["visa_compliance"])


def open_dispute_on(state: charge.Charge, dispute_id: str = "du_9", **opening: Any) -> list[Any]:
    terms = Terms(dispute_fees={"usd": 700})
    return dispute_decisions.open_dispute(
        state,
        DisputeReport(kind="chargeback", **opening),
        dispute_id=dispute_id,
        txn_id="txn_9",
        terms=terms,
        now=NOW,
    )


def test_opening_also_records_the_dispute_on_the_charge() -> None:
    before = a_charge()
    marked, made = open_dispute_on(before, reference="net_1", due_by=NOW + 5)
    assert isinstance(made, DisputeOpened)
    assert (made.amount, made.due_by, made.movement) == (2000, NOW + 5, made.movement)
    assert made.movement is not None
    assert made.movement["fee"] == 700
    state = charge.evolve(before, marked)
    assert (state.disputes, state.references) == ({"du_9": 2000}, {"net_1": "du_9"})
    assert state.version == 2
    assert open_dispute_on(state, reference="net_1") == []


def test_a_dispute_is_limited_to_the_remaining_amount() -> None:
    state = charge.evolve(a_charge(), open_dispute_on(a_charge(), "du_8", amount=1500)[0])
    assert open_dispute_on(state)[1].amount == 500
    for amount in (501, 0, -1):
        with pytest.raises(InvalidState) as refused:
            open_dispute_on(state, amount=amount)
        assert refused.value.param == "amount"
    state = charge.evolve(state, open_dispute_on(state)[0])
    assert state.compute_disputable("du_10") == 0
    with pytest.raises(InvalidState):
        open_dispute_on(state, "du_10")
    assert open_dispute_on(state) == []


@pytest.mark.parametrize("given", [{"capture": False}, {"token": "tok_chargeDeclined"}])
def test_only_a_paid_charge_can_be_disputed(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidState) as refused:
        open_dispute_on(a_charge(**given))
    assert refused.value.code == "dispute_state"


@pytest.mark.parametrize(
    ("token", "openings"),
    [
        ("tok_visa", []),
        ("tok_createDispute", [("chargeback", "fraudulent", "10.4", 2001)]),
        ("tok_createDisputeProductNotReceived", [("chargeback", "product_not_received", "13.1", 2001)]),
        ("tok_createDisputeInquiry", [("inquiry", "general", "10", 2001)]),
        ("tok_createMultipleDisputes", [("chargeback", "fraudulent", "10.4", n) for n in (1000, 1001)]),
        ("tok_createCe3EligibleDispute", [("chargeback", "fraudulent", "10.4", 2001)]),
        ("tok_createComplianceDispute", [("compliance", "noncompliant", None, 2001)]),
        ("tok_createIssuerFraudRecord", []),
        ("tok_chargeDeclined", []),
    ],
)
def test_test_tokens_open_disputes(token: str, openings: list[Any]) -> None:
    made = dispute_decisions.get_test_card_disputes(a_charge(token, amount=2001))
    assert [(o.kind, o.reason, o.network_reason_code, o.amount) for o in made] == openings
    assert dispute_decisions.get_test_card_disputes(a_charge(token, capture=False)) == []


# Contract §3.2, commands: next status after a submission of evidence. None: 400 "already closed"; "": 400.
@pytest.mark.parametrize(
    ("status", "following"),
    [
        ("needs_response", "under_review"),
        ("warning_needs_response", "warning_under_review"),
        ("appeal_needs_response", "appeal_under_review"),
        *((status, "") for status in UNDER_REVIEW),
        *((status, None) for status in CLOSED),
    ],
)
def test_submitting(status: str, following: str | None) -> None:
    before = a_dispute(status)
    if following:
        is_appeal = status == "appeal_needs_response"
        state = update(before, evidence=APPEAL if is_appeal else {"uncategorized_text": "x"})
        assert state.status == following
        assert (state.submission_count, state.version) == (before.submission_count + 1, before.version + 1)
        return
    for given in (
        {"evidence": {"receipt": None}},
        {"evidence": {"uncategorized_text": "x"}, "submit": False},
        {"submit": True},
    ):
        with pytest.raises(InvalidState) as refused:
            update(before, **given)
        assert (refused.value.code, refused.value.param) == (None, None)
        if following is None:
            assert refused.value.message == "This dispute is already closed"


@pytest.mark.parametrize("status", ["needs_response", "warning_needs_response"])
def test_staging_changes_no_status_and_merges(status: str) -> None:
    before = a_dispute(status)
    state = update(before, evidence={"customer_name": "Ada", "service_date": "1"}, submit=False)
    state = update(state, evidence={"customer_name": "Bob", "service_date": None}, submit=False)
    assert (state.status, state.submission_count) == (status, before.submission_count)
    assert state.evidence["customer_name"] == "Bob"
    assert "service_date" not in state.evidence
    assert update(state, evidence={"customer_name": "Bob"}, submit=False) is state


def test_submitting_sends_what_was_staged() -> None:
    state = update(a_dispute(), evidence={"customer_name": "Ada"}, submit=False)
    events = dispute_decisions.update(state, {"submit": True}, file_bytes={}, now=NOW)
    assert isinstance(events[0], EvidenceSubmitted)
    assert events[0].evidence == {}
    assert dispute.evolve(state, events[0]).evidence == {"customer_name": "Ada"}


@pytest.mark.parametrize("status", ["needs_response", "warning_needs_response"])
@pytest.mark.parametrize("given", [{"submit": True}, {"evidence": {"customer_name": None}}])
def test_a_submission_needs_evidence(status: str, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidState) as refused:
        update(a_dispute(status), **given)
    assert refused.value.param == "evidence"


@pytest.mark.parametrize(
    "given",
    [
        {"evidence": {"appeal": None}},
        {"evidence": {"appeal": {"card": {"reason_for_filing": None, "supporting_files": []}}}},
        {"submit": True},
    ],
)
def test_an_appeal_cannot_be_submitted_without_its_evidence(given: dict[str, Any]) -> None:
    state = a_dispute("appeal_needs_response")
    with pytest.raises(InvalidState) as refused:
        update(state, **given)
    assert refused.value.param == "evidence"
    staged = update(state, evidence=APPEAL, submit=False)
    assert update(staged, submit=True).status == "appeal_under_review"


def test_the_first_response_does_not_decide_an_appeal() -> None:
    state = update(a_dispute(), evidence={"uncategorized_text": "losing_evidence"})
    for fact in ("lost", "appeal_opened"):
        state = dispute.evolve(state, report_fact(state, fact)[0])
    assert dispute_decisions.get_test_outcome(update(state, evidence=APPEAL)) is None


@pytest.mark.parametrize("status", [status for status in STATUS_PATHS if status != "appeal_needs_response"])
@pytest.mark.parametrize("submit", [True, False])
def test_evidence_of_an_appeal_is_taken_only_for_an_appeal(status: str, submit: bool) -> None:
    before = a_dispute(status)
    with pytest.raises(InvalidState) as refused:
        update(before, evidence={"appeal": {"card": {"reason_for_filing": "Others."}}}, submit=submit)
    assert refused.value.param == "evidence[appeal]"


@pytest.mark.parametrize(
    "evidence",
    [
        {"product_description": "A hat"},
        {"customer_name": None},
        {"enhanced_evidence": {"visa_compliance": {"fee_acknowledged": True}}},
    ],
)
@pytest.mark.parametrize("submit", [True, False])
def test_an_appeal_changes_no_other_evidence(evidence: dict[str, Any], submit: bool) -> None:
    events = apply_steps(open_a_dispute(), "submit", "lost", "appeal_opened")
    before = fold(dispute.evolve, events)
    with pytest.raises(InvalidState) as refused:
        update(before, evidence=APPEAL | evidence, submit=submit)
    assert refused.value.param == f"evidence[{next(iter(evidence))}]"
    same = {"customer_name": before.evidence["customer_name"]}
    assert update(before, evidence=APPEAL | same).status == "appeal_under_review"


@pytest.mark.contract("2.2 submission_method after an appeal")
@pytest.mark.parametrize(
    ("steps", "method"),
    [(("submit", "lost"), "manual"), (("close",), "not_submitted"), (("stage", "close"), "not_submitted")],
)
def test_an_appeal_leaves_the_submission_method_as_it_was(steps: tuple[str, ...], method: str) -> None:
    for appeals in (
        ("appeal_opened", "submit"),
        ("appeal_opened", "submit", "lost", "appeal_opened"),
        ("appeal_opened", "submit", "won"),
    ):
        state = fold(dispute.evolve, apply_steps(open_a_dispute(), *steps, *appeals))
        assert render_dispute(state, NOW)["evidence_details"]["submission_method"] == method


@pytest.mark.parametrize(("late", "past_due"), [(0, False), (1, True)])
def test_a_submission_after_due_by_is_past_due(late: int, past_due: bool) -> None:
    state = update(a_dispute(), now=DUE_BY + late, evidence={"customer_name": "Ada"})
    assert (state.past_due, state.status) == (past_due, "under_review")


@pytest.mark.parametrize("status", STATUS_PATHS)
def test_metadata_alone_never_submits_and_is_allowed_in_any_state(status: str) -> None:
    before = a_dispute(status)
    for given in (
        {"metadata": {"order": "6735"}},
        {"intended_submission_method": "manual"},
        {"metadata": {"order": "6735"}, "submit": False},
        {"metadata": {"order": "6735"}, "evidence": {}},
    ):
        events = dispute_decisions.update(before, given, file_bytes={}, now=NOW)
        assert [type(event) for event in events] == [DisputeUpdated]
        assert dispute.evolve(before, events[0]).status == status


@pytest.mark.parametrize("status", STATUS_PATHS)
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"metadata": {"a": ""}},
        {"metadata": None},
        {"intended_submission_method": None},
        {"submit": False},
    ],
)
def test_an_update_without_changes_makes_no_event(status: str, given: dict[str, Any]) -> None:
    assert dispute_decisions.update(a_dispute(status), given, file_bytes={}, now=NOW) == []


def test_one_update_is_one_version() -> None:
    given: dict[str, Any] = {
        "evidence": {"customer_name": "Ada"},
        "metadata": {"a": "1"},
        "intended_submission_method": "manual",
    }
    state = update(a_dispute(), **given)
    assert (state.version, state.status, state.metadata) == (2, "under_review", {"a": "1"})
    assert state.intended_submission_method == "manual"
    staged = dispute_decisions.update(a_dispute(), given | {"submit": False}, file_bytes={}, now=NOW)
    assert [type(event) for event in staged] == [EvidenceStaged]


def take_action(state: Dispute, action: str) -> list[DomainEvent]:
    if action == "submit":
        is_appeal = state.status == "appeal_needs_response"
        params = {"evidence": APPEAL if is_appeal else {"customer_name": "Ada"}}
        return dispute_decisions.update(state, params, file_bytes={}, now=NOW)
    if action == "close":
        return close_dispute(state, now=NOW)
    if action == "timeout":
        return expire_dispute(state, now=NOW + days(365))
    if action == "refunded":
        return dispute_decisions.close_refunded_inquiry(state, now=NOW)
    return report_fact(state, action)


@pytest.mark.parametrize("status", TRANSITIONS)
@pytest.mark.parametrize("action", ["submit", "close", "timeout", "refunded", *dispute_decisions.FACTS])
def test_decisions_follow_the_table_of_transitions(status: str, action: str) -> None:
    state = a_dispute(status)
    next_status = TRANSITIONS[status].get(action)
    if next_status is None:
        with suppress(InvalidState):
            assert take_action(state, action) == []
        return
    (event,) = take_action(state, action)
    assert dispute.evolve(state, event).status == next_status


def test_the_table_of_transitions_has_every_status() -> None:
    assert set(TRANSITIONS) == set(STATUS_PATHS)
    assert {status for actions in TRANSITIONS.values() for status in actions.values()} <= set(TRANSITIONS)


@pytest.mark.parametrize(
    ("status", "allowed"),
    [(status, status in AWAITING_RESPONSE or status == "warning_under_review") for status in STATUS_PATHS],
)
def test_closing(status: str, allowed: bool) -> None:
    state = a_dispute(status)
    if allowed:
        events = close_dispute(state, now=NOW)
        after_close = dispute.evolve(state, events[0])
        if status.startswith("warning"):
            assert isinstance(events[0], InquiryClosed)
            assert (events[0].cause, after_close.status) == ("merchant", "warning_closed")
            assert (after_close.refundable, after_close.balance_transactions) == (True, [])
            return
        assert isinstance(events[0], DisputeConceded)
        assert (after_close.status, after_close.refundable) == ("lost", False)
        assert len(after_close.balance_transactions) == 1
        return
    with pytest.raises(InvalidState) as refused:
        close_dispute(state, now=NOW)
    assert refused.value.code is None
    assert (refused.value.message == "This dispute is already closed") == (status in CLOSED)


# Contract §3.2, facts: next status by status; a fact that is not listed is refused.
FACTS: dict[str, dict[str, str]] = {
    "won": {"needs_response": "won", "under_review": "won", "appeal_under_review": "won"},
    "lost": {"needs_response": "lost", "under_review": "lost", "appeal_under_review": "lost"},
    "escalated": {"warning_needs_response": "needs_response", "warning_under_review": "needs_response"},
    "inquiry_closed": {"warning_needs_response": "warning_closed", "warning_under_review": "warning_closed"},
    "appeal_opened": {"lost": "appeal_needs_response"},
    "prevented": {},
}


def test_all_facts_are_in_the_table() -> None:
    assert set(dispute_decisions.FACTS) == set(FACTS)


@pytest.mark.parametrize("status", STATUS_PATHS)
@pytest.mark.parametrize("fact", FACTS)
def test_facts(status: str, fact: str) -> None:
    before = a_dispute(status)
    following = FACTS[fact].get(status)
    if following is None:
        with pytest.raises(InvalidState) as refused:
            report_fact(before, fact, "net_1")
        assert refused.value.code == "dispute_state"
        return
    events = report_fact(before, fact, "net_1")
    assert len(events) == 1
    state = dispute.evolve(before, events[0])
    assert (state.status, state.version) == (following, before.version + 1)
    assert report_fact(state, fact, "net_1") == []


def test_a_reference_is_used_for_one_fact() -> None:
    before = a_dispute("under_review")
    state = dispute.evolve(before, report_fact(before, "won", "net_1")[0])
    with pytest.raises(ContentConflict) as refused:
        report_fact(state, "lost", "net_1")
    assert refused.value.param == "fact"
    state = fold(dispute.evolve, open_a_dispute(reference="net_1"))
    with pytest.raises(InvalidState):
        report_fact(state, "won", "net_1")


def test_winning_gives_the_amount_back_and_keeps_the_fee() -> None:
    state = a_dispute("won")
    assert state.refundable
    assert [(t["amount"], t["fee"]) for t in state.balance_transactions] == [(-2000, 1500), (2000, 0)]
    assert state.balance_transactions[1]["reporting_category"] == "dispute_reversal"
    assert state.balance_transactions[1]["description"] == "Chargeback reversal for ch_1"


def test_winning_credits_the_fee_where_the_terms_say_so() -> None:
    events = report_fact(a_dispute("under_review"), "won", terms=Terms(fee_credited_on_win=True))
    assert isinstance(events[0], DisputeWon)
    assert events[0].movement is not None
    assert events[0].movement["fee"] == -1500


def test_an_escalated_inquiry_is_a_chargeback_that_keeps_its_evidence() -> None:
    before = a_dispute("warning_under_review")
    state = dispute.evolve(before, report_fact(before, "escalated", now=NOW + days(1))[0])
    assert (state.case_type, state.refundable, state.due_by) == ("chargeback", False, DUE_BY + days(1))
    assert [t["amount"] for t in state.balance_transactions] == [-2000]
    assert state.evidence == before.evidence
    again = update(state, submit=True)
    assert (again.status, again.submission_count) == ("under_review", 2)


def test_an_appeal_has_a_new_due_by() -> None:
    state = a_dispute("lost")
    assert dispute.evolve(state, report_fact(state, "appeal_opened", due_by=NOW + 9)[0]).due_by == NOW + 9
    assert dispute.evolve(
        state, report_fact(state, "appeal_opened", now=NOW + days(9))[0]
    ).due_by == DUE_BY + days(9)


@pytest.mark.parametrize(
    ("status", "moment", "following"),
    [
        ("needs_response", DUE_BY + 1, "lost"),
        ("appeal_needs_response", DUE_BY + 1, "lost"),
        ("warning_needs_response", NOW + days(120), "warning_closed"),
        ("warning_under_review", NOW + days(120), "warning_closed"),
        *((status, None, None) for status in (*CLOSED, "under_review", "appeal_under_review")),
    ],
)
def test_timeouts_end_disputes_and_inquiries(status: str, moment: int | None, following: str | None) -> None:
    state = a_dispute(status)
    assert dispute_decisions.compute_deadline(state) == moment
    if moment is None:
        assert expire_dispute(state, now=NOW + days(1000)) == []
        return
    assert expire_dispute(state, now=moment - 1) == []
    events = expire_dispute(state, now=moment)
    assert isinstance(events[0], DisputeLost | InquiryClosed)
    assert events[0].cause == "deadline"
    late = dispute.evolve(state, events[0])
    assert late.status == following
    assert expire_dispute(late, now=moment) == []


def test_without_due_date_nothing_expires() -> None:
    assert dispute_decisions.compute_deadline(fold(dispute.evolve, open_a_dispute(due_by=0))) is None


def test_staged_evidence_is_not_submitted_at_the_deadline() -> None:
    events = apply_steps(open_a_dispute(), "stage")
    state = fold(dispute.evolve, events)
    late = dispute.evolve(state, expire_dispute(state, now=DUE_BY + 1)[0])
    assert (late.status, late.submission_count) == ("lost", 0)


@pytest.mark.parametrize("status", STATUS_PATHS)
def test_a_full_refund_closes_an_open_inquiry_only(status: str) -> None:
    state = a_dispute(status)
    events = dispute_decisions.close_refunded_inquiry(state, now=NOW)
    if not status.startswith("warning") or status == "warning_closed":
        assert events == []
        return
    closed = dispute.evolve(state, events[0])
    assert (closed.status, closed.refundable) == ("warning_closed", False)


@pytest.mark.parametrize(
    ("status", "text", "fact"),
    [
        ("needs_response", "winning_evidence", "won"),
        ("needs_response", "losing_evidence", "lost"),
        ("needs_response", "escalate_inquiry_evidence", None),
        ("needs_response", "winning_evidence ", None),
        ("needs_response", "anything else", None),
        ("warning_needs_response", "winning_evidence", "inquiry_closed"),
        ("warning_needs_response", "losing_evidence", "inquiry_closed"),
        ("warning_needs_response", "escalate_inquiry_evidence", "escalated"),
        ("warning_needs_response", "anything else", None),
    ],
)
def test_outcomes_of_test_mode(status: str, text: str, fact: str | None) -> None:
    staged = update(a_dispute(status), evidence={"uncategorized_text": text}, submit=False)
    assert dispute_decisions.get_test_outcome(staged) is None
    submitted = update(staged, submit=True)
    assert dispute_decisions.get_test_outcome(submitted) == fact
    if fact:
        decided = dispute.evolve(submitted, report_fact(submitted, fact)[0])
        assert dispute_decisions.get_test_outcome(decided) is None


def test_live_mode_has_no_test_outcomes() -> None:
    made = open_a_dispute()[0]
    assert isinstance(made, DisputeOpened)
    live = dispute.evolve(None, DisputeOpened(**{**vars(made), "livemode": True}))
    assert (
        dispute_decisions.get_test_outcome(update(live, evidence={"uncategorized_text": "winning_evidence"}))
        is None
    )
