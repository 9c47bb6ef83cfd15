"""Lists and their pages (contract §1.7)."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.api.service import Caller, assert_refused, ok


def _ids(page: Any) -> list[str]:
    return [each["id"] for each in page["data"]]


@pytest.fixture
def made(raw: Caller) -> list[str]:
    """Twelve customers, newest first."""
    return [raw.customer(name=str(number))["id"] for number in range(12)][::-1]


def test_a_list_has_these_keys_and_is_newest_first(raw: Caller, made: list[str]) -> None:
    page = ok(raw.get("/v1/customers?limit=3"))
    assert set(page) == {"object", "url", "has_more", "data"}
    assert (page["object"], page["url"], page["has_more"]) == ("list", "/v1/customers", True)
    assert _ids(page) == made[:3]


def test_a_page_has_ten_by_default(raw: Caller, made: list[str]) -> None:
    assert _ids(ok(raw.get("/v1/customers"))) == made[:10]


@pytest.mark.parametrize(
    ("limit", "length"),
    [("0", 1), ("-1", 1), ("-9999999999999999999999", 1), ("1", 1), ("100", 12), ("101", 12), ("9" * 40, 12)],
)
def test_a_limit_out_of_range_is_clamped(raw: Caller, made: list[str], limit: str, length: int) -> None:
    assert _ids(ok(raw.get(f"/v1/customers?limit={limit}"))) == made[:length]


def test_a_page_has_at_most_a_hundred(raw: Caller) -> None:
    for _ in range(101):
        raw.customer()
    page = ok(raw.get("/v1/customers?limit=101"))
    assert (len(page["data"]), page["has_more"]) == (100, True)


def test_starting_after_goes_to_older_ones(raw: Caller, made: list[str]) -> None:
    page = ok(raw.get(f"/v1/customers?limit=4&starting_after={made[3]}"))
    assert (_ids(page), page["has_more"]) == (made[4:8], True)
    page = ok(raw.get(f"/v1/customers?limit=4&starting_after={made[7]}"))
    assert (_ids(page), page["has_more"]) == (made[8:12], False)
    page = ok(raw.get(f"/v1/customers?starting_after={made[11]}"))
    assert (_ids(page), page["has_more"]) == ([], False)


def test_ending_before_goes_to_newer_ones_and_the_page_is_still_newest_first(
    raw: Caller, made: list[str]
) -> None:
    page = ok(raw.get(f"/v1/customers?limit=4&ending_before={made[8]}"))
    assert (_ids(page), page["has_more"]) == (made[4:8], True)
    page = ok(raw.get(f"/v1/customers?limit=4&ending_before={made[4]}"))
    assert (_ids(page), page["has_more"]) == (made[:4], False)
    page = ok(raw.get(f"/v1/customers?ending_before={made[0]}"))
    assert (_ids(page), page["has_more"]) == ([], False)


def test_objects_created_while_paging_neither_repeat_nor_hide_older_ones(
    raw: Caller, made: list[str]
) -> None:
    seen = _ids(ok(raw.get("/v1/customers?limit=5")))
    while True:
        raw.customer(name="meanwhile")
        page = ok(raw.get(f"/v1/customers?limit=5&starting_after={seen[-1]}"))
        seen += _ids(page)
        if not page["has_more"]:
            break
    assert seen == made


def test_a_cursor_need_not_match_the_filters_and_may_be_deleted(raw: Caller) -> None:
    wanted = [raw.customer(email="a@b.c")["id"] for _ in range(2)]
    other = raw.customer(email="x@y.z")["id"]
    wanted.append(raw.customer(email="a@b.c")["id"])
    assert _ids(ok(raw.get(f"/v1/customers?email=a@b.c&starting_after={other}"))) == wanted[:2][::-1]
    assert _ids(ok(raw.get(f"/v1/customers?email=a@b.c&ending_before={other}"))) == wanted[2:]
    raw.delete(f"/v1/customers/{other}")
    assert _ids(ok(raw.get(f"/v1/customers?starting_after={other}"))) == wanted[:2][::-1]


def test_filters_by_time(raw: Caller, made: list[str]) -> None:
    times = [each["created"] for each in ok(raw.get("/v1/customers?limit=100"))["data"]]
    first, last = min(times), max(times)

    def count(query: str) -> int:
        return len(ok(raw.get(f"/v1/customers?limit=100&{query}"))["data"])

    assert count(f"created[gte]={first}") == count(f"created[lte]={last}") == 12
    assert count(f"created[gt]={last}") == count(f"created[lt]={first}") == 0
    assert count(f"created[gte]={first}&created[lte]={last}") == 12
    assert count(f"created[gt]={first - 1}&created[lt]={last + 1}") == 12
    assert sum(count(f"created={second}") for second in range(first, last + 1)) == 12
    assert count(f"created={first - 1}") == 0
    assert count(f"created[gte]={-(2**63 - 1)}&created[lte]={2**63 - 1}") == 12
    assert count(f"created%5Bgte%5D={first}") == 12


def test_charges_and_disputes_are_filtered_by_what_they_belong_to(raw: Caller) -> None:
    customer = raw.customer(source="tok_createDispute")["id"]
    of_customer = ok(
        raw.post(
            "/v1/charges", {"amount": 2000, "currency": "usd", "customer": customer, "transfer_group": "g"}
        )
    )["id"]
    other = raw.charge("tok_createMultipleDisputes")["id"]
    assert _ids(ok(raw.get("/v1/charges"))) == [other, of_customer]
    assert _ids(ok(raw.get(f"/v1/charges?customer={customer}"))) == [of_customer]
    assert _ids(ok(raw.get("/v1/charges?transfer_group=g"))) == [of_customer]
    assert ok(raw.get("/v1/charges?transfer_group=h"))["data"] == []
    assert_refused(
        raw.get("/v1/charges?payment_intent=pi_x"), code="resource_missing", param="payment_intent"
    )
    disputes = ok(raw.get(f"/v1/disputes?charge={other}"))["data"]
    assert [each["charge"] for each in disputes] == [other, other]
    assert len(ok(raw.get("/v1/disputes"))["data"]) == 3


def test_lists_show_what_was_just_written(raw: Caller) -> None:
    customer = raw.customer(name="0")["id"]
    for number in range(1, 20):
        raw.post(f"/v1/customers/{customer}", f"name={number}")
        assert ok(raw.get("/v1/customers"))["data"][0]["name"] == str(number)


def test_an_object_in_a_list_is_as_it_is_retrieved(raw: Caller) -> None:
    raw.dispute(**{"metadata[a]": "1", "description": "d"})
    raw.customer(source="tok_visa", **{"address[city]": "B"})
    raw.refund(**{"metadata[a]": "1"})
    for kind in ("customers", "charges", "disputes", "refunds", "balance_transactions", "events"):
        for listed in ok(raw.get(f"/v1/{kind}"))["data"]:
            assert ok(raw.get(f"/v1/{kind}/{listed['id']}")) == listed


def test_the_client_pages_forward_and_backward(client: stripe.StripeClient, made: list[str]) -> None:
    forward = [each.id for each in client.v1.customers.list({"limit": 5}).auto_paging_iter()]
    assert forward == made
    backward = client.v1.customers.list({"limit": 5, "ending_before": made[-1]})
    assert [each.id for each in backward.auto_paging_iter()] == made[:-1][::-1]
    second = client.v1.customers.list({"limit": 5}).next_page()
    assert [each.id for each in second] == made[5:10]
    newer = client.v1.customers.list({"limit": 5, "ending_before": made[10]})
    assert [each.id for each in newer] == made[5:10]
    assert [each.id for each in newer.previous_page()] == made[:5]


def test_charges_of_a_deleted_customer_are_still_listed_by_it(raw: Caller) -> None:
    customer = raw.customer(source="tok_visa")["id"]
    charge = ok(raw.post("/v1/charges", {"amount": 100, "currency": "usd", "customer": customer}))
    ok(raw.delete(f"/v1/customers/{customer}"))
    assert ok(raw.get(f"/v1/charges?customer={customer}"))["data"] == [charge]
    naming = {"amount": 100, "currency": "usd", "source": "tok_visa", "customer": customer}
    assert_refused(raw.post("/v1/charges", naming), code="resource_missing", param="customer")
    assert_refused(raw.get("/v1/charges?customer=cus_x"), code="resource_missing", param="customer")
