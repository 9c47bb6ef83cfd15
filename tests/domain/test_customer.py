"""Customers: decisions in the form given, when, then."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain import customer
from ledger.domain.customer import Customer, CustomerDeleted, CustomerUpdated
from ledger.errors import CardError, UnknownObject, UnknownReference
from tests.domain.builders import NOW, a_customer


def update(state: Customer, **given: Any) -> dict[str, Any]:
    """The changes that an update makes; {} if nothing happened."""
    events = customer.update(state, given, card_id="card_2", now=NOW)
    if not events:
        return {}
    assert isinstance(events[0], CustomerUpdated)
    assert events[0].changes
    return events[0].changes


def test_a_new_customer_has_the_contracts_defaults() -> None:
    state = a_customer()
    assert (state.version, state.created, state.deleted) == (1, NOW, False)
    assert (state.balance, state.next_invoice_sequence, state.tax_exempt) == (0, 1, "none")
    assert (state.metadata, state.preferred_locales, state.sources) == ({}, [], [])
    assert (state.name, state.email, state.address, state.default_source) == (None,) * 4
    assert state.invoice_prefix.isalnum()
    assert state.invoice_prefix == state.invoice_prefix.upper()
    assert len(state.invoice_prefix) == 8


def test_a_new_customer_has_the_given_fields() -> None:
    state = a_customer(
        name="Ada", balance=-5, metadata={"a": "1", "b": ""}, address={"city": "Berlin"}, invoice_prefix="ABC"
    )
    assert (state.name, state.balance, state.metadata) == ("Ada", -5, {"a": "1"})
    assert state.address is not None
    assert state.address["city"] == "Berlin"
    assert state.address["line1"] is None
    assert state.invoice_prefix == "ABC"


ADA = {"name": "Ada", "metadata": {"a": "1"}, "address": {"city": "Berlin"}, "balance": 7}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"name": "Ada"},
        {"metadata": {"a": "1"}},
        {"metadata": {"missing": ""}},
        {"address": {"city": "Berlin"}},
        {"email": None},
        {"preferred_locales": None},
        {"invoice_settings": {"footer": None}},
    ],
)
def test_an_update_without_changes_makes_no_event(given: dict[str, Any]) -> None:
    assert update(a_customer(**ADA), **given) == {}


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        ({"name": "Bob"}, {"name": "Bob"}),
        ({"name": None}, {"name": None}),
        ({"name": "Ada", "email": "a@b.c"}, {"email": "a@b.c"}),
        ({"metadata": {"b": "2"}}, {"metadata": {"a": "1", "b": "2"}}),
        ({"metadata": None}, {"metadata": {}}),
        ({"address": None}, {"address": None}),
        ({"balance": None}, {"balance": 0}),
        ({"tax_exempt": "exempt"}, {"tax_exempt": "exempt"}),
    ],
)
def test_only_what_visibly_changed_is_recorded(given: dict[str, Any], changes: dict[str, Any]) -> None:
    assert update(a_customer(**ADA), **given) == changes


def test_invoice_settings_merge() -> None:
    state = a_customer(invoice_settings={"footer": "Thanks"})
    changes = update(state, invoice_settings={"rendering_options": {"template": "t"}})
    assert changes["invoice_settings"] == {
        "custom_fields": None,
        "default_payment_method": None,
        "footer": "Thanks",
        "rendering_options": {"amount_tax_display": None, "template": "t"},
    }


def test_a_source_becomes_the_default() -> None:
    state = a_customer(source="tok_visa")
    assert state.default_source == "card_1"
    events = customer.update(state, {"source": "tok_mastercard"}, card_id="card_2", now=NOW)
    state = customer.evolve(state, events[0])
    assert state.default_source == "card_2"
    assert [card["last4"] for card in state.sources] == ["4242", "4444"]
    assert update(state, default_source="card_1") == {"default_source": "card_1"}
    assert update(state, default_source="card_2") == {}


def test_the_default_source_must_be_a_card_of_the_customer() -> None:
    with pytest.raises(UnknownReference) as refused:
        update(a_customer(), default_source="card_9")
    assert (refused.value.code, refused.value.param) == ("resource_missing", "default_source")


def test_a_declining_card_cannot_be_attached_except_the_one_that_fails_later() -> None:
    with pytest.raises(CardError) as refused:
        a_customer(source="tok_chargeDeclinedExpiredCard")
    assert refused.value.code == "expired_card"
    assert a_customer(source="tok_chargeCustomerFail").default_source == "card_1"


def test_test_tokens_do_not_exist_in_live_mode() -> None:
    with pytest.raises(UnknownReference) as refused:
        customer.create(
            customer_id="cus_1",
            account="acct_1",
            livemode=True,
            params={"source": "tok_visa"},
            card_id="card_1",
            now=NOW,
        )
    assert refused.value.message == "No such token: 'tok_visa'"
    assert (refused.value.code, refused.value.param) == ("resource_missing", "source")


def test_a_deleted_customer_keeps_its_last_state_and_refuses_changes() -> None:
    state = a_customer(name="Ada")
    events = customer.delete(state, now=NOW + 1)
    assert isinstance(events[0], CustomerDeleted)
    state = customer.evolve(state, events[0])
    assert (state.deleted, state.name, state.version) == (True, "Ada", 2)
    for again in (
        lambda: customer.delete(state, now=NOW),
        lambda: customer.update(state, {"name": "x"}, card_id="card_2", now=NOW),
    ):
        with pytest.raises(UnknownObject) as refused:
            again()
        assert refused.value.message == "No such customer: 'cus_1'"
