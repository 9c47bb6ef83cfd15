"""Who may read what of the feed, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import Account, Caller, Registrar, assert_refused, ok
from tests.feed.streams import read_feed
from tests.internal.conftest import InternalClient


def list_objects(reader: InternalClient, query: str = "") -> set[str]:
    return {item["object"] for item in read_feed(reader, query).items}


def test_a_key_reads_its_account_and_connected_ones_in_its_mode(
    raw: Caller, live: Caller, account: Account, reader: InternalClient, registrar: Registrar
) -> None:
    connected = registrar.account(account.id)
    own, theirs = raw.customer()["id"], Caller(raw.http, connected.secret).customer()["id"]
    live.customer()
    Caller(raw.http, registrar.account().secret).customer()
    assert list_objects(reader) == {own, theirs}
    assert list_objects(reader, f"account={connected.id}") == {theirs}
    answer = reader.call("GET", "/feed", headers={"stripe-account": connected.id})
    assert theirs in answer.text
    assert own not in answer.text


def test_a_key_does_not_read_another_account(
    account: Account, reader: InternalClient, registrar: Registrar
) -> None:
    other = registrar.account()
    answer = reader.get(f"/feed?account={other.id}")
    assert_refused(answer, 403, code="account_invalid", message="does not have access")
    connected = InternalClient(
        reader.http, registrar.key(registrar.account(account.id).id, "rk", scopes=["feed"])[1]
    )
    assert_refused(connected.get(f"/feed?account={account.id}"), 403, code="account_invalid")


def test_a_key_without_the_scope_is_refused(
    account: Account, reader: InternalClient, registrar: Registrar
) -> None:
    audit = InternalClient(reader.http, registrar.key(account.id, "rk", scopes=["audit"])[1])
    assert_refused(
        audit.get("/feed"), 403, code="more_permissions_required", message="lacks the scope 'feed'"
    )
    assert audit.call("GET", "/feed", headers={"authorization": "Bearer no"}).status_code == 401


def test_the_scope_for_all_accounts_reads_both_modes_of_any(
    raw: Caller, live: Caller, whole_reader: InternalClient, registrar: Registrar
) -> None:
    other = registrar.account()
    theirs = Caller(raw.http, other.secret).customer()["id"]
    lives = live.customer()["id"]
    found = list_objects(whole_reader)
    assert {theirs, lives} <= found
    assert list_objects(whole_reader, f"account={other.id}") == {theirs}
    assert_refused(whole_reader.get("/feed?account=acct_none"), 404, code="resource_missing", param="account")


def test_the_scope_for_all_accounts_is_not_given_over_http(
    operator: InternalClient, account: Account, registrar: Registrar
) -> None:
    answer = operator.post("/keys", {"kind": "rk", "scopes": ["feed", "ledger_feed"]})
    assert_refused(answer, param="scopes[1]", message="ledger keys create ACCOUNT --kind rk")
    assert ok(operator.post("/keys", {"kind": "rk", "scopes": ["feed"]}))["scopes"] == ["feed"]
    limited = InternalClient(operator.http, registrar.key(account.id, "rk", scopes=["keys"])[1])
    key_id, _ = registrar.key(account.id, "rk", scopes=["ledger_feed"])
    answer = limited.post(f"/keys/{key_id}/roll", {})
    assert_refused(answer, 403, code="more_permissions_required", message="on the command line")
    assert ok(operator.post(f"/keys/{key_id}/roll", {}))["scopes"] == ["ledger_feed"]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("after=-1", {"param": "after"}),
        ("after=x", {"param": "after"}),
        ("after=1&after=2", {"param": "after", "message": "more than once"}),
        ("types=dispute.opend", {"param": "types", "message": "dispute.opened"}),
        ("types=", {"param": "types", "message": "is empty. Leave it out"}),
        ("types=,", {"param": "types", "message": "is empty"}),
        ("types=charge.dispute.created", {"param": "types", "message": "public Events.*dispute.opened"}),
        ("types=v1.charge.captured", {"param": "types", "message": "public Events.*charge.captured"}),
        ("types=charge.captred", {"param": "types", "message": "no type of a recorded.*charge.captured"}),
        ("types=charge.*,nothing.*", {"param": "types", "message": "nothing"}),
        ("object=ch%201", {"param": "object", "message": "Invalid object id"}),
        ("limit=0", {"param": "limit"}),
        ("wait=61", {"param": "wait"}),
        ("position=1", {"param": "position"}),
    ],
)
def test_a_query_that_cannot_be_served_is_refused_by_name(
    reader: InternalClient, query: str, error: dict[str, Any]
) -> None:
    answer = reader.get(f"/feed?{query}")
    code = answer.json()["error"].get("code")
    assert code in (None, "parameter_unknown")
    assert_refused(answer, code=code, **error)


def test_personal_data_is_in_no_item(
    raw: Caller, operator: InternalClient, whole_reader: InternalClient
) -> None:
    customer = raw.customer(name="Ada Lovelace", email="ada@example.com", **{"metadata[secret]": "plain"})
    raw.call("POST", f"/v1/customers/{customer['id']}", {"description": "Analytical"})
    for reader in (operator, whole_reader):
        answer = reader.get(f"/feed?object={customer['id']}")
        assert len(answer.text.splitlines()) == 3
        for text in ("Ada", "example.com", "plain", "Analytical", "sealed"):
            assert text not in answer.text
