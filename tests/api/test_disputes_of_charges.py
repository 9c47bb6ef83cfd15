"""The legacy routes below a charge: its newest dispute is read, updated and closed (contract §2.2)."""

from __future__ import annotations

import pytest

from tests.api.service import Account, Caller, Registrar, assert_refused, ok


@pytest.mark.contract("2.2 legacy")
def test_the_newest_dispute_of_a_charge_is_read_updated_and_closed(raw: Caller) -> None:
    charge = raw.charge("tok_createMultipleDisputes")
    newest, other = ok(raw.get(f"/v1/disputes?charge={charge['id']}"))["data"]
    path = f"/v1/charges/{charge['id']}/dispute"
    assert ok(raw.get(path)) == newest
    form = {"evidence[customer_name]": "J", "submit": "false", "expand[]": "charge"}
    staged = ok(raw.post(path, form))
    assert (staged["id"], staged["evidence"]["customer_name"]) == (newest["id"], "J")
    assert staged["charge"]["id"] == charge["id"]
    closed = ok(raw.post(f"{path}/close"))
    assert (closed["id"], closed["status"]) == (newest["id"], "lost")
    assert_refused(raw.post(f"{path}/close"), message="^This dispute is already closed$")
    assert ok(raw.get(f"/v1/disputes/{newest['id']}")) == closed
    assert ok(raw.get(f"/v1/disputes/{other['id']}")) == other


def test_a_repeated_idempotency_key_is_replayed(raw: Caller) -> None:
    path = f"/v1/charges/{raw.dispute()['charge']}/dispute/close"
    first = raw.post(path, idempotency_key="close")
    again = raw.post(path, idempotency_key="close")
    assert (ok(first)["status"], again.content) == ("lost", first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert len(raw.events("type=charge.dispute.closed")) == 1


@pytest.mark.contract("2.2 legacy")
def test_a_charge_without_a_dispute_is_refused(raw: Caller) -> None:
    charge = raw.charge()["id"]
    for method, path in (("GET", "dispute"), ("POST", "dispute"), ("POST", "dispute/close")):
        assert_refused(
            raw.call(method, f"/v1/charges/{charge}/{path}"),
            404,
            code="resource_missing",
            param="id",
            message=f"^No dispute for charge: {charge}$",
        )
        assert_refused(
            raw.call(method, f"/v1/charges/ch_nothing/{path}"),
            404,
            code="resource_missing",
            param="id",
            message="^No such charge: 'ch_nothing'$",
        )


def test_parameters_are_those_of_a_dispute_and_so_is_the_permission(
    raw: Caller, account: Account, registrar: Registrar
) -> None:
    path = f"/v1/charges/{raw.dispute()['charge']}/dispute"
    assert_refused(raw.post(path, "evidence[proof]=x"), code="parameter_unknown", param="evidence[proof]")
    assert_refused(raw.get(f"{path}?expand[]=customer"), message="cannot be expanded")
    reader = Caller(raw.http, registrar.key(account.id, "rk", scopes=["rak_dispute_read"])[1])
    assert ok(reader.get(path))["status"] == "needs_response"
    assert_refused(
        reader.post(f"{path}/close"), 403, code="more_permissions_required", message="rak_dispute_write"
    )


def test_deeper_paths_are_unknown(raw: Caller) -> None:
    for path in ("ch_1/dispute/close/now", "ch_1/dispute/", "ch_1/dispute/close/", "a/b/dispute/close"):
        assert_refused(raw.post(f"/v1/charges/{path}"), 404, message="^Unrecognized request URL")
