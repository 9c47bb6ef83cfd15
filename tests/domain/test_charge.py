"""Charges: decisions in the form given, when, then."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain import charge, charge_decisions
from ledger.domain.cards import TEST_CARDS, make_source_card
from ledger.domain.charge import Charge, ChargeCaptured, ChargeFailed, ChargeUpdated
from ledger.errors import CardError, InvalidParameter, InvalidState, RequestError, UnknownReference
from ledger.wire import charges
from tests.domain.builders import NOW, a_charge, a_customer, days


def test_a_charge_is_paid_less_the_fee() -> None:
    state = a_charge(description="Two hats")
    assert (state.status, state.captured, state.amount_captured) == ("succeeded", True, 2000)
    assert state.balance_transaction == {
        "id": "txn_charge",
        "amount": 2000,
        "fee": 88,
        "currency": "usd",
        "created": NOW,
        "available_on": 1_700_092_800,
        "type": "charge",
        "reporting_category": "charge",
        "description": "Two hats",
        "fee_description": "Stripe processing fees",
        "source": "ch_1",
    }


def test_funds_of_one_card_are_available_at_once() -> None:
    transaction = a_charge("tok_bypassPending").balance_transaction
    assert transaction is not None
    assert transaction["available_on"] == NOW


def test_currency_may_be_given_in_capitals() -> None:
    assert a_charge(currency="USD").currency == "usd"


@pytest.mark.parametrize(
    ("given", "code", "param"),
    [
        ({"amount": 49}, "amount_too_small", "amount"),
        ({"amount": 100_000_000}, "amount_too_large", "amount"),
        ({"currency": "xyz"}, None, "currency"),
        ({"metadata": {"k" * 41: "v"}}, None, f"metadata[{'k' * 41}]"),
    ],
)
def test_bad_parameters_are_refused(given: dict[str, Any], code: str | None, param: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        a_charge(**given)
    assert (refused.value.code, refused.value.param) == (code, param)


@pytest.mark.parametrize(
    ("token", "code", "decline_code"),
    [
        ("tok_chargeDeclined", "card_declined", "generic_decline"),
        ("tok_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("tok_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("tok_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("tok_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
        ("tok_chargeDeclinedProcessingError", "processing_error", "processing_error"),
        ("tok_chargeCustomerFail", "card_declined", "generic_decline"),
    ],
)
def test_a_decline_is_a_failed_charge_and_a_refusal(token: str, code: str, decline_code: str) -> None:
    state = a_charge(token)
    assert (state.status, state.captured, state.failure_code) == ("failed", False, code)
    assert state.balance_transaction is None
    refusal = charge_decisions.make_card_error(state)
    assert isinstance(refusal, CardError)
    assert (refusal.code, refusal.decline_code, refusal.charge) == (code, decline_code, "ch_1")


@pytest.mark.parametrize("token", TEST_CARDS)
def test_every_token_makes_a_charge(token: str) -> None:
    state = a_charge(token)
    assert state.status == ("failed" if TEST_CARDS[token].decline else "succeeded")
    assert state.card is not None
    assert state.card["last4"] == TEST_CARDS[token].number[-4:]


def test_card_numbers_are_accepted_like_their_tokens() -> None:
    card = make_source_card("4000000000000259", card_id="card_1", livemode=False)
    assert card["token"] == "tok_createDispute"
    assert make_source_card("4242424242424242", card_id="card_1", livemode=False)["token"] == "tok_visa"
    assert make_source_card("tok_visa_createDispute", card_id="card_1", livemode=False)["last4"] == "0259"


def choose_card_id(params: dict[str, Any], customer: Any = None) -> str:
    return charge_decisions.resolve_card(params, customer, card_id="card_new", livemode=False)["id"]


def test_the_card_charged_is_the_source_or_the_customers_default() -> None:
    ada = a_customer(source="tok_visa")
    assert choose_card_id({"source": "tok_visa"}) == "card_new"
    assert choose_card_id({"source": "tok_visa"}, ada) == "card_new"
    assert choose_card_id({"source": "card_1"}, ada) == "card_1"
    assert choose_card_id({}, ada) == "card_1"


@pytest.mark.parametrize(
    ("given", "customer", "error", "code"),
    [
        ({}, None, InvalidParameter, "parameter_missing"),
        ({}, a_customer(), CardError, "missing"),
        ({"source": "tok_x"}, None, UnknownReference, "resource_missing"),
        ({"source": "card_9"}, a_customer(source="tok_visa"), UnknownReference, "resource_missing"),
    ],
)
def test_a_customer_without_a_card_cannot_be_charged(
    given: dict[str, Any], customer: Any, error: type[RequestError], code: str
) -> None:
    with pytest.raises(error) as refused:
        choose_card_id(given, customer)
    assert refused.value.code == code


def capture(state: Charge, **given: Any) -> Charge:
    events = charge_decisions.capture(state, given, txn_id="txn_2", now=NOW + 10)
    assert isinstance(events[0], ChargeCaptured)
    return charge.evolve(state, events[0])


def test_an_authorized_charge_moves_no_money_until_captured() -> None:
    state = a_charge(capture=False)
    assert (state.status, state.captured, state.balance_transaction) == ("succeeded", False, None)
    state = capture(state, receipt_email="a@b.c")
    assert (state.captured, state.amount_captured, state.receipt_email) == (True, 2000, "a@b.c")
    assert state.balance_transaction is not None
    assert (state.balance_transaction["fee"], state.balance_transaction["created"]) == (88, NOW + 10)


def test_less_than_authorized_can_be_captured() -> None:
    state = capture(a_charge(capture=False), amount=500)
    assert (state.amount, state.amount_captured, state.compute_disputable("du_1")) == (2000, 500, 500)


@pytest.mark.parametrize("amount", [0, 2001])
def test_more_than_authorized_cannot_be_captured(amount: int) -> None:
    with pytest.raises(InvalidState) as refused:
        capture(a_charge(capture=False), amount=amount)
    assert refused.value.param == "amount"


def test_a_captured_or_failed_charge_cannot_be_captured() -> None:
    with pytest.raises(InvalidState) as refused:
        capture(a_charge())
    assert refused.value.code == "charge_already_captured"
    with pytest.raises(InvalidState):
        capture(a_charge("tok_chargeDeclined"))


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        ({}, None),
        ({"description": "Two hats"}, None),
        ({"customer": "cus_1"}, {"customer": "cus_1"}),
        ({"customer": None}, None),
        ({"fraud_details": {"user_report": None}}, None),
        ({"fraud_details": {"user_report": "safe"}}, {"fraud_report": "safe"}),
        ({"metadata": {"a": "1"}}, {"metadata": {"a": "1"}}),
        ({"metadata": None}, None),
        ({"description": None, "transfer_group": "g"}, {"description": None, "transfer_group": "g"}),
    ],
)
def test_an_update_records_what_changed(given: dict[str, Any], changes: dict[str, Any] | None) -> None:
    events = charge_decisions.update(a_charge(description="Two hats"), given, now=NOW)
    if changes is None:
        assert events == []
    else:
        assert isinstance(events[0], ChargeUpdated)
        assert events[0].changes == changes


def test_the_customer_of_a_charge_stays() -> None:
    state = a_charge(customer="cus_1")
    assert charge_decisions.update(state, {"customer": "cus_1"}, now=NOW) == []
    with pytest.raises(InvalidState) as refused:
        charge_decisions.update(state, {"customer": "cus_2"}, now=NOW)
    assert refused.value.param == "customer"


def register_charge(**params: Any) -> Charge:
    made = charge_decisions.register(
        charge_id="ch_x",
        account="acct_1",
        livemode=True,
        params={"amount": 10, "currency": "usd", **params},
        txn_id="txn_1",
        now=NOW,
    )
    return charge.evolve(None, made[0])


def test_a_charge_of_another_system_is_registered_unchanged() -> None:
    state = register_charge(
        created=NOW - days(30),
        payment_intent="pi_1",
        payment_method_details={"type": "card", "card": {"brand": "visa"}},
        billing_details={"name": "Ada", "address": {"city": "Berlin"}},
    )
    assert (state.created, state.payment_intent, state.captured) == (NOW - days(30), "pi_1", True)
    assert state.billing_details["name"] == "Ada"
    assert state.billing_details["address"]["line1"] is None
    assert state.balance_transaction is not None
    assert state.balance_transaction["created"] == NOW - days(30)


def test_failed_and_uncaptured_charges_are_registered_too() -> None:
    failed = register_charge(status="failed", failure_code="expired_card")
    assert (failed.status, failed.failure_code, failed.captured) == ("failed", "expired_card", False)
    assert register_charge(captured=False).captured is False


@pytest.mark.parametrize("given", [{"amount": 0}, {"amount": 100_000_000}, {"currency": "zzz"}])
def test_a_registered_charge_needs_an_amount_in_a_currency(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        register_charge(**given)


def test_a_failed_charge_has_a_declined_outcome() -> None:
    assert a_charge("tok_chargeDeclined").outcome["type"] == "issuer_declined"
    assert a_charge("tok_riskLevelElevated").outcome["risk_level"] == "elevated"
    assert ChargeFailed.TOPIC == "charge.failed"


def test_an_authorization_expires_after_seven_days_to_the_second() -> None:
    held = a_charge(capture=False)
    assert charge_decisions.expire(held, now=NOW + days(7) - 1) == []
    (event,) = charge_decisions.expire(held, now=NOW + days(7))
    expired = charge.evolve(held, event)
    assert (expired.expired, expired.captured, expired.amount_refunded) == (True, False, 2000)
    assert charges.render_charge(expired)["refunded"] is True
    assert charge_decisions.expire(expired, now=NOW + days(8)) == []
    with pytest.raises(InvalidState) as refused:
        charge_decisions.capture(expired, {}, txn_id="txn_2", now=NOW)
    assert refused.value.code == "charge_expired_for_capture"


def test_captured_and_declined_charges_never_expire() -> None:
    for charge_ in (a_charge(), a_charge("tok_chargeDeclined")):
        assert charge_decisions.expire(charge_, now=NOW + days(70)) == []
