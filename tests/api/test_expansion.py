"""Expansion through the API (contract §1.8)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import Account, Caller, Registrar, assert_refused, ok


@pytest.fixture
def customer(raw: Caller) -> Any:
    return raw.customer(name="Jenny", source="tok_createDispute")


@pytest.fixture
def charge(raw: Caller, customer: Any) -> Any:
    form = {"amount": 2000, "currency": "usd", "customer": customer["id"]}
    return ok(raw.post("/v1/charges", form))


@pytest.fixture
def dispute(raw: Caller, charge: Any) -> Any:
    return ok(raw.get(f"/v1/disputes?charge={charge['id']}"))["data"][0]


@pytest.mark.contract("2.2 expandable")
def test_fields_nest_up_to_four_levels(raw: Caller, customer: Any, charge: Any, dispute: Any) -> None:
    path = f"/v1/disputes/{dispute['id']}"
    shown = ok(
        raw.get(
            f"{path}?expand[]=charge.customer.default_source.customer&expand[]=charge.balance_transaction"
        )
    )
    assert shown["charge"]["id"] == charge["id"]
    assert shown["charge"]["disputed"] is True
    assert shown["charge"]["balance_transaction"]["net"] == 2000 - 88
    expanded = shown["charge"]["customer"]
    assert expanded["default_source"]["customer"] == customer
    assert {**expanded, "default_source": customer["default_source"]} == customer
    charge = {**shown["charge"], "customer": customer["id"]}
    assert {**charge, "balance_transaction": charge["balance_transaction"]["id"]} == ok(
        raw.get(f"/v1/charges/{charge['id']}")
    )


@pytest.mark.contract("2.2 expandable")
def test_sources_of_balance_transactions(raw: Caller, charge: Any, dispute: Any) -> None:
    shown = ok(raw.get(f"/v1/disputes/{dispute['id']}?expand[]=balance_transactions.source"))
    assert shown["balance_transactions"][0]["source"] == dispute
    shown = ok(raw.get(f"/v1/charges/{charge['id']}?expand[]=balance_transaction.source"))
    assert shown["balance_transaction"]["source"]["id"] == charge["id"]


def test_the_answer_to_a_create_expands_what_it_created(raw: Caller, customer: Any) -> None:
    form = {"amount": 2000, "currency": "usd", "customer": customer["id"]}
    made = ok(raw.post("/v1/charges", form | {"expand[]": "balance_transaction.source"}))
    source = made["balance_transaction"]["source"]
    assert source["id"] == made["id"]
    assert source["balance_transaction"] == made["balance_transaction"]["id"]
    assert source["disputed"] is False, "the disputes of a test card come after the answer"


def test_members_of_a_list_expand_behind_data(raw: Caller, customer: Any, dispute: Any) -> None:
    (shown,) = ok(raw.get("/v1/disputes?expand[]=data.charge.customer"))["data"]
    assert shown["charge"]["customer"] == customer
    (charge,) = ok(raw.get("/v1/charges?expand[0]=data.customer&expand[1]=data.refunds"))["data"]
    assert charge["customer"] == customer
    assert charge["refunds"] == {
        "object": "list",
        "data": [],
        "has_more": False,
        "url": f"/v1/charges/{charge['id']}/refunds",
    }
    assert "refunds" not in ok(raw.get(f"/v1/charges/{charge['id']}"))


def test_sources_of_a_customer_appear_only_when_expanded(raw: Caller, customer: Any) -> None:
    path = f"/v1/customers/{customer['id']}"
    assert "sources" not in ok(raw.get(path))
    sources = ok(raw.get(f"{path}?expand[]=sources"))["sources"]
    assert [each["id"] for each in sources["data"]] == [customer["default_source"]]
    assert sources["url"] == f"{path}/sources"


def test_a_deleted_customer_expands_to_its_stub(
    raw: Caller, customer: Any, charge: Any, dispute: Any
) -> None:
    ok(raw.delete(f"/v1/customers/{customer['id']}"))
    stub = {"id": customer["id"], "object": "customer", "deleted": True}
    assert ok(raw.get(f"/v1/charges/{charge['id']}?expand[]=customer"))["customer"] == stub
    (shown,) = ok(raw.get("/v1/disputes?expand[]=data.charge.customer"))["data"]
    assert shown["charge"]["customer"] == stub
    assert ok(raw.get(f"/v1/charges/{charge['id']}"))["customer"] == customer["id"]


@pytest.mark.contract("1.8 a deleted customer expands to its stub")
def test_nothing_below_a_deleted_customer_is_expanded(
    raw: Caller, customer: Any, charge: Any, dispute: Any
) -> None:
    method = customer["default_source"]
    ok(raw.post(f"/v1/customers/{customer['id']}", {"invoice_settings[default_payment_method]": method}))
    refund = raw.refund()
    ok(raw.post(f"/v1/charges/{refund['charge']}", {"customer": customer["id"]}))
    ok(raw.delete(f"/v1/customers/{customer['id']}"))
    stub = {"id": customer["id"], "object": "customer", "deleted": True}
    below = (
        "sources", "default_source", "subscriptions", "tax_ids", "tax", "cash_balance",
        "sources.data", "default_source.customer", "invoice_settings.default_payment_method",
    )  # fmt: skip
    for member in below:
        path = f"/v1/customers/{customer['id']}?expand[]={member}"
        assert ok(raw.get(path)) == stub, path
        path = f"/v1/charges/{charge['id']}?expand[]=customer.{member}"
        assert ok(raw.get(path))["customer"] == stub, path
        path = f"/v1/refunds/{refund['id']}?expand[]=charge.customer.{member}"
        assert ok(raw.get(path))["charge"]["customer"] == stub, path
    for member in ("sources", "default_source", "tax", "subscriptions"):
        (listed,) = ok(raw.get(f"/v1/disputes?expand[]=data.charge.customer.{member}"))["data"]
        assert listed["charge"]["customer"] == stub, member
        for shown in ok(raw.get(f"/v1/charges?expand[]=data.customer.{member}"))["data"]:
            assert shown["customer"] == stub, member
        transaction = charge["balance_transaction"]
        path = f"/v1/balance_transactions/{transaction}?expand[]=source.customer.{member}"
        assert ok(raw.get(path))["source"]["customer"] == stub, member


@pytest.mark.contract("2.5 fields that only expand shows")
def test_what_customers_do_not_have_expands_to_nothing(raw: Caller, customer: Any, charge: Any) -> None:
    path = f"/v1/customers/{customer['id']}"
    unused = {
        "cash_balance": None,
        "tax": {
            "automatic_tax": "unrecognized_location",
            "ip_address": None,
            "location": None,
            "provider": "stripe",
        },
    } | {
        name: {"object": "list", "data": [], "has_more": False, "url": f"{path}/{name}"}
        for name in ("subscriptions", "tax_ids")
    }
    query = "&".join(f"expand[]={{}}{name}" for name in unused)
    assert ok(raw.get(f"{path}?{query.format(*[''] * 4)}")) == customer | unused
    (listed,) = ok(raw.get(f"/v1/customers?{query.format(*['data.'] * 4)}"))["data"]
    assert listed == customer | unused
    (shown,) = ok(raw.get(f"/v1/charges?{query.format(*['data.customer.'] * 4)}"))["data"]
    assert shown["customer"] == customer | unused
    changed = ok(raw.post(path, {"description": "d", "expand[0]": "tax", "expand[1]": "sources.data"}))
    assert (changed["tax"], len(changed["sources"]["data"])) == (unused["tax"], 1)
    assert not set(unused) & set(raw.events("type=customer.updated")[0]["data"]["object"])


def test_null_stays_null_and_hashes_are_accepted_without_effect(raw: Caller) -> None:
    charge = raw.charge()
    path = f"/v1/charges/{charge['id']}"
    for field in (
        "customer",
        "payment_intent",
        "review",
        "outcome",
        "payment_method_details",
        "billing_details",
    ):
        assert ok(raw.get(f"{path}?expand[]={field}")) == charge
    assert ok(raw.get("/v1/charges?expand[]=data"))["data"] == [charge]
    session = ok(
        raw.post(
            "/v1/customer_sessions",
            {
                "customer": raw.customer()["id"],
                "components[buy_button][enabled]": "true",
                "expand[]": "components",
            },
        )
    )
    assert len(session["components"]) == 7


def test_writes_expand_what_they_answer(raw: Caller, customer: Any, dispute: Any) -> None:
    made = ok(
        raw.post(
            "/v1/charges",
            {"amount": 100, "currency": "usd", "customer": customer["id"], "expand[]": "customer"},
        )
    )
    assert made["customer"] == customer
    changed = ok(
        raw.post(f"/v1/charges/{made['id']}", "description=d&expand[]=customer&expand[]=balance_transaction")
    )
    assert changed["customer"] == customer
    assert changed["balance_transaction"]["source"] == made["id"]
    staged = ok(raw.post(f"/v1/disputes/{dispute['id']}", "metadata[a]=1&expand[]=charge.customer"))
    assert staged["charge"]["customer"] == customer
    closed = ok(raw.post(f"/v1/disputes/{dispute['id']}/close", "expand[]=charge"))
    assert closed["charge"]["object"] == "charge"


def test_expand_is_checked_before_anything_is_written(raw: Caller, dispute: Any) -> None:
    before = len(raw.events())
    for path in ("/v1/customers", f"/v1/disputes/{dispute['id']}/close"):
        assert_refused(raw.post(path, "expand[]=nothing"), message="cannot be expanded")
    assert len(raw.events()) == before
    assert ok(raw.get(f"/v1/disputes/{dispute['id']}"))["status"] == "needs_response"


def test_a_wrong_expand_is_refused_before_a_missing_object(raw: Caller) -> None:
    assert_refused(raw.get("/v1/disputes/du_x?expand[]=nothing"), message="cannot be expanded")
    assert_refused(raw.get("/v1/charges/ch_x?expand[]=a.b.c.d.e"), message="more than 4 levels")


def test_data_of_an_event_does_not_expand(raw: Caller, dispute: Any) -> None:
    event = raw.events("type=charge.dispute.created")[0]["id"]
    assert_refused(raw.get(f"/v1/events/{event}?expand[]=data.object.charge"), message="cannot be expanded")


def test_a_restricted_key_expands_what_it_may_read(
    raw: Caller, account: Account, registrar: Registrar, dispute: Any
) -> None:
    def restricted(*scopes: str) -> Caller:
        return Caller(raw.http, registrar.key(account.id, "rk", scopes=scopes)[1])

    path = f"/v1/disputes/{dispute['id']}?expand[]=charge.customer"
    reader = restricted("rak_dispute_read")
    ok(reader.get(f"/v1/disputes/{dispute['id']}?expand[]=evidence&expand[]=balance_transactions"))
    for caller, lacking in (
        (reader, "charge"),
        (restricted("rak_dispute_read", "rak_charge_read"), "customer"),
        (restricted("rak_dispute_read", "rak_customer_write"), "charge"),
    ):
        for asked in (path, f"/v1/disputes?expand[]=data.charge.customer&charge={dispute['charge']}"):
            code = "more_permissions_required"
            assert_refused(caller.get(asked), 403, code=code, message=f"'rak_{lacking}_read' permission")
    assert ok(restricted("rak_dispute_read", "rak_charge_read", "rak_customer_write").get(path))["charge"]


def test_an_expansion_that_a_key_may_not_read_is_refused_before_anything_is_written(
    raw: Caller, account: Account, registrar: Registrar, dispute: Any
) -> None:
    writer = Caller(raw.http, registrar.key(account.id, "rk", scopes=["rak_dispute_write"])[1])
    path = f"/v1/disputes/{dispute['id']}/close"
    assert_refused(
        writer.post(path, "expand[]=charge", idempotency_key="k"), 403, code="more_permissions_required"
    )
    assert ok(writer.get(f"/v1/disputes/{dispute['id']}"))["status"] == "needs_response"
    assert (
        ok(writer.post(path, "expand[]=balance_transactions.source", idempotency_key="k"))["status"] == "lost"
    )


def test_a_field_of_another_service_shows_no_object_of_this_ledger(raw: Caller, charge: Any) -> None:
    """A caller may write any id into it, also the id of an object of this ledger."""
    given = {"invoice_settings[default_payment_method]": charge["id"]}
    customer = raw.customer(**given)
    path = f"/v1/customers/{customer['id']}?expand[]=invoice_settings.default_payment_method"
    assert ok(raw.get(path)) == customer
