"""Balance transactions (contract §2.8), through the API and the official client."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.api.service import Account, Caller, Registrar, assert_refused, ok

FIELDS = {
    "id", "object", "amount", "available_on", "balance_type", "created", "currency", "description",
    "exchange_rate", "fee", "fee_details", "net", "reporting_category", "source", "status", "type",
}  # fmt: skip
URL = "/v1/balance_transactions"


def list_transactions(raw: Caller, query: str = "") -> Any:
    return ok(raw.get(f"{URL}?{query}"))["data"]


@pytest.fixture
def won(raw: Caller) -> Any:
    """A won dispute: the money of its charge was withdrawn and reinstated."""
    dispute = raw.dispute(description="Two hats")
    path = f"/v1/disputes/{dispute['id']}"
    ok(raw.post(path, {"evidence[uncategorized_text]": "winning_evidence"}))
    return ok(raw.get(path))


@pytest.fixture
def refund(raw: Caller, won: Any) -> Any:
    return ok(raw.post("/v1/refunds", {"charge": won["charge"], "amount": 500}))


def test_each_kind_of_movement_is_listed_with_its_type_and_sums(raw: Caller, won: Any, refund: Any) -> None:
    charge, dispute = won["charge"], won["id"]
    found = list_transactions(raw)
    assert [
        (each["type"], each["reporting_category"], each["amount"], each["fee"], each["source"])
        for each in found
    ] == [
        ("refund", "refund", -500, 0, refund["id"]),
        ("adjustment", "dispute_reversal", 2000, 0, dispute),
        ("adjustment", "dispute", -2000, 1500, dispute),
        ("charge", "charge", 2000, 88, charge),
    ]
    assert [each["description"] for each in found] == [
        "REFUND FOR CHARGE (Two hats)",
        f"Chargeback reversal for {charge}",
        f"Chargeback withdrawal for {charge}",
        "Two hats",
    ]
    for each in found:
        assert set(each) == FIELDS
        assert (each["object"], each["balance_type"], each["currency"]) == (
            "balance_transaction",
            "payments",
            "usd",
        )
        assert each["net"] == each["amount"] - each["fee"]
        assert sum(detail["amount"] for detail in each["fee_details"]) == each["fee"]
        assert each["status"] in ("available", "pending")


def test_listed_retrieved_and_inside_its_object_it_is_the_same_bytes(
    raw: Caller, won: Any, refund: Any
) -> None:
    page = raw.get(URL).text
    dispute = raw.get(f"/v1/disputes/{won['id']}").text
    paths = {
        "charge": f"/v1/charges/{won['charge']}?expand[]=balance_transaction",
        "refund": f"/v1/refunds/{refund['id']}?expand[]=balance_transaction",
    }
    for each in list_transactions(raw):
        alone = raw.get(f"{URL}/{each['id']}").text
        assert alone in page
        inside = dispute if each["type"] == "adjustment" else raw.get(paths[each["type"]]).text
        assert alone in inside


def test_a_transaction_can_be_retrieved_as_soon_as_it_exists(raw: Caller) -> None:
    for _ in range(20):
        charge = raw.charge()
        transaction = ok(raw.get(f"{URL}/{charge['balance_transaction']}"))
        assert transaction["source"] == charge["id"]


def test_a_charge_has_none_before_it_is_captured(raw: Caller) -> None:
    charge = raw.charge(capture="false")
    assert charge["balance_transaction"] is None
    assert list_transactions(raw) == []
    captured = ok(raw.post(f"/v1/charges/{charge['id']}/capture", {"amount": 700}))
    (transaction,) = list_transactions(raw)
    assert (transaction["id"], transaction["amount"]) == (captured["balance_transaction"], 700)


@pytest.mark.contract("2.8 GET /v1/balance_transactions")
def test_filters_select_by_each_parameter(raw: Caller, won: Any, refund: Any) -> None:
    yen = raw.charge(amount=3000, currency="jpy")
    everything = list_transactions(raw)
    assert [each["currency"] for each in everything] == ["jpy", "usd", "usd", "usd", "usd"]
    assert [each["id"] for each in list_transactions(raw, "currency=jpy")] == [yen["balance_transaction"]]
    for kind in ("charge", "refund", "adjustment"):
        assert list_transactions(raw, f"type={kind}") == [each for each in everything if each["type"] == kind]
    for source in (yen["id"], won["charge"], won["id"], refund["id"]):
        assert list_transactions(raw, f"source={source}") == [
            each for each in everything if each["source"] == source
        ]
    assert list_transactions(raw, f"source={won['id']}&type=adjustment&currency=usd&limit=1") == [
        everything[2]
    ]
    at = everything[-1]["created"]
    assert list_transactions(raw, f"created[lt]={at}") == []
    assert list_transactions(raw, f"created[gte]={at}") == everything


@pytest.mark.parametrize(
    "query", ["type=payout", "type=nonsense", "currency=eur", "currency=zzz", "source=ch_x"]
)
@pytest.mark.contract("2.8 unknown type or currency")
def test_a_filter_without_matches_gives_an_empty_page(raw: Caller, query: str) -> None:
    raw.charge()
    assert ok(raw.get(f"{URL}?{query}")) == {"object": "list", "data": [], "has_more": False, "url": URL}


@pytest.mark.contract("9 payout= naming none")
def test_the_payout_of_a_filter_must_be_published(raw: Caller, live: Caller, operator: Caller) -> None:
    raw.charge()
    invoice, payout = "in_1", "po_1"
    for kind, resource in (("invoice", invoice), ("payout", payout)):
        published = operator.http.put(
            f"/internal/v1/resources/{kind}/{resource}",
            json={"event_type": f"{kind}.created", "object": {}},
            headers={"authorization": f"Bearer {operator.key}"},
        )
        assert published.status_code == 200, published.text
    assert ok(raw.get(f"{URL}?payout={payout}"))["data"] == []
    for caller, name in ((raw, "po_2"), (raw, invoice), (live, payout)):
        assert_refused(
            caller.get(f"{URL}?payout={name}"),
            code="resource_missing",
            param="payout",
            message=f"^No such payout: '{name}'",
        )


def test_pages_by_cursor_with_filters(client: stripe.StripeClient, raw: Caller) -> None:
    made = [raw.charge(amount=100 + n)["balance_transaction"] for n in range(7)][::-1]
    transactions = client.v1.balance_transactions
    forward = transactions.list({"limit": 2, "type": "charge"})
    assert [each.id for each in forward.auto_paging_iter()] == made
    backward = transactions.list({"limit": 2, "type": "charge", "ending_before": made[-1]})
    assert [each.id for each in backward.auto_paging_iter()] == made[:-1][::-1]
    assert_refused(
        raw.get(f"{URL}?starting_after=txn_x"),
        code="resource_missing",
        param="starting_after",
        message=r"^No such balance transaction: 'txn_x'$",
    )


def test_a_transaction_of_another_account_or_mode_is_missing(
    raw: Caller, live: Caller, registrar: Registrar
) -> None:
    charge = raw.charge()
    transaction = charge["balance_transaction"]
    stranger = Caller(raw.http, registrar.account().secret)
    for caller, target in ((raw, "txn_x"), (raw, charge["id"]), (stranger, transaction)):
        assert_refused(
            caller.get(f"{URL}/{target}"),
            404,
            code="resource_missing",
            param="id",
            message=f"^No such balance transaction: '{target}'$",
        )
    assert_refused(
        live.get(f"{URL}/{transaction}"),
        404,
        code="resource_missing",
        param="id",
        message="a similar object exists in test mode, but a live mode key was used",
    )
    assert list_transactions(live) == []
    assert_refused(
        stranger.get(f"{URL}?ending_before={transaction}"), code="resource_missing", param="ending_before"
    )


def test_the_source_expands_for_each_kind(raw: Caller, won: Any, refund: Any) -> None:
    whole = {each["type"]: each["source"] for each in list_transactions(raw, "expand[]=data.source")}
    assert whole["charge"] == ok(raw.get(f"/v1/charges/{won['charge']}"))
    assert whole["adjustment"] == won
    assert whole["refund"] == ok(raw.get(f"/v1/refunds/{refund['id']}"))
    for each in list_transactions(raw):
        alone = ok(raw.get(f"{URL}/{each['id']}?expand[]=source"))
        assert alone == {**each, "source": whole[each["type"]]}


def test_members_of_a_source_expand_where_it_has_them(raw: Caller, won: Any, refund: Any) -> None:
    query = (
        "expand[]=data.source.charge&expand[]=data.source.refunds&expand[]=data.source.balance_transaction"
    )
    found = {each["type"]: each["source"] for each in list_transactions(raw, query)}
    assert found["adjustment"]["charge"]["id"] == found["refund"]["charge"]["id"] == won["charge"]
    assert [each["id"] for each in found["charge"]["refunds"]["data"]] == [refund["id"]]
    assert found["charge"]["balance_transaction"]["source"] == won["charge"]
    assert_refused(raw.get(f"{URL}?expand[]=data.source.nothing"), message="cannot be expanded")
    assert_refused(raw.get(f"{URL}?expand[]=source"), message="expanding 'data.source' instead")


def test_inside_an_object_its_source_is_the_object(raw: Caller, won: Any) -> None:
    dispute = ok(raw.get(f"/v1/disputes/{won['id']}?expand[]=balance_transactions.source"))
    assert [each["source"] for each in dispute["balance_transactions"]] == [won, won]
    charge = ok(raw.get(f"/v1/charges/{won['charge']}?expand[]=balance_transaction.source"))
    assert charge["balance_transaction"]["source"]["id"] == won["charge"]


def test_it_is_read_only_and_unknown_parameters_are_named(raw: Caller) -> None:
    assert_refused(raw.post(URL, {"amount": 1}), 404, message="Unrecognized request URL")
    assert_refused(raw.get(f"{URL}?customer=cus_x"), code="parameter_unknown", param="customer")
    assert_refused(raw.get(f"{URL}?type="), code="parameter_invalid_empty", param="type")


@pytest.mark.usefixtures("configured")
def test_the_balance_through_the_official_client() -> None:
    """Contract §7.10."""
    charge = stripe.Charge.create(amount=2000, currency="usd", source="tok_createDispute")
    (dispute,) = stripe.Dispute.list(charge=charge.id)
    (adjustment,) = stripe.BalanceTransaction.list(type="adjustment")
    assert adjustment.to_dict() == dispute.balance_transactions[0].to_dict()
    found = stripe.BalanceTransaction.retrieve(adjustment.id, expand=["source"])
    assert isinstance(found.source, stripe.Dispute)
    assert found.source.to_dict() == dispute.to_dict()
    assert found.net == -2000 - 1500


def test_two_accounts_never_see_each_other(raw: Caller, account: Account, registrar: Registrar) -> None:
    raw.charge()
    other = Caller(raw.http, registrar.account().secret)
    other.charge(amount=900)
    assert [each["amount"] for each in list_transactions(raw)] == [2000]
    assert [each["amount"] for each in list_transactions(other)] == [900]
