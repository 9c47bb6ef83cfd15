"""What operators do is one line each in the log of the service, from a shell as over HTTP; no secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psycopg
import pytest

from tests.api.conftest import SECRETS, account, http, operator, parse_log, registrar  # noqa: F401  # fixtures
from tests.api.service import Account, Caller, Service, ok
from tests.conftest import Cluster
from tests.webhooks.receiver import wait_until

# ruff: noqa: F811
INSERT_FAILURE = """
INSERT INTO projections.operations (who, action, projection, generation, position, reason, details)
VALUES ('ada@host', 'fail', 'charges', 2, 7, 'why', '{"rebuild": 5, "error": "DiskFull (53100)"}')
"""
COUNT_UNLOGGED = """
SELECT (SELECT count(*) FROM projections.operations WHERE NOT logged)
       + (SELECT count(*) FROM ledger.operations WHERE NOT logged)
"""


@pytest.fixture(scope="module")
def service(cluster: Cluster) -> Iterator[Service]:
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        running = Service(dsn, Path(place))
        yield running
        running.stop()
        assert not SECRETS.search(running.log)


def read_lines(service: Service, name: str, value: object) -> list[dict[str, Any]]:
    """The lines about one thing, once every operation is logged."""
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        wait_until(lambda: conn.execute(COUNT_UNLOGGED).fetchone() == (0,))
    return [entry for entry in parse_log(service.log) if entry.get(name) == value and "done_at" in entry]


def post(operator: Caller, path: str, body: dict[str, Any]) -> Any:
    headers = {"authorization": f"Bearer {operator.key}"}
    return ok(operator.http.post(f"/internal/v1{path}", json=body, headers=headers))


def test_changes_of_keys_over_http_are_logged_with_the_key_that_made_them(
    service: Service, operator: Caller, account: Account
) -> None:
    branch = post(operator, "/accounts", {"name": "Branch"})["id"]
    key = post(operator, "/keys", {"kind": "rk", "name": "reader", "scopes": ["audit"]})["id"]
    rolled = post(operator, f"/keys/{key}/roll", {})["id"]
    for _ in range(2):
        post(operator, f"/keys/{rolled}/revoke", {})
    lines = read_lines(service, "key", rolled)
    assert [line["event"] for line in lines] == ["key_rolled", "key_revoked"]
    (created,) = read_lines(service, "key", key)
    (branch_created,) = read_lines(service, "account", branch)
    assert (created["event"], created["kind"], created["mode"]) == ("key_created", "rk", "test")
    assert (branch_created["event"], lines[0]["replaces"]) == ("account_created", key)
    assert {line["account"] for line in (created, *lines)} == {account.id}
    actors = {line["who"] for line in (branch_created, created, *lines)}
    assert len(actors) == 1
    assert actors.pop().startswith("key_")


def test_changes_of_keys_from_a_shell_are_logged_with_its_user(service: Service, account: Account) -> None:
    created = ("keys", "create", account.id, "--kind", "pk", "--reason", "a new page")
    printed = service.run_command(*created).split()
    key, secret = printed[1], printed[3]
    rolled = service.run_command("keys", "roll", key).split()[1]
    service.run_command("keys", "revoke", rolled, "--yes", "--reason", "it leaked")
    branch = service.run_command("accounts", "create", "Branch", "--reason", "a test").strip()
    lines = [line for each in (key, rolled) for line in read_lines(service, "key", each)]
    assert [line["event"] for line in lines] == ["key_created", "key_rolled", "key_revoked"]
    assert [line.get("reason") for line in lines] == ["a new page", None, "it leaked"]
    lines += read_lines(service, "account", branch)
    assert (lines[-1]["event"], lines[-1]["reason"]) == ("account_created", "a test")
    assert all("@" in line["who"] for line in lines)
    assert secret not in service.log


def test_what_is_done_to_a_projection_is_logged_once_with_who_and_why(service: Service) -> None:
    name = "file_links"
    service.run_command("projections", "rebuild", name, "--reason", "a column was added")
    service.run_command("projections", "rollback", name, "--reason", "it was too early")
    service.run_command("projections", "switch", name, "--generation", "2")
    service.run_command("projections", "retire", name, "--generation", "1", "--reason", "space", "--yes")
    lines = read_lines(service, "projection", name)
    assert [(line["event"], line["generation"], line["reason"]) for line in lines] == [
        ("projection_rebuild_begun", 2, "a column was added"),
        ("projection_compared", 2, "a column was added"),
        ("projection_promoted", 2, "a column was added"),
        ("projection_rolled_back", 1, "it was too early"),
        ("projection_switched", 2, None),
        ("projection_retired", 1, "space"),
    ]
    assert len({line["who"] for line in lines}) == 1
    assert (lines[1]["equal"], lines[2]["rebuild"], lines[2]["from"]) == (True, lines[0]["rebuild"], 1)
    assert {line["level"] for line in lines} == {"info"}


def test_a_rebuild_that_fails_is_a_warning(service: Service, http: httpx.Client) -> None:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute(INSERT_FAILURE)
    (line,) = read_lines(service, "projection", "charges")
    assert (line["event"], line["level"]) == ("projection_rebuild_failed", "warning")
    assert (line["rebuild"], line["error"]) == (5, "DiskFull (53100)")
    assert json.loads(http.get("/healthz").text)["status"] == "ok"
