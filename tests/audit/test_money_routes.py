"""The books over HTTP and on the command line of a running service."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from tests.api.service import (
    Account,
    Caller,
    Registrar,
    Service,
    assert_refused,
    ok,
)
from tests.internal.conftest import InternalClient

AUDIT = "/audit"


def run_audit(service: Service, account: Account, *arguments: str) -> str:
    return service.run_command("audit", *arguments, "--account", account.id)


def list_sums(trial_balance: Any) -> dict[tuple[str, str], tuple[int, int, int]]:
    return {
        (row["ledger_account"], row["currency"]): (row["debits"], row["credits"], row["balance"])
        for row in trial_balance["accounts"]
    }


def test_the_trial_balance_and_the_journal_agree_with_the_balance(
    operator: InternalClient, raw: Caller, service: Service, account: Account
) -> None:
    before = ok(operator.get(f"{AUDIT}/trial_balance"))
    assert (before["accounts"], before["totals"], before["unreadable"]) == ([], [], [])
    charge = raw.charge(amount=2000)
    ok(raw.post("/v1/refunds", {"charge": charge["id"], "amount": 500}))
    raw.charge(amount=4000, currency="jpy")
    dispute = raw.dispute(amount=1000)  # with a fee of 1500
    books = ok(operator.get(f"{AUDIT}/trial_balance"))
    assert list_sums(books)["network", "usd"] == (3000, 1500, 1500)
    assert list_sums(books)["dispute_fees", "usd"] == (0, 1500, -1500)
    assert list_sums(books)["network", "jpy"] == (4000, 0, 4000)
    assert [(total["currency"], total["balance"]) for total in books["totals"]] == [("jpy", 0), ("usd", 0)]
    balance = ok(raw.get("/v1/balance"))
    for available, pending in zip(balance["available"], balance["pending"], strict=True):
        owed = list_sums(books)["merchant_balance", available["currency"]][2]
        assert -owed == available["amount"] + pending["amount"]
    only = ok(operator.get(f"{AUDIT}/trial_balance?currency=JPY&at={books['as_of']['time']}"))
    assert {currency for _, currency in list_sums(only)} == {"jpy"}
    position = before["as_of"]["position"]
    assert list_sums(ok(operator.get(f"{AUDIT}/trial_balance?at=position:{position}"))) == {}

    page = ok(operator.get(f"{AUDIT}/journal?object={dispute['id']}&order=asc"))
    sides = [(row["ledger_account"], row["side"], row["amount"]) for row in page["data"]]
    assert sides == [
        ("network", "credit", 1000), ("merchant_balance", "debit", 2500), ("dispute_fees", "credit", 1500),
    ]  # fmt: skip
    (transaction,) = dispute["balance_transactions"]
    assert {row["balance_transaction"] for row in page["data"]} == {transaction["id"]}
    assert {row["charge"] for row in page["data"]} == {dispute["charge"]}
    first = ok(operator.get(f"{AUDIT}/journal?limit=1&order=asc"))
    assert first["has_more"]
    after = first["next_position"]
    rest = ok(operator.get(f"{AUDIT}/journal?limit=100&order=asc&starting_after={after}"))
    assert len(first["data"]) + len(rest["data"]) == 14
    bounded = ok(
        operator.get(f"{AUDIT}/journal?limit=100&position[gt]={after}&time[gte]=2001-01-01&order=asc")
    )
    assert bounded["data"] == rest["data"]

    table = run_audit(service, account, "trial-balance")
    assert re.search(r"^jpy +network +4,000 +0 +4,000$", table, re.MULTILINE)
    assert re.search(r"^usd +dispute_fees +0\.00 +15\.00 +-15\.00$", table, re.MULTILINE)
    document = json.loads(run_audit(service, account, "trial-balance", "--json"))
    assert document["accounts"] == books["accounts"]
    table = run_audit(service, account, "journal", "--object", dispute["id"])
    assert re.search(r"dispute\.opened +du_\w+ +merchant_balance +25\.00 +usd", table)
    document = json.loads(
        run_audit(service, account, "journal", "--object", dispute["id"], "--order", "asc", "--json")
    )
    assert document["data"] == page["data"]

    reconciled = run_audit(service, account, "reconcile")
    assert "Everything agrees." in reconciled
    summary = json.loads(run_audit(service, account, "reconcile", "--json").splitlines()[-1])
    assert (summary["success"], summary["entries"], summary["rows"]["postings"]) == (True, 5, 14)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("trial_balance?at=tomorrow", "at"),
        ("trial_balance?at=position:999999999", "at"),
        ("trial_balance?at=32503000000", "at"),
        ("trial_balance?currency=xxx", "currency"),
        ("trial_balance?limit=1", "limit"),
        ("journal?from=position:1&to=x", "to"),
        ("journal?from=2030-01-01", "from"),
        ("journal?time[gte]=never", "time[gte]"),
        ("journal?position[lt]=-1", "position[lt]"),
        ("journal?limit=101", "limit"),
        ("journal?order=up", "order"),
        ("journal?currency=zzz", "currency"),
        ("journal?ledger_account=cash", "ledger_account"),
        ("journal?starting_after=txn_1", "starting_after"),
    ],
)
def test_bad_input_names_the_parameter(operator: InternalClient, query: str, param: str) -> None:
    error = operator.get(f"{AUDIT}/{query}").json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_only_the_own_account_and_mode_with_the_scope_audit(
    http: httpx.Client, registrar: Registrar, account: Account, raw: Caller, operator: InternalClient
) -> None:
    charge = raw.charge()
    for livemode, owner in ((True, account.id), (False, registrar.account().id)):
        key = registrar.key(owner, "rk", livemode=livemode, scopes=("audit",))[1]
        other = InternalClient(http, key)
        assert ok(other.get(f"{AUDIT}/trial_balance"))["accounts"] == []
        assert ok(other.get(f"{AUDIT}/journal?object={charge['id']}"))["data"] == []
        assert ok(other.get(f"{AUDIT}/journal"))["data"] == []
    for name in ("object", "transaction"):
        assert ok(operator.get(f"{AUDIT}/journal?{name}=%00x"))["data"] == []
    weak = InternalClient(http, registrar.key(account.id, "rk", scopes=("catalog",))[1])
    for path in ("trial_balance", "journal"):
        refused = weak.get(f"{AUDIT}/{path}")
        assert_refused(refused, 403, code="more_permissions_required", message="'audit'")
