"""Refunds: how much of a charge remains, which disputes prevent a refund, what a full refund closes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain import charge, charge_decisions, dispute, refund, refund_decisions
from ledger.domain.charge import Charge, ChargeRefunded
from ledger.domain.dispute import InquiryClosed
from ledger.domain.money import Movement
from ledger.domain.postings import derive_postings, get_balance_transaction
from ledger.domain.refund import Refund, RefundCreated
from ledger.errors import InvalidParameter, InvalidState, RequestError
from tests.domain.builders import (
    NOW,
    STATUS_PATHS,
    a_charge,
    a_dispute,
    a_refund,
    create_refund_events,
    register_charge,
    report_fact,
)

REFUND_BLOCKING_STATUSES = {
    "needs_response",
    "under_review",
    "lost",
    "appeal_needs_response",
    "appeal_under_review",
}


def apply_refunds(state: Charge, *amounts: int) -> Charge:
    for number, amount in enumerate(amounts, start=1):
        state = charge.evolve(state, create_refund_events(state, amount, number=number)[1])
    return state


def test_a_refund_and_its_event_on_the_charge() -> None:
    state = a_charge(customer="cus_1", description="Two hats")
    created, refunded = create_refund_events(state, 500, reason="duplicate", metadata={"a": "1"})
    assert isinstance(created, RefundCreated)
    assert isinstance(refunded, ChargeRefunded)
    assert (created.originator_id, created.originator_version) == ("re_1", 1)
    assert (refunded.originator_id, refunded.originator_version) == ("ch_1", 2)
    made = refund.evolve(None, created)
    assert (made.charge, made.customer, made.amount, made.currency) == ("ch_1", "cus_1", 500, "usd")
    assert (made.status, made.reason, made.metadata) == ("succeeded", "duplicate", {"a": "1"})
    assert (made.payment_method, made.method) == ("card_1", "card")
    after = charge.evolve(state, refunded)
    assert (after.amount_refunded, after.refunds) == (500, {"re_1": 500})


def test_the_money_is_posted_once_and_both_objects_render_it_alike() -> None:
    state = a_charge(description="Two hats")
    created, refunded = create_refund_events(state, 500)
    assert derive_postings(created) == []
    assert [entry.amount for entry in derive_postings(refunded)] == [-500, 500]
    shown = get_balance_transaction(refunded, charge.evolve(state, refunded))
    assert shown == refund.evolve(None, created).balance_transaction
    assert shown["description"] == "REFUND FOR CHARGE (Two hats)"
    assert (shown["amount"], shown["fee"], shown["source"]) == (-500, 0, "re_1")


def test_without_an_amount_the_remaining_amount_is_refunded() -> None:
    state = apply_refunds(a_charge(), 700)
    created, _ = create_refund_events(state, number=2)
    assert isinstance(created, RefundCreated)
    assert created.amount == 1300


def test_what_can_be_refunded_is_what_was_captured() -> None:
    authorized = a_charge(capture=False)
    (captured,) = charge_decisions.capture(authorized, {"amount": 1200}, txn_id="txn_1", now=NOW)
    state = charge.evolve(authorized, captured)
    with pytest.raises(InvalidState) as refusal:
        create_refund_events(state, 1201)
    assert refusal.value.param == "amount"
    assert apply_refunds(state, 1200).amount_refunded == 1200


def test_more_than_is_left_is_refused_in_the_recorded_words() -> None:
    with pytest.raises(InvalidState) as refusal:
        create_refund_events(apply_refunds(a_charge(amount=5000), 2000), 4000)
    error = refusal.value
    assert error.message == ("Refund amount ($40.00) is greater than unrefunded amount on charge ($30.00)")
    assert (error.code, error.param) == (None, "amount")


@pytest.mark.parametrize("amount", [0, -1])
def test_amounts_below_one_cannot_be_refunded(amount: int) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        create_refund_events(a_charge(), amount)
    assert refusal.value.param == "amount"


@pytest.mark.parametrize("amount", [None, 1, 2000])
def test_a_fully_refunded_charge_cannot_be_refunded(amount: int | None) -> None:
    with pytest.raises(InvalidState) as refusal:
        create_refund_events(apply_refunds(a_charge(), 2000), amount)
    assert refusal.value.message == "Charge ch_1 has already been refunded."
    assert (refusal.value.code, refusal.value.param) == ("charge_already_refunded", None)


@pytest.mark.parametrize("state", [a_charge(capture=False), a_charge("tok_chargeDeclined")])
def test_a_charge_that_was_not_paid_cannot_be_refunded(state: Charge) -> None:
    with pytest.raises(InvalidState) as refusal:
        create_refund_events(state)
    assert refusal.value.code == "charge_not_refundable"


@pytest.mark.parametrize("status", sorted(STATUS_PATHS))
@pytest.mark.parametrize("amount", [None, 100])
def test_a_dispute_that_withdrew_the_money_prevents_refunds(status: str, amount: int | None) -> None:
    state, disputed = a_charge(), a_dispute(status)
    if status in REFUND_BLOCKING_STATUSES:
        with pytest.raises(InvalidState) as refusal:
            create_refund_events(state, amount, (disputed,))
        error = refusal.value
        assert error.message == "Charge ch_1 has been charged back; cannot issue a refund."
        assert (error.code, error.param) == ("charge_disputed", None)
    else:
        assert len(create_refund_events(state, amount, (disputed,))) == 2


def test_one_such_dispute_of_several_prevents_refunds() -> None:
    with pytest.raises(InvalidState) as refusal:
        create_refund_events(a_charge(), 1, (a_dispute("won"), a_dispute("needs_response")))
    assert refusal.value.code == "charge_disputed"


@pytest.mark.parametrize("status", sorted(set(STATUS_PATHS) - REFUND_BLOCKING_STATUSES))
def test_a_full_refund_closes_the_inquiries_that_are_open(status: str) -> None:
    disputed = a_dispute(status)
    whole, part = apply_refunds(a_charge(), 1500, 500), apply_refunds(a_charge(), 1500)
    assert refund_decisions.close_inquiries(part, [disputed], now=NOW) == []
    closed = refund_decisions.close_inquiries(whole, [disputed], now=NOW)
    if status not in ("warning_needs_response", "warning_under_review"):
        assert closed == []
        return
    (event,) = closed
    assert isinstance(event, InquiryClosed)
    assert (event.originator_id, event.cause) == ("du_1", "refunded")
    after = dispute.evolve(disputed, event)
    assert (after.status, after.refundable) == ("warning_closed", False)


def test_an_escalated_inquiry_forbids_what_the_inquiry_allowed() -> None:
    inquiry = a_dispute("warning_needs_response")
    assert create_refund_events(a_charge(), 1, (inquiry,))
    (escalated,) = report_fact(inquiry, "escalated")
    with pytest.raises(InvalidState):
        create_refund_events(a_charge(), 1, (dispute.evolve(inquiry, escalated),))


def test_metadata_is_merged_and_nothing_happens_without_a_change() -> None:
    state = a_refund(metadata={"a": "1", "b": "2"})
    (event,) = refund_decisions.update(state, {"metadata": {"b": "", "c": "3"}}, now=NOW)
    after = refund.evolve(state, event)
    assert (after.metadata, after.version) == ({"a": "1", "c": "3"}, 2)
    assert refund_decisions.update(state, {"metadata": {"a": "1"}}, now=NOW) == []
    assert refund_decisions.update(state, {}, now=NOW) == []
    (cleared,) = refund_decisions.update(state, {"metadata": None}, now=NOW)
    assert refund.evolve(state, cleared).metadata == {}


def test_a_refund_that_succeeded_says_why_it_cannot_be_cancelled() -> None:
    error = refund_decisions.make_cancel_error(a_refund())
    assert error.message == "Refund re_1 cannot be canceled: its status is succeeded, not requires_action."


@pytest.mark.parametrize(("given", "method"), [({"type": "klarna"}, "klarna"), (None, None)])
def test_a_registered_charge_is_refunded_to_its_own_payment_method(given: Any, method: str | None) -> None:
    created, _ = create_refund_events(register_charge(payment_method_details=given, payment_intent="pi_1"))
    made = refund.evolve(None, created)
    assert (made.method, made.payment_method, made.payment_intent) == (method, None, "pi_1")


def test_only_its_creation_can_be_the_first_event_of_a_refund() -> None:
    state = a_refund()
    (update,) = refund_decisions.update(state, {"metadata": {"a": "1"}}, now=NOW)
    with pytest.raises(TypeError):
        refund.evolve(None, update)
    movement = Movement(id="txn_1", amount=-1, fee=0, currency="usd", created=NOW, available_on=NOW)
    with pytest.raises(TypeError):
        refund.evolve(
            state,
            ChargeRefunded(
                originator_id="ch_1", originator_version=2, at=NOW, refund="re_1", movement=movement
            ),
        )


@given(st.lists(st.none() | st.integers(1, 2500), max_size=12), st.integers(50, 4000))
def test_refunds_never_exceed_the_captured_amount(amounts: list[int | None], captured: int) -> None:
    state = a_charge(amount=captured)
    refunds: list[Refund] = []
    for number, amount in enumerate(amounts):
        left = captured - state.amount_refunded
        try:
            created, refunded = create_refund_events(state, amount, number=number)
        except RequestError:
            assert left == 0 or (amount is not None and amount > left)
            continue
        refunds.append(refund.evolve(None, created))
        state = charge.evolve(state, refunded)
        assert 0 < state.amount_refunded == sum(each.amount for each in refunds) <= captured
        assert state.refunds == {each.id: each.amount for each in refunds}
