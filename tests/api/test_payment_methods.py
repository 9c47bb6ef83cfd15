"""Cards through the API: as sources of a customer, and as payment methods (contract §2.5)."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import stripe

from ledger.accounts import INTERNAL_SCOPES
from tests.api.service import Account, Caller, Registrar, assert_refused, ok

EMPTY_ADDRESS = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))


def save_card(raw: Caller, customer: str, token: str) -> str:
    """Save one more card on the customer. Returns its id."""
    return str(ok(raw.post(f"/v1/customers/{customer}", {"source": token}))["default_source"])


@pytest.fixture
def cards(raw: Caller) -> list[str]:
    """Ids of three cards of one customer, newest first."""
    customer = raw.customer(name="Jenny", source="tok_visa")
    newer = [save_card(raw, customer["id"], token) for token in ("tok_mastercard", "tok_amex")]
    return [newer[1], newer[0], customer["default_source"]]


@pytest.fixture
def customer(raw: Caller, cards: list[str]) -> str:
    """The customer of `cards`."""
    return str(ok(raw.get("/v1/customers"))["data"][0]["id"])


@pytest.mark.contract("2.5 payment method")
def test_a_card_is_a_payment_method_under_its_id(raw: Caller) -> None:
    customer = raw.customer(source="tok_visa_debit")
    shown = ok(raw.get(f"/v1/payment_methods/{customer['default_source']}"))
    fingerprint = shown["card"].pop("fingerprint")
    created = shown.pop("created")
    assert abs(created - customer["created"]) <= 1
    assert shown == {
        "id": customer["default_source"],
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": {
            "address": EMPTY_ADDRESS,
            "email": None,
            "name": None,
            "phone": None,
            "tax_id": None,
        },
        "card": {
            "brand": "visa",
            "country": "US",
            "exp_month": 12,
            "exp_year": 2034,
            "funding": "debit",
            "last4": "5556",
        },
        "customer": customer["id"],
        "livemode": False,
        "metadata": {},
        "type": "card",
    }
    source = ok(raw.get(f"/v1/customers/{customer['id']}/sources/{shown['id']}"))
    assert (source["object"], source["fingerprint"]) == ("card", fingerprint)


@pytest.mark.contract("2.5 sources of a customer", "2.5 payment methods of a customer")
def test_every_route_shows_the_same_cards_newest_first(
    raw: Caller, client: stripe.StripeClient, customer: str, cards: list[str]
) -> None:
    of_customer = f"/v1/customers/{customer}/payment_methods"
    everywhere = f"/v1/payment_methods?customer={customer}"
    methods = ok(raw.get(of_customer))
    assert {**methods, "data": [one["id"] for one in methods["data"]]} == {
        "object": "list",
        "data": cards,
        "has_more": False,
        "url": of_customer,
    }
    for path in (f"{of_customer}?type=card", everywhere, f"{everywhere}&type=card", "/v1/payment_methods"):
        assert ok(raw.get(path))["data"] == methods["data"], path
    assert ok(raw.get(everywhere))["url"] == "/v1/payment_methods"
    sources = ok(raw.get(f"/v1/customers/{customer}/sources"))
    assert [one["id"] for one in sources["data"]] == cards
    assert ok(raw.get(f"/v1/customers/{customer}/sources?object=card")) == sources
    assert ok(raw.get(f"/v1/customers/{customer}?expand[]=sources"))["sources"] == sources
    for card, method, source in zip(cards, methods["data"], sources["data"], strict=True):
        assert ok(raw.get(f"/v1/payment_methods/{card}")) == method
        assert ok(raw.get(f"{of_customer}/{card}")) == method
        assert ok(raw.get(f"/v1/customers/{customer}/sources/{card}")) == source
        assert client.v1.payment_methods.retrieve(card).to_dict() == method
        assert client.v1.customers.payment_sources.retrieve(customer, card).id == card
        assert client.v1.customers.payment_methods.retrieve(customer, card).customer == customer
    default = ok(raw.get(f"/v1/customers/{customer}?expand[]=default_source"))["default_source"]
    assert default == sources["data"][0]


def test_filters_that_no_card_passes_leave_an_empty_list(raw: Caller, customer: str) -> None:
    of_customer = f"/v1/customers/{customer}"
    for path in (
        f"{of_customer}/sources?object=bank_account",
        f"{of_customer}/payment_methods?type=sepa_debit",
        f"{of_customer}/payment_methods?allow_redisplay=always",
        f"/v1/payment_methods?customer={customer}&type=link",
        "/v1/payment_methods?type=us_bank_account",
    ):
        answer = ok(raw.get(path))
        assert (answer["data"], answer["has_more"]) == ([], False), path
        assert answer["url"] == path.partition("?")[0]


def test_pages_go_both_ways(
    raw: Caller, client: stripe.StripeClient, customer: str, cards: list[str]
) -> None:
    of_customer = f"/v1/customers/{customer}"
    paths = (
        f"{of_customer}/sources?",
        f"{of_customer}/payment_methods?",
        f"/v1/payment_methods?customer={customer}&",
        "/v1/payment_methods?",
    )
    for path in paths:

        def get(query: str, path: str = path) -> tuple[list[str], bool]:
            answer = ok(raw.get(path + query))
            return [one["id"] for one in answer["data"]], answer["has_more"]

        assert get("limit=2") == (cards[:2], True)
        assert get(f"limit=1&starting_after={cards[0]}") == (cards[1:2], True)
        assert get(f"limit=2&starting_after={cards[0]}") == (cards[1:], False)
        assert get(f"limit=1&ending_before={cards[2]}") == (cards[1:2], True)
        assert get(f"limit=2&ending_before={cards[2]}") == (cards[:2], False)
        for cursor in ("starting_after", "ending_before"):
            assert_refused(raw.get(f"{path}{cursor}=card_x"), code="resource_missing", param=cursor)
        both = f"{path}starting_after={cards[0]}&ending_before={cards[2]}"
        assert_refused(raw.get(both), message="Received both")
    paged = client.v1.customers.payment_sources.list(customer, {"limit": 1}).auto_paging_iter()
    assert [one.id for one in paged] == cards
    charge = raw.charge()["id"]
    answer = raw.get(f"/v1/payment_methods?starting_after={charge}")
    assert_refused(answer, code="resource_missing", param="starting_after")


@pytest.mark.contract("2.5 ids that objects show")
def test_the_card_of_every_charge_can_be_read(raw: Caller, customer: str, cards: list[str]) -> None:
    once = raw.charge("tok_visa")
    other = raw.charge("tok_visa", customer=customer)
    declined = raw.post("/v1/charges", {"amount": 50, "currency": "usd", "source": "tok_chargeDeclined"})
    failed = ok(raw.get(f"/v1/charges/{declined.json()['error']['charge']}"))
    for charge in (once, other, failed):
        assert charge["payment_method"] == charge["source"]["id"]
        method = ok(raw.get(f"/v1/payment_methods/{charge['payment_method']}"))
        assert method["customer"] is None, "a card that is charged once belongs to no customer"
        assert method["card"]["last4"] == charge["source"]["last4"]
    saved = ok(raw.post("/v1/charges", {"amount": 50, "currency": "usd", "customer": customer}))
    assert saved["payment_method"] == cards[0]
    assert ok(raw.get(f"/v1/payment_methods/{cards[0]}"))["customer"] == customer
    assert [one["id"] for one in ok(raw.get("/v1/payment_methods"))["data"]] == cards
    refund = raw.refund()
    assert ok(raw.get(f"/v1/payment_methods/{refund['payment_method']}"))["id"] == refund["payment_method"]


@pytest.mark.contract("2.6 payment_method expands")
def test_payment_methods_expand(raw: Caller, customer: str, cards: list[str]) -> None:
    form = {"amount": 2000, "currency": "usd", "customer": customer}
    made = ok(raw.post("/v1/charges", form | {"expand[]": "payment_method.customer"}))
    assert made["payment_method"]["customer"] == ok(raw.get(f"/v1/customers/{customer}"))
    method = ok(raw.get(f"/v1/payment_methods/{cards[0]}"))
    (listed,) = ok(raw.get("/v1/charges?expand[]=data.payment_method"))["data"]
    assert listed["payment_method"] == method
    refund = ok(raw.post("/v1/refunds", {"charge": made["id"], "expand[]": "payment_method"}))
    assert refund["payment_method"] == method
    (transaction,) = ok(raw.get("/v1/balance_transactions?type=charge&expand[]=data.source.payment_method"))[
        "data"
    ]
    assert transaction["source"]["payment_method"] == method
    settings = {"invoice_settings[default_payment_method]": cards[1], "invoice_settings[footer]": "F"}
    ok(raw.post(f"/v1/customers/{customer}", settings))
    shown = ok(raw.get(f"/v1/customers/{customer}?expand[]=invoice_settings.default_payment_method.customer"))
    assert shown["invoice_settings"]["default_payment_method"] == {
        **ok(raw.get(f"/v1/payment_methods/{cards[1]}")),
        "customer": ok(raw.get(f"/v1/customers/{customer}")),
    }
    assert shown["invoice_settings"]["footer"] == "F"
    expanded = ok(raw.get(f"/v1/payment_methods/{cards[2]}?expand[]=customer.sources"))
    assert len(expanded["customer"]["sources"]["data"]) == 3
    for path in (f"/v1/customers/{customer}/payment_methods", "/v1/payment_methods"):
        for one in ok(raw.get(f"{path}?expand[]=data.customer"))["data"]:
            assert one["customer"]["id"] == customer


def test_a_registered_charge_has_no_payment_method(
    raw: Caller, account: Account, registrar: Registrar
) -> None:
    operator = {"authorization": f"Bearer {registrar.key(account.id, 'rk', scopes=INTERNAL_SCOPES)[1]}"}
    body = {"amount": 2000, "currency": "usd", "payment_method_details": {"type": "ideal"}}
    charge = ok(raw.http.post("/internal/v1/charges", json=body, headers=operator))
    shown = ok(raw.get(f"/v1/charges/{charge['id']}?expand[]=payment_method"))
    assert shown == ok(raw.get(f"/v1/charges/{charge['id']}"))
    assert shown["payment_method"] is None


@pytest.mark.contract("2.5 cards of a deleted customer")
def test_a_deleted_customer_shows_no_card(raw: Caller, customer: str, cards: list[str]) -> None:
    charge = ok(raw.post("/v1/charges", {"amount": 50, "currency": "usd", "customer": customer}))
    ok(raw.delete(f"/v1/customers/{customer}"))
    of_customer = f"/v1/customers/{customer}"
    for part in ("sources", "payment_methods", f"sources/{cards[0]}", f"payment_methods/{cards[0]}"):
        assert_refused(raw.get(f"{of_customer}/{part}"), 404, code="resource_missing", param="id")
    listed = raw.get(f"/v1/payment_methods?customer={customer}")
    assert_refused(listed, code="resource_missing", param="customer")
    assert ok(raw.get("/v1/payment_methods"))["data"] == []
    for card in cards[1:]:
        missing = raw.get(f"/v1/payment_methods/{card}")
        assert_refused(missing, 404, code="resource_missing", param="payment_method")
    method = ok(raw.get(f"/v1/payment_methods/{cards[0]}?expand[]=customer"))
    assert method["customer"] is None, "the card of a charge is shown like the charge, without a customer"
    expanded = ok(raw.get(f"/v1/charges/{charge['id']}?expand[]=payment_method.customer"))
    assert expanded["payment_method"] == method


@pytest.mark.contract("2.5 cards of a deleted customer")
@pytest.mark.parametrize("charged", [False, True])
def test_an_intent_shows_the_card_of_a_deleted_customer_only_if_it_was_charged(
    raw: Caller, customer: str, cards: list[str], charged: bool
) -> None:
    form = {"amount": 2000, "currency": "usd", "customer": customer, "payment_method": cards[1]}
    intents = [ok(raw.post("/v1/payment_intents", form | {"confirm": charged}))["id"]]
    intents.append(ok(raw.post("/v1/payment_intents", form))["id"])
    ok(raw.delete(f"/v1/customers/{customer}"))
    if charged:
        assert ok(raw.get(f"/v1/payment_methods/{cards[1]}"))["id"] == cards[1]
    else:
        missing = raw.get(f"/v1/payment_methods/{cards[1]}")
        assert_refused(missing, 404, code="resource_missing", param="payment_method")
    for intent, is_shown in zip(intents, (charged, False), strict=True):
        shown = ok(raw.get(f"/v1/payment_intents/{intent}?expand[]=payment_method"))["payment_method"]
        assert isinstance(shown, dict) == is_shown
        assert is_shown or shown == cards[1]


def test_an_unknown_card_or_customer_is_missing(
    raw: Caller, live: Caller, customer: str, cards: list[str]
) -> None:
    other = raw.customer(source="tok_visa")["default_source"]
    for part in ("card_x", other, customer):
        for name in ("sources", "payment_methods"):
            answer = raw.get(f"/v1/customers/{customer}/{name}/{part}")
            assert_refused(answer, 404, code="resource_missing", param="id", message=f"'{part}'$")
    assert_refused(raw.get(f"/v1/customers/cus_x/sources/{other}"), 404, code="resource_missing", param="id")
    unknown = raw.get("/v1/payment_methods?customer=cus_x")
    assert_refused(unknown, code="resource_missing", param="customer")
    for missing in ("pm_x", customer, raw.charge()["id"]):
        answer = raw.get(f"/v1/payment_methods/{missing}")
        assert_refused(answer, 404, code="resource_missing", param="payment_method")
    assert_refused(
        live.get(f"/v1/payment_methods/{cards[0]}"),
        404,
        code="resource_missing",
        param="payment_method",
        message=r"a similar object exists in test mode",
    )
    for path in (f"/v1/customers/{customer}/sources/", f"/v1/customers/{customer}/sources/search"):
        assert_refused(raw.get(path), 404, message="Unrecognized request URL")


def test_a_restricted_key_needs_the_permission_to_read_them(
    raw: Caller, account: Account, registrar: Registrar, customer: str, cards: list[str]
) -> None:
    def restricted(*scopes: str) -> Caller:
        return Caller(raw.http, registrar.key(account.id, "rk", scopes=scopes)[1])

    charge = ok(raw.post("/v1/charges", {"amount": 50, "currency": "usd", "customer": customer}))["id"]
    path = f"/v1/charges/{charge}?expand[]=payment_method"
    method = f"/v1/payment_methods/{cards[0]}"
    for scopes, asked, lacking in (
        (["rak_charge_read"], path, "payment_method"),
        (["rak_customer_read"], method, "payment_method"),
        (["rak_payment_method_read"], f"{method}?expand[]=customer", "customer"),
        (["rak_payment_method_read"], f"/v1/customers/{customer}/sources", "customer"),
    ):
        refused = restricted(*scopes).get(asked)
        assert_refused(refused, 403, code="more_permissions_required", message=f"'rak_{lacking}_read'")
    assert ok(restricted("rak_charge_read", "rak_payment_method_write").get(path))
    assert ok(restricted("rak_payment_method_read").get(method)) == ok(raw.get(method))
    assert ok(restricted("rak_customer_read").get(f"/v1/customers/{customer}/sources"))


def test_a_published_payment_method_is_read_under_its_id(
    raw: Caller, live: Caller, account: Account, registrar: Registrar
) -> None:
    operator = {"authorization": f"Bearer {registrar.key(account.id, 'rk', scopes=INTERNAL_SCOPES)[1]}"}
    named = f"pm_{uuid.uuid4().hex}"
    customer = raw.customer(**{"invoice_settings[default_payment_method]": named})

    def publish(method: str, body: dict[str, Any]) -> None:
        url = f"/internal/v1/resources/payment_method/{named}"
        ok(raw.http.request(method, url, json=body, headers=operator))

    publish("PUT", {"event_type": "payment_method.attached", "object": {"customer": customer["id"]}})
    shown = ok(raw.get(f"/v1/payment_methods/{named}?expand[]=customer"))
    assert shown == {"id": named, "object": "payment_method", "customer": customer}
    settings = ok(
        raw.get(f"/v1/customers/{customer['id']}?expand[]=invoice_settings.default_payment_method")
    )["invoice_settings"]
    assert settings["default_payment_method"] == {**shown, "customer": customer["id"]}
    assert live.get(f"/v1/payment_methods/{named}").status_code == 404


def test_the_official_client_reads_every_member(
    client: stripe.StripeClient, customer: str, cards: list[str]
) -> None:
    method = client.v1.payment_methods.retrieve(cards[0])
    assert isinstance(method, stripe.PaymentMethod)
    assert (method.type, method.customer, method.livemode) == ("card", customer, False)
    assert method.card is not None
    card = method.card
    assert (card.brand, card.last4, card.funding, card.country) == ("amex", "0005", "credit", "US")
    assert (card.exp_month, card.exp_year, bool(card.fingerprint)) == (12, 2034, True)
    details = method.billing_details
    assert details.address is not None
    assert details.address.to_dict() == EMPTY_ADDRESS
    assert (details.email, details.name, details.phone, details.tax_id) == (None, None, None, None)
    assert method.metadata is not None
    assert (method.metadata.to_dict(), method.allow_redisplay) == ({}, "unspecified")
    (source, *_) = client.v1.customers.payment_sources.list(customer).data
    assert isinstance(source, stripe.Card)
    source.refresh()
    assert (source.id, source.customer) == (cards[0], customer)
