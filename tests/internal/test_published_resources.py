"""What other services publish, read by anyone's SDK at the routes of its type (contract §2.13)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import stripe

from ledger.wire.published_types import PUBLISHED_TYPES
from tests.api.conftest import live  # noqa: F401  # a fixture
from tests.api.service import Account, Caller, Registrar, Service, assert_refused, create_client, ok
from tests.internal.conftest import InternalClient

# ruff: noqa: F811

EVENT_TYPES = {
    "customer_balance_transaction": "product.created",
    "checkout.session": "checkout.session.completed",
    "subscription": "customer.subscription.created",
    "tax_id": "customer.tax_id.created",
    "subscription_item": "product.created",
}


def publish(
    operator: InternalClient, object_type: str, members: Mapping[str, Any], *, named: str | None = None
) -> Any:
    """The object that the API now shows: published as a new one, or under the id `named`."""
    named = named or f"x_{uuid.uuid4().hex}"
    event_type = EVENT_TYPES.get(object_type, f"{object_type}.created")
    ok(
        operator.call(
            "PUT", f"/resources/{object_type}/{named}", {"event_type": event_type, "object": dict(members)}
        )
    )
    return {"id": named, "object": object_type, **members}


def delete(operator: InternalClient, object_type: str, named: str, event_type: str | None = None) -> None:
    body = {"event_type": event_type} if event_type else None
    ok(operator.call("DELETE", f"/resources/{object_type}/{named}", body))


def list_ids(raw: Caller, path: str) -> list[str]:
    return [each["id"] for each in ok(raw.get(path))["data"]]


@pytest.mark.contract("2.13 retrieve", "2.13 list")
def test_a_published_invoice_is_retrieved_and_listed_as_published(
    operator: InternalClient, client: stripe.StripeClient, raw: Caller
) -> None:
    odd = {"total": 1.5, "name": "Zoë “Ada” \u2028", "created": 1_700_000_000, "lines": {"data": [1, None]}}
    invoice = publish(operator, "invoice", odd)
    newer = publish(operator, "invoice", {"livemode": False, "status": "open"})
    alone = raw.get(f"/v1/invoices/{invoice['id']}")
    assert ok(alone) == invoice
    assert alone.text in raw.get("/v1/invoices").text
    read = client.v1.invoices.retrieve(newer["id"])
    assert isinstance(read, stripe.Invoice)
    assert read.status == "open"
    assert [each.id for each in client.v1.invoices.list()] == [newer["id"], invoice["id"]]
    publish(operator, "invoice", {"status": "paid"}, named=newer["id"])
    assert client.v1.invoices.retrieve(newer["id"]).status == "paid"
    assert client.v1.invoices.list().data[0].status == "paid"


def test_a_dotted_type_has_its_path(operator: InternalClient, client: stripe.StripeClient) -> None:
    session = publish(operator, "checkout.session", {"status": "complete"})
    assert client.v1.checkout.sessions.retrieve(session["id"]).status == "complete"
    assert [each.id for each in client.v1.checkout.sessions.list()] == [session["id"]]
    warning = publish(operator, "radar.early_fraud_warning", {"actionable": True, "charge": "ch_x"})
    assert client.v1.radar.early_fraud_warnings.list({"charge": "ch_x"}).data[0].id == warning["id"]
    assert client.v1.radar.early_fraud_warnings.list({"charge": "ch_y"}).data == []


@pytest.mark.contract("2.13 nobody published", "2.13 unknown id", "2.13 POST")
@pytest.mark.parametrize("row", [row for row in PUBLISHED_TYPES if row.path], ids=lambda row: row.object_type)
def test_a_type_that_nobody_published_lists_empty_and_takes_no_writes(raw: Caller, row: Any) -> None:
    if row.lists:
        required = "&".join(f"{each.name}=x" for each in row.filters if each.required)
        page = ok(raw.get(f"{row.url}?limit=100&{required}"))
        assert page == {"object": "list", "data": [], "has_more": False, "url": row.url}
    error = assert_refused(raw.get(f"{row.url}/x_1"), 404, code="resource_missing", param="id")
    assert error["message"] == f"No such {row.object_type}: 'x_1'"
    for method, path in (("POST", row.url), ("POST", f"{row.url}/x_1"), ("DELETE", f"{row.url}/x_1")):
        error = assert_refused(raw.call(method, path), 404)
        assert error["message"].startswith(f"Unrecognized request URL ({method}: {path}).")


@pytest.mark.contract("2.13 created")
def test_lists_are_in_the_order_of_the_objects_own_times(operator: InternalClient, raw: Caller) -> None:
    before = int(time.time()) - 5
    times = [1_700_000_000, 1_600_000_000, 1_800_000_000 - 10**9]
    old = [publish(operator, "product", {"created": each})["id"] for each in times]
    others = [publish(operator, "product", {"created": each})["id"] for each in (None, "1", -1, 2**60, True)]
    found = list_ids(raw, "/v1/products")
    assert found == [*reversed(others), old[0], old[1], old[2]]
    assert list_ids(raw, "/v1/products?created=1700000000") == [old[0]]
    assert list_ids(raw, f"/v1/products?created[gte]={before}") == found[:5]
    assert list_ids(raw, "/v1/products?created[gt]=1600000000&created[lt]=1700000001") == [old[0]]
    assert list_ids(raw, f"/v1/products?limit=2&starting_after={found[1]}") == found[2:4]
    assert list_ids(raw, f"/v1/products?limit=2&ending_before={found[3]}") == found[1:3]
    publish(operator, "product", {"created": 1_500_000_000 - 10**9}, named=old[0])
    assert list_ids(raw, "/v1/products?limit=100")[-1] == old[0]


@pytest.mark.contract("2.13 filters")
def test_lists_are_filtered_by_members(operator: InternalClient, client: stripe.StripeClient) -> None:
    first = publish(operator, "invoice", {"customer": "cus_1", "status": "open", "subscription": "sub_1"})
    parent = {"subscription_details": {"subscription": "sub_1"}}
    second = publish(
        operator, "invoice", {"customer": {"id": "cus_1", "name": "J"}, "status": "paid", "parent": parent}
    )
    publish(operator, "invoice", {"customer": "cus_2", "status": "paid"})

    def list_invoices(**filters: Any) -> list[str]:
        return [each.id for each in client.v1.invoices.list(filters)]  # type: ignore[arg-type]

    assert list_invoices(customer="cus_1") == [second["id"], first["id"]]
    assert list_invoices(customer="cus_1", status="paid") == [second["id"]]
    assert list_invoices(subscription="sub_1") == [second["id"], first["id"]]
    assert list_invoices(status="void") == []
    product = publish(operator, "product", {"active": True})
    active = publish(operator, "price", {"active": True, "product": product, "currency": "usd"})
    publish(operator, "price", {"active": False, "product": "prod_2", "currency": "usd"})
    assert [each.id for each in client.v1.prices.list({"active": True})] == [active["id"]]
    assert [each.id for each in client.v1.prices.list({"product": product["id"]})] == [active["id"]]
    assert len(client.v1.prices.list({"currency": "usd"}).data) == 2
    assert client.v1.prices.list({"currency": 'usd"'}).data == []
    item = publish(operator, "subscription_item", {"subscription": "sub_1"})
    assert [each.id for each in client.v1.subscription_items.list({"subscription": "sub_1"})] == [item["id"]]


@pytest.mark.contract("2.13 subscriptions")
def test_subscriptions_are_listed_as_stripe_does_by_status(
    operator: InternalClient, client: stripe.StripeClient
) -> None:
    ids = {
        status: publish(operator, "subscription", {"status": status, "customer": "cus_1"})["id"]
        for status in ("active", "canceled", "incomplete_expired")
    }

    def statuses(**filters: Any) -> list[str]:
        listed = client.v1.subscriptions.list({"limit": 100, **filters})  # type: ignore[arg-type]
        return [each.status for each in listed]

    assert statuses() == ["incomplete_expired", "active"]
    assert statuses(status="all") == ["incomplete_expired", "canceled", "active"]
    assert statuses(status="ended") == ["incomplete_expired", "canceled"]
    assert statuses(status="canceled", customer="cus_1") == ["canceled"]
    assert statuses(status="past_due") == []
    found = client.v1.subscriptions.retrieve(ids["canceled"])
    assert found.status == "canceled"


@pytest.mark.contract("2.13 refused filters")
def test_bad_parameters_are_refused_by_name(operator: InternalClient, raw: Caller) -> None:
    invoice = publish(operator, "invoice", {})["id"]
    quote = publish(operator, "quote", {})["id"]
    refusals = [
        ("/v1/invoices?nope=1", "parameter_unknown", "nope"),
        ("/v1/invoices?due_date[gt]=1", None, "due_date"),
        ("/v1/prices?lookup_keys[0]=a", None, "lookup_keys"),
        ("/v1/products?active=maybe", None, "active"),
        ("/v1/invoices?customer=", "parameter_invalid_empty", "customer"),
        ("/v1/invoices?created[x]=1", "parameter_unknown", "created[x]"),
        ("/v1/subscription_items", "parameter_missing", "subscription"),
        (f"/v1/invoices/{invoice}?limit=1", "parameter_unknown", "limit"),
        ("/v1/invoices?expand[]=customer", None, None),
        ("/v1/invoices?expand[]=data.a.b.c.d", None, None),
        (f"/v1/invoices?starting_after={quote}", "resource_missing", "starting_after"),
        ("/v1/invoices?ending_before=in_x", "resource_missing", "ending_before"),
        (f"/v1/invoices/{invoice}/lines?starting_after=il_x", "resource_missing", "starting_after"),
    ]
    for path, code, param in refusals:
        assert_refused(raw.get(path), code=code, param=param)
    for path in (f"/v1/invoices/{quote}", f"/v1/quotes/{invoice}", f"/v1/products/{invoice}"):
        assert_refused(raw.get(path), 404, code="resource_missing", param="id")
    assert_refused(raw.get("/v1/invoices/search?query=a"), 404)


@pytest.mark.contract("2.13 deleted")
def test_a_deleted_object_is_a_stub_or_missing_and_in_no_list(
    operator: InternalClient, client: stripe.StripeClient, raw: Caller
) -> None:
    older, product = (publish(operator, "product", {})["id"] for _ in range(2))
    delete(operator, "product", product)
    assert ok(raw.get(f"/v1/products/{product}")) == {"id": product, "object": "product", "deleted": True}
    assert client.v1.products.retrieve(product).deleted is True
    assert list_ids(raw, "/v1/products") == [older]
    assert list_ids(raw, f"/v1/products?starting_after={product}") == [older]
    assert_refused(raw.get(f"/v1/products/{product}/features"), 404, code="resource_missing", param="id")
    payout = publish(operator, "topup", {})["id"]
    delete(operator, "topup", payout, "product.deleted")
    assert_refused(raw.get(f"/v1/topups/{payout}"), 404, code="resource_missing", param="id")
    publish(operator, "product", {"name": "back"}, named=product)
    assert client.v1.products.retrieve(product).name == "back"
    assert list_ids(raw, "/v1/products") == [product, older]


@pytest.mark.contract("2.13 parts")
def test_the_lists_in_an_object_have_pages(
    operator: InternalClient, client: stripe.StripeClient, raw: Caller
) -> None:
    customer = raw.customer()["id"]
    lines = [{"id": f"il_{number}", "object": "line_item", "customer": customer} for number in range(5)]
    part = {"object": "list", "data": lines, "has_more": False, "url": "/elsewhere"}
    invoice = publish(operator, "invoice", {"lines": part})["id"]
    path = f"/v1/invoices/{invoice}/lines"
    assert ok(raw.get(path)) == {"object": "list", "data": lines, "has_more": False, "url": path}
    paged = client.v1.invoices.line_items.list(invoice, {"limit": 2})
    assert [each.id for each in paged.auto_paging_iter()] == [each["id"] for each in lines]
    back = ok(raw.get(f"{path}?limit=2&ending_before=il_4"))
    assert ([each["id"] for each in back["data"]], back["has_more"]) == (["il_2", "il_3"], True)
    assert ok(raw.get(f"{path}?ending_before=il_1"))["has_more"] is False
    expanded = ok(raw.get(f"{path}?limit=1&expand[]=data.customer"))
    assert expanded["data"][0]["customer"]["object"] == "customer"
    for members in ({}, {"lines": 5}, {"lines": {"data": 5}}, {"lines": [1, None]}):
        bare = publish(operator, "invoice", members)["id"]
        assert ok(raw.get(f"/v1/invoices/{bare}/lines"))["data"] == []
    assert_refused(raw.get("/v1/invoices/in_x/lines"), 404, code="resource_missing", param="id")


@pytest.mark.contract("2.13 of a customer")
def test_the_objects_of_a_customer_are_listed_below_it(
    operator: InternalClient, client: stripe.StripeClient, raw: Caller
) -> None:
    customer, other = raw.customer()["id"], raw.customer()["id"]
    subscription = publish(operator, "subscription", {"customer": customer, "status": "active"})
    publish(operator, "subscription", {"customer": other, "status": "active"})
    tax_id = publish(operator, "tax_id", {"customer": customer, "value": "DE1"})
    path = f"/v1/customers/{customer}/subscriptions"
    assert ok(raw.get(path)) == {"object": "list", "data": [subscription], "has_more": False, "url": path}
    assert [each.id for each in client.v1.customers.tax_ids.list(customer)] == [tax_id["id"]]
    assert list_ids(raw, f"/v1/customers/{raw.customer()['id']}/tax_ids") == []
    credit = publish(operator, "customer_balance_transaction", {"customer": customer, "amount": -5})
    assert [each.id for each in client.v1.customers.balance_transactions.list(customer)] == [credit["id"]]
    assert client.v1.customers.balance_transactions.retrieve(customer, credit["id"]).amount == -5
    assert client.v1.customers.cash_balance_transactions.list(customer).data == []
    for path in (f"{other}/balance_transactions", f"{customer}/tax_ids"):
        answer = raw.get(f"/v1/customers/{path}/{credit['id']}")
        assert_refused(answer, 404, code="resource_missing", param="id")
    assert_refused(raw.get("/v1/customers/cus_x/tax_ids"), 404, code="resource_missing", param="id")
    ok(raw.delete(f"/v1/customers/{other}"))
    assert_refused(raw.get(f"/v1/customers/{other}/subscriptions"), 404, code="resource_missing", param="id")


@pytest.mark.contract("2.13 expand")
def test_members_that_hold_ids_expand_at_every_level(operator: InternalClient, raw: Caller) -> None:
    customer = raw.customer(name="Jenny")["id"]
    product = publish(operator, "product", {"name": "Hat"})
    price = publish(operator, "price", {"product": product["id"]})
    items = {"object": "list", "data": [{"id": "si_1", "price": price["id"]}, 5]}
    members = {"customer": customer, "latest_invoice": "in_unknown", "items": items, "status": "active"}
    named = publish(operator, "subscription", members)["id"]
    path = f"/v1/subscriptions/{named}?expand[]="
    shown = ok(raw.get(f"{path}customer&expand[]=latest_invoice&expand[]=default_tax_rates&expand[]=status"))
    assert shown["customer"]["name"] == "Jenny"
    assert (shown["latest_invoice"], shown["items"], shown["status"]) == ("in_unknown", items, "active")
    deep = ok(raw.get(f"{path}items.data.price.product"))
    assert deep["items"]["data"] == [{"id": "si_1", "price": price | {"product": product}}, 5]
    (listed,) = ok(raw.get("/v1/subscriptions?expand[]=data.customer&expand[]=data.items.data.price"))["data"]
    assert listed["customer"]["name"] == "Jenny"
    assert listed["items"]["data"][0]["price"] == price
    assert ok(raw.get(f"/v1/subscriptions/{named}")) == {"id": named, "object": "subscription", **members}


@pytest.mark.contract("2.13 permissions")
def test_a_restricted_key_needs_the_permission_of_the_type(
    operator: InternalClient, http: httpx.Client, raw: Caller, account: Account, registrar: Registrar
) -> None:
    customer = raw.customer()["id"]
    invoice = publish(operator, "invoice", {"customer": customer, "quote": "qt_1"})["id"]
    session = publish(operator, "checkout.session", {})["id"]

    def holder(*scopes: str) -> Caller:
        return Caller(http, registrar.key(account.id, "rk", scopes=scopes)[1])

    reader = holder("rak_invoice_read")
    for path in ("/v1/invoices", f"/v1/invoices/{invoice}", f"/v1/invoices/{invoice}/lines"):
        ok(reader.get(path))
        ok(holder("rak_invoice_write").get(path))
        error = assert_refused(
            holder("rak_checkout_session_read").get(path), 403, code="more_permissions_required"
        )
        assert "'rak_invoice_read'" in error["message"]
    ok(holder("rak_checkout_session_read").get(f"/v1/checkout/sessions/{session}"))
    expanded = f"/v1/invoices/{invoice}?expand[]=customer"
    assert_refused(reader.get(expanded), 403, code="more_permissions_required", message="rak_customer_read")
    ok(holder("rak_invoice_read", "rak_customer_read").get(expanded))
    assert_refused(
        operator_as_caller(operator, http).get("/v1/invoices"), 403, code="more_permissions_required"
    )


def operator_as_caller(operator: InternalClient, http: httpx.Client) -> Caller:
    """The key of the internal API on the public one: its scopes there permit nothing here."""
    return Caller(http, operator.key)


@pytest.mark.contract("2.13 apart")
def test_accounts_and_modes_are_apart(
    operator: InternalClient,
    raw: Caller,
    live: Caller,
    service: Service,
    account: Account,
    registrar: Registrar,
) -> None:
    connected = registrar.account(platform=account.id)
    invoice = publish(operator, "invoice", {})["id"]
    body = {"event_type": "invoice.created", "object": {}, "account": connected.id}
    ok(operator.call("PUT", f"/resources/invoice/{invoice}c", body))
    error = assert_refused(live.get(f"/v1/invoices/{invoice}"), 404, code="resource_missing", param="id")
    assert "similar object exists in test mode" in error["message"]
    assert list_ids(live, "/v1/invoices") == []
    assert list_ids(raw, "/v1/invoices") == [invoice]
    assert_refused(raw.get(f"/v1/invoices/{invoice}c"), 404, code="resource_missing", param="id")
    acting = create_client(service, account.secret, stripe_account=connected.id)
    assert [each.id for each in acting.v1.invoices.list()] == [f"{invoice}c"]
    assert acting.v1.invoices.retrieve(f"{invoice}c").object == "invoice"
    stranger = Caller(raw.http, registrar.account().secret)
    error = assert_refused(stranger.get(f"/v1/invoices/{invoice}"), 404, code="resource_missing", param="id")
    assert "similar object" not in error["message"]


def test_a_published_account_is_only_an_event(
    operator: InternalClient, client: stripe.StripeClient, account: Account
) -> None:
    body = {"event_type": "account.updated", "object": {"email": "a@example.com"}}
    ok(operator.call("PUT", f"/resources/account/{account.id}", body))
    assert client.v1.accounts.retrieve(account.id).email is None
    assert client.v1.accounts.list().data == []
    (event,) = client.v1.events.list({"type": "account.updated"}).data
    assert event.data.object["email"] == "a@example.com"
