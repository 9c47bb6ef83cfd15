"""An array in the query of /v2: numbered as the SDKs write it, or its name once for each item as the Stripe
CLI does."""

from __future__ import annotations

import pytest

from tests.api.service import Caller, ok
from tests.v2.conftest import EVENTS, assert_refused_v2

TWO = ("v1.customer.created", "v1.charge.succeeded")


@pytest.mark.contract("10.1 arrays")
@pytest.mark.parametrize(
    "query",
    ["types[0]={}&types[1]={}", "types={}&types={}", "types[]={}&types={}"],
    ids=["numbered", "repeated", "mixed"],
)
def test_all_spellings_of_an_array_are_read(query: str, raw: Caller) -> None:
    customer = raw.customer()
    raw.charge()
    ok(raw.delete(f"/v1/customers/{customer['id']}"))
    raw.events()  # waits until they are listed
    listed = ok(raw.get(f"{EVENTS}?{query.format(*TWO)}"))["data"]
    assert [event["type"] for event in listed] == [TWO[1], TWO[0]]
    assert len(ok(raw.get(f"{EVENTS}?types={TWO[0]}"))["data"]) == 1


@pytest.mark.contract("10.1 arrays")
def test_an_item_without_brackets_is_checked_too(raw: Caller) -> None:
    refused = raw.get(f"{EVENTS}?types=v1.charge.capture")
    assert_refused_v2(refused, param="types[0]", message="v1.charge.captured")


def test_only_arrays_may_be_repeated_so(raw: Caller) -> None:
    """Of any other name the last one counts, as under /v1."""
    for _ in range(2):
        raw.customer()
    raw.events()
    assert len(ok(raw.get(f"{EVENTS}?limit=2&limit=1"))["data"]) == 1
