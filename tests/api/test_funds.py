"""The balance (contract §2.14), through the API and the official client."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import stripe

from tests.api.service import Account, Caller, Registrar, Service, assert_refused, create_client, ok

URL = "/v1/balance"


def amounts(balance: Any, part: str) -> dict[str, int]:
    """The amounts by currency."""
    return {each["currency"]: each["amount"] for each in balance[part]}


@pytest.mark.contract("2.14 GET /v1/balance", "2.14 empty")
def test_an_account_without_money_has_zero_in_its_currency(
    client: stripe.StripeClient, raw: Caller, live: Caller
) -> None:
    zero = [{"amount": 0, "currency": "usd", "source_types": {"card": 0}}]
    assert ok(raw.get(URL)) == {"object": "balance", "available": zero, "livemode": False, "pending": zero}
    assert ok(live.get(URL))["livemode"] is True
    assert client.v1.balance.retrieve().available[0].currency == "usd"


@pytest.mark.contract("2.14 available, pending")
def test_the_balance_is_what_balance_transactions_add_up_to(client: stripe.StripeClient, raw: Caller) -> None:
    raw.charge()
    raw.charge("tok_bypassPending", amount=5000)
    raw.charge("tok_createDispute", amount=3000)
    raw.charge(currency="jpy", amount=700)
    euro = raw.charge("tok_bypassPending", currency="eur", amount=1000)
    ok(raw.post("/v1/refunds", {"charge": euro["id"]}))
    expected: dict[str, dict[str, int]] = {"available": {}, "pending": {}}
    for transaction in client.v1.balance_transactions.list({"limit": 100}).auto_paging_iter():
        for part, sums in expected.items():
            net = transaction.net if transaction.status == part else 0
            sums[transaction.currency] = sums.get(transaction.currency, 0) + net
    balance = client.v1.balance.retrieve()
    assert {part: amounts(balance, part) for part in expected} == expected
    assert [each.currency for each in balance.available] == ["eur", "jpy", "usd"]
    assert expected["pending"]["jpy"] > 0
    assert expected["available"]["jpy"] == 0
    assert expected["available"]["usd"] == 5000 - 175 - 3000 - 1500
    assert expected["available"]["eur"] < 0
    for each in ok(raw.get(URL))["available"] + ok(raw.get(URL))["pending"]:
        assert each["source_types"] == {"card": each["amount"]}


@pytest.mark.contract("2.14 own writes")
def test_each_write_is_in_the_next_balance(raw: Caller) -> None:
    expected = 0
    for amount in (1000, 2000, 3000):
        charge = raw.charge("tok_bypassPending", amount=amount)
        expected += amount - (amount * 29 + 500) // 1000 - 30
        assert amounts(ok(raw.get(URL)), "available") == {"usd": expected}
        ok(raw.post("/v1/refunds", {"charge": charge["id"], "amount": 100}))
        expected -= 100
        assert amounts(ok(raw.get(URL)), "available") == {"usd": expected}


@pytest.mark.contract("2.14 apart")
def test_accounts_and_modes_have_balances_of_their_own(
    raw: Caller, live: Caller, service: Service, account: Account, registrar: Registrar
) -> None:
    raw.charge("tok_bypassPending")
    connected = registrar.account(platform=account.id)
    Caller(raw.http, connected.secret).charge("tok_bypassPending", currency="eur")
    assert amounts(ok(raw.get(URL)), "available") == {"usd": 1912}
    assert amounts(ok(live.get(URL)), "available") == {"usd": 0}
    acting = create_client(service, account.secret, stripe_account=connected.id)
    assert list(amounts(acting.v1.balance.retrieve(), "available")) == ["eur"]


def test_bad_calls_of_the_balance_are_refused(
    raw: Caller, http: httpx.Client, account: Account, registrar: Registrar
) -> None:
    assert_refused(raw.get(f"{URL}?currency=usd"), code="parameter_unknown", param="currency")
    assert_refused(raw.get(f"{URL}?expand[]=available.amount"))
    assert_refused(raw.post(URL), 404)
    assert ok(raw.get(f"{URL}?expand[]=available"))["object"] == "balance"
    other = Caller(http, registrar.key(account.id, "rk", scopes=["rak_balance_transaction_read"])[1])
    assert_refused(other.get(URL), 403, code="more_permissions_required", message="rak_balance_read")
    ok(Caller(http, registrar.key(account.id, "rk", scopes=["rak_balance_read"])[1]).get(URL))
    assert_refused(Caller(http, account.publishable).get(URL), 403, code="secret_key_required")
