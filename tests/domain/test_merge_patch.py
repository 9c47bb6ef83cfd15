"""How the metadata and hashes of an update merge into the current ones."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain import merge_patch
from ledger.errors import InvalidParameter

MERGES: list[tuple[dict[str, str], dict[str, str | None] | None, dict[str, str]]] = [
    ({}, {}, {}),
    ({}, {"a": "1"}, {"a": "1"}),
    ({"a": "1"}, {"b": "2"}, {"a": "1", "b": "2"}),
    ({"a": "1"}, {"a": "2"}, {"a": "2"}),
    ({"a": "1", "b": "2"}, {"a": ""}, {"b": "2"}),
    ({"a": "1", "b": "2"}, {"a": None}, {"b": "2"}),
    ({"a": "1"}, {"missing": ""}, {"a": "1"}),
    ({"a": "1"}, None, {}),
]


@pytest.mark.parametrize(("current", "given", "after"), MERGES)
def test_metadata_merges(
    current: dict[str, str], given: dict[str, str | None] | None, after: dict[str, str]
) -> None:
    kept = dict(current)
    assert merge_patch.merge_metadata(current, given) == after
    assert current == kept


FIFTY = {f"k{number}": "v" for number in range(50)}


@pytest.mark.parametrize(
    ("current", "given", "param"),
    [
        (FIFTY, {"one_more": "v"}, "metadata"),
        ({}, {"k" * 41: "v"}, f"metadata[{'k' * 41}]"),
        ({}, {"": "v"}, "metadata[]"),
        ({}, {"a[b": "v"}, "metadata[a[b]"),
        ({}, {"a": "v" * 501}, "metadata[a]"),
    ],
)
def test_metadata_has_limits(current: dict[str, str], given: dict[str, str | None], param: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        merge_patch.merge_metadata(current, given)
    assert refused.value.param == param


def test_the_limit_counts_after_the_merge() -> None:
    assert len(merge_patch.merge_metadata(FIFTY, {"k0": "", "one_more": "v"})) == 50
    assert len(merge_patch.merge_metadata({}, {"k" * 40: "v" * 500})) == 1


ADDRESS: dict[str, Any] = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))


def test_an_address_has_all_members_and_merges_by_member() -> None:
    first = merge_patch.merge_address(None, {"city": "Berlin"})
    assert first == ADDRESS | {"city": "Berlin"}
    assert merge_patch.merge_address(first, {"line1": "Main"}) == ADDRESS | {
        "city": "Berlin",
        "line1": "Main",
    }
    assert merge_patch.merge_address(first, {"city": None}) == ADDRESS
    assert merge_patch.merge_address(first, None) is None


def test_the_address_in_shipping_merges_too() -> None:
    first = merge_patch.merge_shipping(
        None, {"name": "Ada", "address": {"city": "Berlin"}}, with_carrier=False
    )
    assert first == {"name": "Ada", "phone": None, "address": ADDRESS | {"city": "Berlin"}}
    second = merge_patch.merge_shipping(
        first, {"phone": "1", "address": {"line1": "Main"}}, with_carrier=False
    )
    assert second == {"name": "Ada", "phone": "1", "address": ADDRESS | {"city": "Berlin", "line1": "Main"}}


def test_shipping_of_a_charge_has_a_carrier() -> None:
    shipping = merge_patch.merge_shipping(None, {"name": "Ada", "carrier": "DHL"}, with_carrier=True)
    assert shipping is not None
    assert (shipping["carrier"], shipping["tracking_number"]) == ("DHL", None)
