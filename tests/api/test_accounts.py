"""Accounts (contract §2.11), through the API and the official client."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
import stripe

from tests.api.service import Account, Caller, Registrar, Service, assert_refused, create_client, ok


@pytest.fixture
def connected(registrar: Registrar, account: Account) -> list[Account]:
    """Three accounts connected to the account, the oldest first."""
    return [registrar.account(platform=account.id) for _ in range(3)]


@pytest.mark.contract("2.11 GET /v1/account", "2.11 fields")
def test_the_key_shows_its_own_account(
    client: stripe.StripeClient, raw: Caller, live: Caller, account: Account
) -> None:
    own = client.v1.accounts.retrieve_current()
    assert (own.id, own.object, own.type) == (account.id, "account", "standard")
    assert own.business_profile is not None
    assert own.settings is not None
    assert (own.business_profile.name, own.settings.dashboard.display_name) == ("A test", "A test")
    assert (own.country, own.default_currency, own.email) == ("US", "usd", None)
    assert own.charges_enabled
    assert own.payouts_enabled
    assert own.details_submitted
    assert own.created is not None
    assert abs(own.created - time.time()) < 3600
    assert client.v1.accounts.retrieve(account.id) == own
    assert raw.get("/v1/account").text == live.get(f"/v1/accounts/{account.id}").text


@pytest.mark.contract("2.11 GET /v1/accounts/{id}")
def test_a_platform_reads_its_connected_accounts(
    client: stripe.StripeClient, service: Service, account: Account, connected: list[Account]
) -> None:
    for one in connected:
        assert client.v1.accounts.retrieve(one.id).id == one.id
        acting = create_client(service, account.secret, stripe_account=one.id)
        assert acting.v1.accounts.retrieve_current().id == one.id
        assert acting.v1.accounts.list().data == []
        assert create_client(service, one.secret).v1.accounts.retrieve_current().id == one.id


@pytest.mark.contract("2.11 unreachable")
def test_an_account_out_of_reach_is_forbidden_whether_it_exists_or_not(
    raw: Caller, account: Account, registrar: Registrar, connected: list[Account]
) -> None:
    stranger = registrar.account().id
    for path in ("", "/capabilities", "/persons", "/external_accounts"):
        for unreachable in (stranger, "acct_none", "x" * 300):
            error = assert_refused(raw.get(f"/v1/accounts/{unreachable}{path}"), 403, code="account_invalid")
            assert error["message"] == (
                f"The provided key 'sk_test_***{account.secret[-4:]}' does not have access to account "
                f"'{unreachable[:80]}' (or that account does not exist). Application access may have been "
                "revoked."
            )
    below = Caller(raw.http, connected[0].secret)
    assert_refused(below.get(f"/v1/accounts/{account.id}"), 403, code="account_invalid")
    assert_refused(below.get(f"/v1/accounts/{connected[1].id}"), 403, code="account_invalid")


@pytest.mark.contract("2.11 GET /v1/accounts")
def test_connected_accounts_are_listed_newest_first(
    client: stripe.StripeClient, raw: Caller, connected: list[Account]
) -> None:
    newest_first = [one.id for one in reversed(connected)]
    assert [one.id for one in client.v1.accounts.list()] == newest_first
    assert [one.id for one in client.v1.accounts.list({"limit": 1}).auto_paging_iter()] == newest_first
    first = ok(raw.get("/v1/accounts?limit=2"))
    assert (first["object"], first["url"], first["has_more"]) == ("list", "/v1/accounts", True)
    assert [one["id"] for one in first["data"]] == newest_first[:2]
    back = ok(raw.get(f"/v1/accounts?limit=1&ending_before={newest_first[2]}"))
    assert ([one["id"] for one in back["data"]], back["has_more"]) == ([newest_first[1]], True)
    back = ok(raw.get(f"/v1/accounts?ending_before={newest_first[2]}"))
    assert ([one["id"] for one in back["data"]], back["has_more"]) == (newest_first[:2], False)


@pytest.mark.contract("2.11 GET /v1/accounts")
def test_connected_accounts_are_filtered_by_their_time(raw: Caller, connected: list[Account]) -> None:
    created = ok(raw.get(f"/v1/accounts/{connected[0].id}"))["created"]

    def count(query: str) -> int:
        return len(ok(raw.get(f"/v1/accounts?{query}"))["data"])

    assert count(f"created[gte]={created}") == 3
    assert count(f"created[gt]={created + 3600}&created[lt]={created + 7200}") == 0
    assert count(f"created[lte]={created - 1}") == 0
    assert count(f"created={created}") >= 1


def test_bad_parameters_of_accounts_are_refused(raw: Caller, account: Account, registrar: Registrar) -> None:
    stranger = registrar.account().id
    for cursor in (account.id, stranger, "acct_x"):
        for param in ("starting_after", "ending_before"):
            assert_refused(raw.get(f"/v1/accounts?{param}={cursor}"), code="resource_missing", param=param)
    assert_refused(raw.get("/v1/accounts?email=a"), code="parameter_unknown", param="email")
    assert_refused(raw.get("/v1/account?limit=1"), code="parameter_unknown", param="limit")
    assert_refused(raw.get("/v1/account?expand[]=country"))
    assert ok(raw.get("/v1/account?expand[]=settings&expand[]=settings.branding.icon"))["id"] == account.id
    persons = f"/v1/accounts/{account.id}/persons"
    assert_refused(
        raw.get(f"{persons}?starting_after=person_x"), code="resource_missing", param="starting_after"
    )
    assert_refused(raw.get(f"{persons}?relationship[friend]=true"), code="parameter_unknown",
                   param="relationship[friend]")  # fmt: skip
    for method in ("POST", "DELETE"):
        assert_refused(raw.call(method, f"/v1/accounts/{account.id}"), 404)
    assert_refused(raw.post("/v1/accounts", {"type": "custom"}), 404)
    assert_refused(raw.get("/v1/accounts/search"), 404)


@pytest.mark.contract("2.11 parts")
def test_parts_of_an_account_are_listed(client: stripe.StripeClient, raw: Caller, account: Account) -> None:
    names = [one.id for one in client.v1.accounts.capabilities.list(account.id)]
    assert names == ["card_payments", "transfers"]
    assert client.v1.accounts.capabilities.retrieve(account.id, "transfers").status == "active"
    path = f"/v1/accounts/{account.id}/capabilities/sepa_debit_payments"
    assert_refused(raw.get(path), 404, code="resource_missing", param="id", message="No such capability")
    assert client.v1.accounts.persons.list(account.id).data == []
    bank: Any = {"object": "bank_account"}
    assert client.v1.accounts.external_accounts.list(account.id, bank).data == []
    assert ok(raw.get(f"/v1/accounts/{account.id}/persons?limit=100"))["url"] == (
        f"/v1/accounts/{account.id}/persons"
    )


def test_an_account_needs_its_permission(http: httpx.Client, account: Account, registrar: Registrar) -> None:
    reader = Caller(http, registrar.key(account.id, "rk", scopes=["rak_account_read"])[1])
    other = Caller(http, registrar.key(account.id, "rk", scopes=["rak_customer_read"])[1])
    for path in ("/v1/account", "/v1/accounts", f"/v1/accounts/{account.id}"):
        ok(reader.get(path))
        assert_refused(other.get(path), 403, code="more_permissions_required")
        assert_refused(Caller(http, account.publishable).get(path), 403, code="secret_key_required")


def test_reading_accounts_makes_no_event(raw: Caller) -> None:
    ok(raw.get("/v1/account"))
    assert raw.events() == []
