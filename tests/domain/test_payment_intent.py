"""Decisions on payment intents, alone and driven at random together with their charges (contract §2.12)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger.domain import cards, charge, charge_decisions, payment_intent, payment_intent_decisions
from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.event import DomainEvent
from ledger.domain.payment_intent import PaymentIntent
from ledger.errors import InvalidIntentState, InvalidParameter, InvalidState, UnknownReference
from ledger.store.codec import evolve
from tests.domain.builders import NOW, days, fold

CARDS = ("tok_visa", "tok_chargeDeclined", "tok_createDispute")
UNCONFIRMED = ("requires_payment_method", "requires_confirmation")


def create_intent(**params: Any) -> PaymentIntent:
    token = params.pop("token", "tok_visa")
    card = None if token is None else cards.make_source_card(token, card_id="pm_1", livemode=False)
    events = payment_intent_decisions.create(
        intent_id="pi_1",
        account="acct_1",
        livemode=False,
        params={"amount": 2000, "currency": "USD", **params},
        card=card,
        now=NOW,
    )
    return fold(payment_intent.evolve, events)


def confirm(state: PaymentIntent) -> tuple[Charge, PaymentIntent]:
    charged, outcome = payment_intent_decisions.confirm(state, charge_id="ch_1", txn_id="txn_1", now=NOW)
    return charge.evolve(None, charged), payment_intent.evolve(state, outcome)


def test_a_confirmation_charges_what_the_intent_says() -> None:
    params = {"description": "Hats", "metadata": {"a": "1"}, "receipt_email": "a@b.c", "transfer_group": "g"}
    paid, state = confirm(create_intent(**params))
    assert (state.status, state.amount_received, state.latest_charge) == ("succeeded", 2000, "ch_1")
    assert (paid.amount, paid.currency, paid.captured, paid.payment_intent) == (2000, "usd", True, "pi_1")
    assert {name: getattr(paid, name) for name in params} == params


def test_a_declined_card_is_forgotten_and_its_error_kept_until_the_next_update() -> None:
    failed, state = confirm(create_intent(token="tok_chargeDeclinedExpiredCard"))
    assert (failed.status, state.status, state.card) == ("failed", "requires_payment_method", None)
    assert state.last_payment_error is not None
    assert (state.last_payment_error["code"], state.last_payment_error["charge"]) == ("expired_card", "ch_1")
    with pytest.raises(InvalidIntentState, match="missing a payment method"):
        confirm(state)
    (event,) = payment_intent_decisions.update(state, {"description": "again"}, card=None, now=NOW)
    assert payment_intent.evolve(state, event).last_payment_error is None


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, {"allow_redirects": "always", "enabled": True}),
        ({"automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}},
         {"allow_redirects": "never", "enabled": True}),
        ({"automatic_payment_methods": {"enabled": False}, "payment_method_types": ["card"]}, None),
        ({"allowed_payment_method_types": ["card"]}, None),
    ],
)  # fmt: skip
def test_payment_methods_are_automatic_unless_types_are_named(params: Any, expected: Any) -> None:
    assert create_intent(**params).automatic_payment_methods == expected


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"amount": 49}, "amount"),
        ({"amount": 100_000_000}, "amount"),
        ({"currency": "xxx"}, "currency"),
        ({"metadata": {"k" * 41: "v"}}, f"metadata[{'k' * 41}]"),
        ({"automatic_payment_methods": {"enabled": True}, "payment_method_types": ["card"]},
         "payment_method_types"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused(params: Any, param: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        create_intent(**params)
    assert refusal.value.param == param


def test_test_payment_methods_are_the_test_tokens() -> None:
    def resolve(name: str, *, livemode: bool = False) -> Any:
        params = {"payment_method": name}
        card = payment_intent_decisions.resolve_card(params, None, card_id="pm_1", livemode=livemode)
        return card and card["token"]

    for token in cards.TEST_CARDS:
        assert resolve(f"pm_card_{token.removeprefix('tok_')}") == token
    assert resolve("pm_card_visa_chargeDeclined") == "tok_chargeDeclined"
    with pytest.raises(InvalidParameter, match="3-D Secure"):
        resolve("pm_card_threeDSecure2Required")
    for name, livemode in (
        ("pm_card_visa", True),
        ("pm_card_x", False),
        ("tok_visa", False),
        ("pm_1", False),
    ):
        with pytest.raises(UnknownReference):
            resolve(name, livemode=livemode)


class IntentMachine(RuleBasedStateMachine):
    """One intent and all its charges, changed by every route that can change either."""

    @initialize(manual=st.booleans())
    def create(self, manual: bool) -> None:
        params = {"capture_method": "manual"} if manual else {}
        self.now = NOW
        self.states: dict[str, State] = {"pi_1": create_intent(token=None, **params)}
        self.charge_count = 0

    @property
    def intent(self) -> PaymentIntent:
        state = self.states["pi_1"]
        assert isinstance(state, PaymentIntent)
        return state

    @property
    def newest(self) -> Charge | None:
        state = self.states.get(self.intent.latest_charge or "")
        assert state is None or isinstance(state, Charge)
        return state

    def apply(self, events: list[DomainEvent]) -> None:
        for event in events:
            self.states[event.originator_id] = evolve(self.states.get(event.originator_id), event)

    def follow(self, events: list[DomainEvent]) -> None:
        """Append a change of the newest charge, as the routes of charges do."""
        self.apply(events)
        if events and self.newest is not None:
            self.apply(payment_intent_decisions.follow_charge(self.intent, self.newest, now=self.now))

    @rule(seconds=st.integers(0, days(5)))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(token=st.sampled_from(CARDS))
    def confirm_with(self, token: str) -> None:
        was_confirmed = self.intent.status not in UNCONFIRMED
        card = cards.make_source_card(token, card_id=f"pm_{self.charge_count}", livemode=False)
        try:
            self.apply(payment_intent_decisions.update(self.intent, {}, card=card, now=self.now))
            self.charge_count += 1
            self.apply(
                payment_intent_decisions.confirm(
                    self.intent, charge_id=f"ch_{self.charge_count}", txn_id="txn_1", now=self.now
                )
            )
        except InvalidIntentState:
            assert was_confirmed
        else:
            assert not was_confirmed

    @rule(amount=st.sampled_from([None, 1, 2000, 2001, 0]))
    def capture(self, amount: int | None) -> None:
        status = self.intent.status
        try:
            self.apply(
                payment_intent_decisions.capture(
                    self.intent, self.newest, {"amount_to_capture": amount}, txn_id="txn_2", now=self.now
                )
            )
        except InvalidIntentState:
            assert status != "requires_capture"
        except (InvalidState, InvalidParameter):
            assert status == "requires_capture"
            assert amount in (0, 2001)
        else:
            assert (status, self.intent.amount_received) == ("requires_capture", amount or 2000)

    @rule()
    def cancel(self) -> None:
        status = self.intent.status
        try:
            self.apply(payment_intent_decisions.cancel(self.intent, self.newest, {}, now=self.now))
        except InvalidIntentState:
            assert status in ("succeeded", "canceled")
        else:
            assert self.intent.canceled_at == self.now

    @rule()
    def capture_the_charge(self) -> None:
        if self.newest is not None:
            try:
                self.follow(charge_decisions.capture(self.newest, {}, txn_id="txn_3", now=self.now))
            except InvalidState:
                assert self.intent.status != "requires_capture"

    @rule()
    def expire_the_charge(self) -> None:
        if self.newest is not None:
            self.follow(charge_decisions.expire(self.newest, now=self.now))

    @rule(customer=st.sampled_from(["cus_1", "cus_2"]))
    def give_the_charge_to(self, customer: str) -> None:
        if self.newest is not None and self.newest.customer is None:
            self.follow(charge_decisions.update(self.newest, {"customer": customer}, now=self.now))

    @invariant()
    def intent_and_charges_agree(self) -> None:
        charges = [state for state in self.states.values() if isinstance(state, Charge)]
        live = [each for each in charges if each.status == "succeeded"]
        assert all(each.payment_intent == "pi_1" for each in charges)
        assert len(live) <= 1
        newest, intent = self.newest, self.intent
        assert newest is (charges[-1] if charges else None)
        if intent.status == "requires_capture":
            assert newest is not None
            assert charge_decisions.is_awaiting_capture(newest)
        elif intent.status == "succeeded":
            assert newest is not None
            assert (newest.captured, newest.amount_captured) == (True, intent.amount_received)
        else:
            assert not any(each.captured or charge_decisions.is_awaiting_capture(each) for each in charges)
            assert intent.amount_received == 0
        if intent.is_confirmed and live:
            assert live[0].customer == intent.customer


IntentMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=20)
TestIntentMachine = IntentMachine.TestCase
