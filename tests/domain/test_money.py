"""Currencies, fees and double entries."""

from __future__ import annotations

import pytest

from ledger.domain import charge, charge_decisions, dispute, money
from ledger.domain.charge import ChargeRefunded
from ledger.domain.money import Movement, Terms
from ledger.domain.postings import derive_postings, get_balance_transaction
from ledger.errors import InvalidParameter
from tests.domain.builders import (
    DUE_BY,
    NOW,
    a_charge,
    a_dispute,
    fold,
    open_a_dispute,
    register_charge,
    report_fact,
)


@pytest.mark.parametrize(
    ("amount", "currency", "fee"),
    [
        (2000, "usd", 88),
        (50, "usd", 31),
        (17, "usd", 30),
        (18, "usd", 31),
        (2000, "eur", 83),
        (1000, "jpy", 69),
    ],
)
def test_processing_fee_is_rounded_half_up(amount: int, currency: str, fee: int) -> None:
    assert money.compute_processing_fee(amount, currency) == fee


@pytest.mark.parametrize("currency", sorted(money.CURRENCIES))
def test_every_currency_has_positive_fees(currency: str) -> None:
    assert money.compute_processing_fee(1, currency) > 0
    assert Terms().get_dispute_fee(currency) > 0


def test_dispute_fee_can_be_set_per_currency() -> None:
    assert Terms().get_dispute_fee("usd") == 1500
    assert Terms(dispute_fees={"usd": 0}).get_dispute_fee("usd") == 0
    assert Terms(dispute_fees={"usd": 0}).get_dispute_fee("eur") == 2000
    assert Terms().get_dispute_fee("kwd") == 15_000


def test_evidence_is_due_at_the_end_of_a_day() -> None:
    assert Terms().compute_due_by(NOW) == DUE_BY
    assert (DUE_BY + 1) % money.DAY_SECONDS == 0


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (4000, "usd", "$40.00"),
        (99_999_999, "usd", "$999,999.99"),
        (-5, "usd", "-$0.05"),
        (500, "jpy", "¥500"),
        (1234, "kwd", "1.234 kwd"),
        (4000, "sek", "40.00 sek"),
    ],
)
def test_amounts_are_formatted_in_their_currency(amount: int, currency: str, shown: str) -> None:
    assert money.format_amount(amount, currency) == shown


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (50, "usd", None),
        (49, "usd", "amount_too_small"),
        (0, "usd", "amount_too_small"),
        (-1, "pen", "amount_too_small"),
        (50, "jpy", None),
        (49, "jpy", "amount_too_small"),
        (99_999_999, "usd", None),
        (100_000_000, "usd", "amount_too_large"),
    ],
)
def test_charge_amounts_have_bounds(amount: int, currency: str, code: str | None) -> None:
    if code is None:
        money.check_charge_amount(amount, currency)
        return
    with pytest.raises(InvalidParameter) as refused:
        money.check_charge_amount(amount, currency)
    assert (refused.value.code, refused.value.param) == (code, "amount")


def test_unknown_currency_is_refused() -> None:
    with pytest.raises(InvalidParameter) as refused:
        money.check_currency("xyz")
    assert refused.value.param == "currency"


def test_funds_are_available_at_the_second_midnight_unless_at_once() -> None:
    assert money.compute_available_on(NOW, False) == 1_700_092_800
    assert money.compute_available_on(NOW, True) == NOW


def test_money_of_a_charge_is_posted() -> None:
    made = charge_decisions.register(
        charge_id="ch_1",
        account="acct_1",
        livemode=False,
        params={"amount": 2000, "currency": "usd"},
        txn_id="txn_1",
        now=NOW,
    )
    assert [tuple(posting) for posting in derive_postings(made[0])] == [
        ("network", "usd", 2000),
        ("merchant_balance", "usd", -1912),
        ("processing_fees", "usd", -88),
    ]


def test_money_of_a_dispute_is_posted() -> None:
    assert [tuple(posting) for posting in derive_postings(open_a_dispute()[0])] == [
        ("network", "usd", -2000),
        ("merchant_balance", "usd", 3500),
        ("dispute_fees", "usd", -1500),
    ]
    won = report_fact(a_dispute("under_review"), "won")
    assert [tuple(posting) for posting in derive_postings(won[0])] == [
        ("network", "usd", 2000),
        ("merchant_balance", "usd", -2000),
    ]


def test_events_without_money_have_no_postings() -> None:
    state = a_charge(capture=False)
    assert derive_postings(charge_decisions.update(state, {"description": "x"}, now=NOW)[0]) == []
    assert derive_postings(open_a_dispute("inquiry")[0]) == []


@pytest.mark.parametrize(
    ("currency", "step"),
    [("isk", 100), ("ugx", 100), *((name, 10) for name in ("bhd", "jod", "kwd", "omr", "tnd")), ("usd", 1)],
)
def test_amounts_of_a_currency_are_multiples_of_its_step(currency: str, step: int) -> None:
    money.check_divisible(20 * step, currency)
    assert money.compute_processing_fee(2300, currency) % step == 0
    assert money.compute_processing_fee(2300, currency) > 0
    assert Terms().get_dispute_fee(currency) % step == 0
    for part_count in (1, 2, 3):
        parts = money.split_amount(11 * step, part_count, currency)
        assert (len(parts), sum(parts)) == (part_count, 11 * step)
        assert all(part > 0 and part % step == 0 for part in parts)
    assert money.split_amount(step, 2, currency) == [step]
    if step > 1:
        for decide in (a_charge, register_charge):
            with pytest.raises(InvalidParameter) as refused:
                decide(amount=10_001, currency=currency)
            assert refused.value.param == "amount"
            assert f"must be divisible by {step}" in refused.value.message
        authorized = a_charge(amount=10_000, currency=currency, capture=False)
        with pytest.raises(InvalidParameter):
            charge_decisions.capture(authorized, {"amount": 5_001}, txn_id="txn_1", now=NOW)


def test_balance_transaction_of_a_refund() -> None:
    state = a_charge(description="Two hats")
    movement = Movement(id="txn_2", amount=-500, fee=0, currency="usd", created=NOW, available_on=NOW)
    event = ChargeRefunded(
        originator_id="ch_1", originator_version=2, at=NOW, refund="re_1", movement=movement
    )
    state = charge.evolve(state, event)
    transaction = get_balance_transaction(event, state)
    assert transaction is not None
    assert transaction["description"] == "REFUND FOR CHARGE (Two hats)"
    assert (transaction["type"], transaction["source"]) == ("refund", "re_1")
    assert (state.amount_refunded, state.compute_disputable("du_1")) == (500, 2000)
    assert sum(posting.amount for posting in derive_postings(event)) == 0


def test_balance_transaction_of_a_dispute_is_the_latest() -> None:
    before = a_dispute("under_review")
    event = report_fact(before, "won")[0]
    state = dispute.evolve(before, event)
    assert get_balance_transaction(event, state) == state.balance_transactions[1]
    assert (
        get_balance_transaction(open_a_dispute("inquiry")[0], fold(dispute.evolve, open_a_dispute("inquiry")))
        is None
    )
