"""What auditors looked at is recorded before they see it, and other auditors can list it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import APIRouter, FastAPI
from typer.core import TyperGroup
from typer.main import get_command

from ledger import accounts
from ledger.api.app import create_app
from ledger.api.errors import render_error
from ledger.api.internal.audit.accesses import record_accesses
from ledger.api.internal.middleware import InternalApiMiddleware
from ledger.audit.accesses import CLEAR_PARAMETERS, Access, Accesses
from ledger.cli.audit.group import build_group
from ledger.config import load_settings
from ledger.errors import AccessNotRecorded
from ledger.postgres.connections import Pool, connect
from ledger.store.durability import Durability
from tests.api.conftest import account, http, raw, registrar, service  # noqa: F401  # fixtures
from tests.api.service import SERVICE_KEY, Account, Caller, Registrar, Service
from tests.internal.conftest import InternalClient, operator  # noqa: F401  # fixtures
from tests.store.stores import FixedClock

# ruff: noqa: F811

AUDIT = "/internal/v1/audit"
_FIND = """
SELECT actor, action, parameters, object, allowed FROM ledger.audit_accesses WHERE request_id = %s
"""
MAY_BE_PERSONAL = {"filter", "out", "against", "reason", "key", "policy", "q", "text"}
REWRITES = [
    "UPDATE ledger.audit_accesses SET actor = 'forged'",
    "DELETE FROM ledger.audit_accesses",
    "TRUNCATE ledger.audit_accesses",
]


@pytest.fixture
def database(service: Service) -> Iterator[psycopg.Connection]:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        yield conn


def find_record(database: psycopg.Connection, answer: httpx.Response) -> Any:
    """Actor, action, parameters, object and `allowed` of the answered request; None without a record."""
    return database.execute(_FIND, (answer.headers["request-id"],)).fetchone()


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def list_accesses(caller: InternalClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = caller.http.get(
        f"{AUDIT}/accesses", params=parameters, headers={"authorization": f"Bearer {caller.key}"}
    )
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


def test_every_route_of_the_audit_api_is_recorded(
    database: psycopg.Connection, operator: InternalClient, raw: Caller
) -> None:
    """Whatever it answers: also when its parameters are refused, or the key lacks the scope."""
    paths = operator.http.get("/openapi.json").json()["paths"]
    routes = [
        (method.upper(), path) for path in paths if path.startswith(f"{AUDIT}/") for method in paths[path]
    ]
    assert ("GET", f"{AUDIT}/accesses") in routes
    for method, path in routes:
        filled = re.sub(r"\{\w+\}", "someone", path)
        for caller, allowed in ((operator.key, True), (raw.key, False)):
            answer = operator.http.request(method, filled, headers={"authorization": f"Bearer {caller}"})
            record = find_record(database, answer)
            assert record is not None, (method, path, answer.text)
            assert record[1] == f"{method} {path}"
            assert record[4] is allowed, path
            assert (answer.status_code == 403) is not allowed, path


def test_accesses_are_listed_newest_first_and_filtered(operator: InternalClient) -> None:
    first, second, third = (
        operator.get("/audit/accesses?object=cus_1"),
        operator.get("/audit/accesses?object=cus_2&limit=5"),
        operator.get("/audit/accesses?time[gte]=not+a+time"),
    )
    assert [answer.status_code for answer in (first, second, third)] == [200, 200, 400]
    assert third.json()["error"]["param"] == "time[gte]"
    requests = [answer.headers["request-id"] for answer in (third, second, first)]
    listed = list_accesses(operator, limit=4)
    assert [item["request"] for item in listed if item["request"] in requests] == requests
    item = next(item for item in listed if item["request"] == second.headers["request-id"])
    assert item["action"] == f"GET {AUDIT}/accesses"
    assert (item["parameters"], item["object_id"]) == ({"object": "cus_2", "limit": "5"}, "cus_2")
    assert (item["allowed"], item["operator"]) == (True, None)
    assert item["as_of"]["position"] >= 0
    assert [each["request"] for each in list_accesses(operator, object="cus_1")][-1:] == [requests[2]]
    assert len(list_accesses(operator, actor=item["actor"], limit=100)) >= 5
    assert list_accesses(operator, actor="key_other") == []
    older = list_accesses(operator, starting_after=item["id"])
    assert [each["request"] for each in older] == [requests[2]]
    assert [each["id"] for each in list_accesses(operator, **{"time[lt]": older[0]["time"]})] == []
    since = list_accesses(operator, **{"time[gte]": older[0]["time"], "limit": 100})
    assert older[0]["id"] in [each["id"] for each in since]


def test_a_page_after_an_unknown_access_is_refused(operator: InternalClient) -> None:
    answer = operator.get("/audit/accesses?starting_after=9223372036854775807")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "starting_after")


def test_an_auditor_sees_accesses_to_its_own_account_and_mode_only(
    http: httpx.Client, registrar: Registrar, account: Account, operator: InternalClient
) -> None:
    operator.get("/audit/accesses?object=cus_1")
    other = registrar.account()
    for key in (
        registrar.key(other.id, "rk", scopes=["audit"]),
        registrar.key(account.id, "rk", scopes=["audit"], livemode=True),
    ):
        mine = list_accesses(InternalClient(http, key[1]), limit=100)
        assert {item["actor"] for item in mine} <= {key[0]}


def test_an_access_to_a_connected_account_is_recorded_there(
    database: psycopg.Connection, registrar: Registrar, account: Account, operator: InternalClient
) -> None:
    connected = registrar.account(platform=account.id)
    for named, allowed in ((connected, True), (registrar.account(), False)):
        answer = operator.call("GET", "/audit/accesses", headers={"stripe-account": named.id})
        query = "SELECT account, allowed FROM ledger.audit_accesses WHERE request_id = %s"
        found = database.execute(query, (answer.headers["request-id"],)).fetchone()
        assert found == (named.id if allowed else account.id, allowed)


def test_a_request_without_a_valid_key_is_not_recorded(
    database: psycopg.Connection, http: httpx.Client
) -> None:
    answer = http.get(f"{AUDIT}/accesses", headers={"authorization": "Bearer sk_test_unknown"})
    assert answer.status_code == 401
    assert find_record(database, answer) is None


def test_a_request_whose_client_leaves_is_recorded(
    database: psycopg.Connection, service: Service, registrar: Registrar, account: Account
) -> None:
    key_id, key = registrar.key(account.id, "rk", scopes=["audit"])
    head = f"GET {AUDIT}/export HTTP/1.1\r\nhost: ledger\r\nauthorization: Bearer {key}\r\n\r\n"
    waits = "SELECT FROM pg_locks WHERE relation = 'ledger.audit_accesses'::regclass AND NOT granted"
    with psycopg.connect(service.dsn) as blocker:
        blocker.execute("LOCK TABLE ledger.audit_accesses IN EXCLUSIVE MODE")
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(head.encode())
            wait_until(lambda: database.execute(waits).fetchone() is not None)
        wait_until(lambda: f'"key":"{key_id}"' in service.log)  # the request has ended
    found = "SELECT FROM ledger.audit_accesses WHERE actor = %s"
    wait_until(lambda: database.execute(found, (key_id,)).fetchone() is not None)


def test_personal_data_in_parameters_is_recorded_as_a_digest(
    database: psycopg.Connection, operator: InternalClient
) -> None:
    """In a filter, in place of an id, and in the name of an unknown parameter."""
    records = []
    for question in (
        "accesses?email=ada.lovelace@example.com",
        "accesses?object=ada.lovelace@example.com",
        "accesses?ada.lovelace@example.com=1",
        "accesses?name=Lovelace",
        "objects/ada.lovelace%40example.com",
        "objects/Lovelace%00/history",
        "proof/ada.lovelace@example.com.tlog-proof",
        "proof/Lovelace%00.tlog-proof",
        "objects?type=customer&email=ada.lovelace@example.com",
    ):
        record = find_record(database, operator.get(f"/audit/{question}"))
        assert "ovelace" not in json.dumps(record)
        assert "digest:" in json.dumps(record[2])
        records.append(record[2])
    assert records[0]["email"] == records[1]["object"]  # so that one can ask who looked for an address


@pytest.mark.parametrize("statement", REWRITES)
def test_nobody_rewrites_what_is_recorded(
    database: psycopg.Connection, service: Service, operator: InternalClient, statement: str
) -> None:
    operator.get("/audit/accesses")
    with pytest.raises(psycopg.errors.RestrictViolation, match=r"ledger\.audit_accesses is append-only"):
        database.execute(statement.encode())
    options = "-c role=ledger_api"
    with (
        psycopg.connect(service.dsn, options=options, autocommit=True) as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute(statement.encode())


def test_commands_are_recorded_with_the_user_of_the_shell(
    service: Service, account: Account, operator: InternalClient
) -> None:
    arguments = ("audit", "accesses", "--json", "--account", account.id, "--object", "ada@example.com")
    assert json.loads(service.run_command(*arguments))["data"] == []
    (item,) = list_accesses(operator, actor="cli")
    assert item["action"] == "ledger audit accesses"
    assert "@" in item["operator"] or item["operator"]
    assert item["request"] is None
    assert item["parameters"] == {
        "account": account.id,
        "json": "true",
        "limit": "20",
        "object": item["object_id"],
    }
    assert item["object_id"].startswith("digest:")


def test_what_a_question_was_about_is_recorded_in_the_clear(operator: InternalClient) -> None:
    """Every parameter of every route and command, except what may be personal: under the name by which the
    caller knows it."""
    paths = operator.http.get("/openapi.json").json()["paths"]
    asked = {
        re.sub(r"\W.*", "", item["name"])
        for path in paths
        if path.startswith(f"{AUDIT}/")
        for item in paths[path]["get"].get("parameters", [])
        if item["in"] != "header"
    }
    group = get_command(build_group())
    assert isinstance(group, TyperGroup)
    for command in group.commands.values():
        for parameter in command.params:
            asked.add(max(parameter.opts, key=len).strip("-").replace("-", "_"))
    assert {"at", "from", "to", "ledger_account", "object_id"} <= asked
    assert asked - CLEAR_PARAMETERS == MAY_BE_PERSONAL


def test_what_cannot_be_recorded_is_not_answered(dsn: str) -> None:
    async def main() -> httpx.Response:
        async with await connect(dsn, "ledger_api", name="test") as conn:
            account = await accounts.create_account(conn, "A test")
            _, key = await accounts.create_key(
                conn, account, "rk", livemode=False, name="auditor", scopes=["audit"]
            )
        app = create_app(load_settings(), dsn, SERVICE_KEY.encode())
        async with app.router.lifespan_context(app), _open_client(app) as client:
            headers = {"authorization": f"Bearer {key}"}
            assert (await client.get(f"{AUDIT}/accesses", headers=headers)).status_code == 200
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute("REVOKE INSERT ON ledger.audit_accesses FROM ledger_api")
            return await client.get(f"{AUDIT}/accesses", headers=headers)

    answer = asyncio.run(main())
    assert answer.status_code == 503
    assert answer.headers["stripe-should-retry"] == "true"
    assert answer.headers["request-id"].startswith("req_")
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"]["type"] == "api_error"


def test_an_access_that_the_database_refuses_takes_no_others_with_it(dsn: str) -> None:
    """Concurrent accesses are recorded by one statement."""

    def make_access(action: str) -> Access:
        return Access(
            account="acct_1", livemode=False, actor="key_1", action=action, parameters=[("id", "du_1")]
        )

    async def main() -> list[object]:
        async with Pool(dsn) as pool:
            accesses = Accesses(pool, FixedClock(0), Durability(dsn, "ledger_api"), b"k")
            await accesses.start()
            try:
                records = [accesses.record(make_access(action)) for action in ("first", "no\0text", "last")]
                return await asyncio.gather(*records, return_exceptions=True)
            finally:
                await accesses.close()

    first, refused, last = asyncio.run(main())
    assert (first, last) == (None, None)
    assert isinstance(refused, AccessNotRecorded)
    with psycopg.connect(dsn) as conn:
        actions = conn.execute("SELECT action, object FROM ledger.audit_accesses ORDER BY number").fetchall()
    assert actions == [("first", "du_1"), ("last", "du_1")]


def test_an_object_is_answered_alike_before_the_framework_and_by_it(dsn: str) -> None:
    """Both record the access, under the same name."""

    async def main() -> list[tuple[int, Any]]:
        async with await connect(dsn, "ledger_api", name="test") as conn:
            account = await accounts.create_account(conn, "A test")
            keys = [
                (await accounts.create_key(
                    conn, account, "rk", livemode=False, name="auditor", scopes=scopes
                ))[1]
                for scopes in (["audit"], ["keys"])
            ]  # fmt: skip
        app = create_app(load_settings(), dsn, SERVICE_KEY.encode())
        answers = []
        async with app.router.lifespan_context(app), _open_client(app) as client:
            for find_direct in (app.internal_api._find_direct, lambda exchange, scope: None):
                app.internal_api._find_direct = find_direct
                for headers, query in (
                    ({"authorization": f"Bearer {keys[0]}"}, "?at=position:0"),
                    ({"authorization": f"Bearer {keys[0]}"}, "?at=tomorrow"),
                    ({"authorization": f"Bearer {keys[0]}"}, "?at=position:0&expand[]=charge&unknown=1"),
                    ({"authorization": f"Bearer {keys[0]}", "stripe-version": "1999-01-01"}, ""),
                    ({"authorization": f"Bearer {keys[0]}", "stripe-account": "acct_2"}, ""),
                    ({"authorization": f"Bearer {keys[1]}"}, ""),
                    ({"authorization": "Bearer rk_unknown"}, ""),
                    ({}, ""),
                ):
                    answer = await client.get(f"{AUDIT}/objects/du_1{query}", headers=headers)
                    assert answer.headers["request-id"].startswith("req_")
                    answers.append((answer.status_code, answer.json()))
        return answers

    answers = asyncio.run(main())
    direct, framework = answers[: len(answers) // 2], answers[len(answers) // 2 :]
    assert direct == framework
    assert [status for status, _ in direct] == [404, 400, 400, 400, 403, 403, 401, 401]
    with psycopg.connect(dsn) as conn:
        records = conn.execute(
            "SELECT account, actor, action, parameters, object, allowed FROM ledger.audit_accesses "
            "ORDER BY number"
        ).fetchall()
    assert records[: len(records) // 2] == records[len(records) // 2 :]
    assert [record[-1] for record in records] == [True, True, True, True, False, False] * 2


def test_a_route_that_forgets_to_authorize_is_not_answered(dsn: str) -> None:
    accesses = Accesses(Pool(dsn), FixedClock(0), Durability(dsn, "ledger_api"), b"k")
    router = APIRouter(prefix=AUDIT, dependencies=[record_accesses(accesses)])

    @router.get("/open")
    async def show_everything() -> dict[str, str]:
        return {"secret": "everything"}

    app = FastAPI()
    app.include_router(router)
    protected = InternalApiMiddleware(
        app,
        render_error=render_error,
        log_access=lambda exchange: None,
        body_bytes_max=1000,
        durability=Durability(dsn, "ledger_api"),
        request_seconds=10,
    )

    async def main() -> httpx.Response:
        async with _open_client(protected) as client:
            return await client.get(f"{AUDIT}/open")

    answer = asyncio.run(main())
    assert answer.status_code == 503
    assert "everything" not in answer.text


def _open_client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ledger")
