"""`expand[]` paths in, a tree or an error out (contract §1.8)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidParameter
from ledger.wire.expansion import (
    EXPANDABLE_FIELDS,
    EXTERNAL_FIELDS,
    READ_RESOURCES,
    collect_read_resources,
    parse_expand,
)

EXPANSION_CASES: list[tuple[str, bool, list[str], dict[str, Any]]] = [
    ("dispute", False, [], {}),
    ("dispute", False, ["charge"], {"charge": {}}),
    ("dispute", False, ["charge.customer", "charge"], {"charge": {"customer": {}}}),
    ("dispute", False, ["charge", "payment_intent"], {"charge": {}, "payment_intent": {}}),
    ("dispute", False, ["evidence.receipt"], {"evidence": {"receipt": {}}}),
    ("dispute", False, ["balance_transactions.source"], {"balance_transactions": {"source": {}}}),
    ("dispute", False, ["evidence", "evidence_details", "balance_transactions"], {}),
    ("dispute", False, ["charge.billing_details"], {"charge": {}}),
    (
        "dispute",
        False,
        ["charge.customer.default_source.customer"],
        {"charge": {"customer": {"default_source": {"customer": {}}}}},
    ),
    ("dispute", True, ["data"], {}),
    ("dispute", True, ["data.charge.balance_transaction"], {"charge": {"balance_transaction": {}}}),
    ("dispute", True, ["data.evidence.receipt"], {"evidence": {"receipt": {}}}),
    ("customer", False, ["sources", "default_source"], {"sources": {}, "default_source": {}}),
    ("customer", False, ["sources.data"], {"sources": {"data": {}}}),
    ("customer", False, ["tax", "cash_balance"], {"tax": {}, "cash_balance": {}}),
    ("customer", True, ["data.subscriptions.data", "data.tax_ids"], {"subscriptions": {}, "tax_ids": {}}),
    ("charge", False, ["payment_method.customer"], {"payment_method": {"customer": {}}}),
    ("payment_method", True, ["data.customer", "data.card"], {"customer": {}}),
    ("charge", False, ["refunds.data.charge"], {"refunds": {"data": {"charge": {}}}}),
    ("charge", False, ["transfer_data.destination"], {"transfer_data": {"destination": {}}}),
    ("customer_session", False, ["customer", "components"], {"customer": {}}),
    ("file", False, ["links.data.file"], {"links": {"data": {"file": {}}}}),
    ("file_link", True, ["data.file.links"], {"file": {"links": {}}}),
    ("event", True, ["data", "data.data", "data.request"], {}),
]  # fmt: skip


@pytest.mark.parametrize(("allowed", "in_list", "paths", "tree"), EXPANSION_CASES)
def test_paths_become_a_tree(allowed: str, in_list: bool, paths: list[str], tree: dict[str, Any]) -> None:
    assert parse_expand(paths, allowed, in_list=in_list) == tree


REFUSED: list[tuple[str, bool, str, str]] = [
    ("dispute", False, "reason", "This property cannot be expanded (reason)."),
    ("dispute", False, "", "This property cannot be expanded ()."),
    ("dispute", False, "charge.", "This property cannot be expanded (charge.)."),
    ("dispute", False, "data.charge", "This property cannot be expanded (data.charge)."),
    ("dispute", False, "charge.amount", "This property cannot be expanded (charge.amount)."),
    (
        "dispute",
        False,
        "payment_intent.amount",
        "This property cannot be expanded (payment_intent.amount).",
    ),
    (
        "dispute",
        False,
        "evidence.customer_name",
        "This property cannot be expanded (evidence.customer_name).",
    ),
    ("customer", False, "subscription", "This property cannot be expanded (subscription)."),
    ("customer", False, "subscriptions.url", "This property cannot be expanded (subscriptions.url)."),
    ("event", False, "data.object", "This property cannot be expanded (data.object)."),
    (
        "dispute",
        True,
        "charge",
        "This property cannot be expanded (charge). You may want to try expanding 'data.charge' instead.",
    ),
    ("dispute", True, "data.reason", "This property cannot be expanded (data.reason)."),
    (
        "dispute",
        False,
        "a.b.c.d.e",
        "You cannot expand more than 4 levels of a property. Property: a.b.c.d.e",
    ),
    (
        "dispute",
        True,
        "data.charge.customer.default_source.customer",
        "You cannot expand more than 4 levels of a property. "
        "Property: data.charge.customer.default_source.customer",
    ),
]


@pytest.mark.parametrize(("allowed", "in_list", "path", "message"), REFUSED)
def test_what_cannot_be_expanded_is_refused(allowed: str, in_list: bool, path: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        parse_expand([path], allowed, in_list=in_list)
    assert (refusal.value.message, refusal.value.code, refusal.value.param) == (message, None, None)


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("balance_transaction", stripe.BalanceTransaction),
        ("card", stripe.Card),
        ("charge", stripe.Charge),
        ("customer", stripe.Customer),
        ("customer_session", stripe.CustomerSession),
        ("dispute", stripe.Dispute),
        ("event", stripe.Event),
        ("file", stripe.File),
        ("file_link", stripe.FileLink),
        ("payment_intent", stripe.PaymentIntent),
        ("payment_method", stripe.PaymentMethod),
        ("refund", stripe.Refund),
    ],
)
def test_every_declared_field_is_one_of_the_sdk(name: str, cls: type) -> None:
    assert set(EXPANDABLE_FIELDS[name]) <= set(cls.__annotations__)


def test_expanding_needs_the_permissions_of_the_objects() -> None:
    def read_resources(allowed: str, *paths: str) -> set[str]:
        return collect_read_resources(parse_expand(paths, allowed, in_list=False), allowed)

    assert read_resources("dispute", "evidence", "payment_method_details") == set()
    assert read_resources("dispute", "charge.customer", "evidence.receipt") == {"charge", "customer", "file"}
    assert read_resources("dispute", "balance_transactions.source") == {"dispute"}
    assert read_resources("charge", "refunds.data.balance_transaction") == {"charge", "balance_transaction"}
    assert read_resources("balance_transaction", "source") == {"charge", "dispute"}
    assert read_resources("refund", "payment_method.customer") == {"payment_method", "customer"}
    for member in ("subscriptions", "tax_ids", "tax", "cash_balance", "sources.data"):
        assert read_resources("customer", member) == {"customer"}
    assert read_resources("charge", "payment_intent", "application") == {"payment_intent", "event"}
    assert read_resources("charge", "review") == {"review"}
    assert read_resources("invoice", "customer", "lines.data.price.product", "parent.quote") == {
        "customer", "price", "product", "quote",
    }  # fmt: skip
    assert set(READ_RESOURCES) <= set(EXPANDABLE_FIELDS)


def test_one_field_names_both_own_and_external_objects() -> None:
    kept = {
        name
        for fields in EXPANDABLE_FIELDS.values()
        for name, kind in fields.items()
        if kind in [*READ_RESOURCES] and kind != "payment_method"  # which is either
    }
    assert {"payment_intent", "default_payment_method", "destination"} <= EXTERNAL_FIELDS
    assert kept & EXTERNAL_FIELDS == {"payment_intent"}  # which `objects` tells apart


@given(
    st.lists(
        st.lists(st.sampled_from(["data", "charge", "customer", "sources", "x", ""]), max_size=6).map(
            ".".join
        )
    ),
    st.sampled_from(sorted(EXPANDABLE_FIELDS)),
    st.booleans(),
)
def test_no_path_raises_anything_else(paths: list[str], allowed: str, in_list: bool) -> None:
    with suppress(InvalidParameter):
        tree = parse_expand(paths, allowed, in_list=in_list)
        assert bool(collect_read_resources(tree, allowed)) is bool(tree)
