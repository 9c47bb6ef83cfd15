"""The request log: what is kept of requests, who is shown it, and that it stays within its limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest

from ledger.accounts import INTERNAL_SCOPES
from ledger.clock import Clock
from ledger.config import load_settings
from ledger.postgres.connections import connect, fetch_all
from ledger.request_log import recorder
from ledger.request_log.groups import Window, summarize_requests
from ledger.request_log.pages import EXAMINED_MAX, RequestFilters, list_requests
from ledger.request_log.recorder import ERRORS_PER_STEP_MAX, ROWS_PER_STEP_MAX, Kept, RequestRecorder
from ledger.request_log.requests import FinishedRequest
from ledger.request_log.retention import delete_old
from ledger.request_log.viewers import Viewer
from ledger.store.store import Store
from tests.api.service import SERVICE_KEY, Account, Caller, Registrar, assert_refused, ok
from tests.internal.conftest import InternalClient
from tests.webhooks.receiver import wait_until

EMAIL = "ada.rosenquist@example.com"
NO_SUCH = "POST /v1/customers/{customer}"
OWNER = "acct_1"


def wait_for_requests(operator: InternalClient, query: str, count: int) -> list[dict[str, Any]]:
    """The kept requests of the query, once there are so many; not those without a key, of other tests."""
    found: list[dict[str, Any]] = []

    def has_all() -> bool:
        kept = ok(operator.get(f"/requests?limit=100&{query}"))["data"]
        found[:] = [each for each in kept if each["account"] is not None]
        return len(found) >= count

    wait_until(has_all)
    assert len(found) == count
    return found


def request_id(answer: httpx.Response) -> str:
    assert answer.status_code >= 400
    return answer.headers["request-id"]


@pytest.fixture
def connected(http: httpx.Client, registrar: Registrar, account: Account) -> Account:
    return registrar.account(platform=account.id)


def test_a_refused_request_is_kept_without_what_the_client_sent(
    raw: Caller, operator: InternalClient, account: Account
) -> None:
    answer = raw.post("/v1/customers/" + EMAIL, {"name": EMAIL, "colour": EMAIL})
    other = raw.post("/v1/customers", {"email": EMAIL, "balance": EMAIL})
    first, second = wait_for_requests(operator, "", 2)[::-1]
    assert [first["id"], second["id"]] == [request_id(answer), request_id(other)]
    assert EMAIL not in str([first, second])
    assert account.secret not in str([first, second])
    assert (second["method"], second["path"], second["status"]) == ("POST", "/v1/customers", 400)
    assert (second["account"], second["livemode"], second["operation"]) == (
        account.id, False, "POST /v1/customers",
    )  # fmt: skip
    assert second["error"]["param"] == "balance"
    assert second["key"].startswith("key_")
    assert 0 < second["duration_ms"] < 60_000
    assert abs(second["created"] - time.time()) < 60


def test_names_of_metadata_are_not_kept(raw: Caller, operator: InternalClient) -> None:
    assert_refused(
        raw.post("/v1/customers", {"metadata[jenny_rosen]": "x" * 501}), param="metadata[jenny_rosen]"
    )
    [kept] = wait_for_requests(operator, "", 1)
    assert kept["error"]["param"] == "metadata[removed]"
    assert "jenny" not in str(kept)


def test_a_refused_request_of_the_internal_api_is_kept_too(operator: InternalClient) -> None:
    refused = [operator.post("/disputes", {"charge": "ch_none"}), operator.get("/audit/objects/cus_none")]
    kept = wait_for_requests(operator, "", 2)
    assert {each["id"] for each in kept} == {request_id(answer) for answer in refused}
    assert {each["operation"] for each in kept} == {
        "POST /internal/v1/disputes", "GET /internal/v1/audit/objects/{id}",
    }  # fmt: skip
    assert {each["error"]["code"] for each in kept} == {"parameter_missing", "resource_missing"}


def test_failed_requests_are_grouped_and_a_group_leads_to_its_requests(
    raw: Caller, operator: InternalClient
) -> None:
    ids = [request_id(raw.get("/v1/customers/cus_none")) for _ in range(4)]
    request_id(raw.get("/v1/charges/ch_none"))
    ok(raw.get("/v1/customers"))
    wait_for_requests(operator, "", 5)
    found = ok(operator.get("/requests/groups"))
    largest, other = [group for group in found["groups"] if group["status"] == 404 and group["param"] == "id"]
    assert (largest["operation"], largest["status"], largest["code"], largest["param"], largest["count"]) == (
        "GET /v1/customers/{customer}", 404, "resource_missing", "id", 4,
    )  # fmt: skip
    assert other["count"] == 1
    assert largest["error_type"] == "invalid_request_error"
    assert largest["newest"] == ids[:0:-1]
    assert largest["first_at"] <= largest["last_at"]
    assert largest["message"] == "No such customer: '[removed]'"
    assert [each["id"] for each in wait_for_requests(operator, f"group={largest['id']}", 4)] == ids[::-1]
    assert found["failed"] == sum(group["count"] for group in found["groups"])
    assert found["total"] > found["failed"] >= 5
    assert found["left_out"] == 0
    assert found["period"] == 3600
    assert sum(bucket["count"] for each in found["counts"] for bucket in each["durations"]) == found["total"]


def test_a_request_with_a_nul_is_kept_and_holds_up_no_other(raw: Caller, operator: InternalClient) -> None:
    nul = request_id(raw.get("/v1/customers/cus_%00"))
    request_id(raw.post("/v1/customers", {"na\0me": "Ada"}))
    last = request_id(raw.get("/v1/customers/cus_none"))
    kept = wait_for_requests(operator, "", 3)
    assert {nul, last} <= {each["id"] for each in kept}


def test_counts_of_a_short_time_are_by_minute(raw: Caller, operator: InternalClient) -> None:
    request_id(raw.get("/v1/customers/cus_none"))
    wait_for_requests(operator, "", 1)
    now = ok(operator.get("/requests/groups"))["counts"][-1]["start"]
    found = ok(operator.get(f"/requests/groups?from={now}"))
    assert found["period"] == 60
    assert sum(each["failed"] for each in found["counts"]) == found["failed"] >= 1
    assert all(each["start"] % 60 == 0 and each["duration_ms_mean"] > 0 for each in found["counts"])


def test_a_platform_is_shown_the_requests_of_its_connected_accounts_and_nobody_elses(
    raw: Caller, operator: InternalClient, http: httpx.Client, connected: Account, registrar: Registrar
) -> None:
    own = request_id(raw.get("/v1/customers/cus_none"))
    theirs = request_id(Caller(http, connected.secret).get("/v1/customers/cus_none"))
    request_id(Caller(http, connected.live_secret).get("/v1/customers/cus_none"))
    stranger = registrar.account()
    request_id(Caller(http, stranger.secret).get("/v1/customers/cus_none"))
    key = registrar.key(connected.id, "rk", scopes=INTERNAL_SCOPES)[1]
    of_connected = InternalClient(http, key)
    assert {each["id"] for each in wait_for_requests(operator, "status=404", 2)} == {own, theirs}
    assert wait_for_requests(of_connected, "status=404", 1)[0]["id"] == theirs
    header = {"stripe-account": connected.id}
    acted = ok(operator.call("GET", "/requests?status=404", headers=header))["data"]
    assert [each["id"] for each in acted] == [theirs]
    for client, headers, count in ((operator, {}, 2), (operator, header, 1), (of_connected, {}, 1)):
        groups = ok(client.call("GET", "/requests/groups", headers=headers))["groups"]
        of_customers = [each for each in groups if each["operation"] == "GET /v1/customers/{customer}"]
        assert [each["count"] for each in of_customers] == [count]
    of_stranger = InternalClient(http, registrar.key(stranger.id, "rk", scopes=INTERNAL_SCOPES)[1])
    assert ok(of_stranger.get(f"/requests?request={own}"))["data"] == []
    page = of_stranger.get(f"/requests?starting_after={own}")
    assert_refused(page, 400, code="resource_missing", param="starting_after")


def test_requests_without_a_valid_key_are_shown_to_platforms_without_ids(
    operator: InternalClient, http: httpx.Client, connected: Account, registrar: Registrar
) -> None:
    refused = request_id(Caller(http, None).get("/v1/customers/cus_4QvYzKHT6M1LQf"))
    of_connected = InternalClient(http, registrar.key(connected.id, "rk", scopes=INTERNAL_SCOPES)[1])
    wait_until(lambda: bool(ok(operator.get(f"/requests?request={refused}"))["data"]))
    [kept] = ok(operator.get(f"/requests?request={refused}"))["data"]
    assert (kept["status"], kept["account"], kept["key"]) == (401, None, None)
    assert kept["path"] == "/v1/customers/[removed]"
    assert ok(of_connected.get(f"/requests?request={refused}"))["data"] == []
    assert all(each["status"] != 401 for each in ok(of_connected.get("/requests/groups"))["groups"])


def test_who_opens_the_console_is_no_error(operator: InternalClient, http: httpx.Client) -> None:
    asked = request_id(http.get("/console/session"))
    wrong = request_id(http.post("/console/session", json={"key": "rk_test_wrong"}))
    wait_until(lambda: bool(ok(operator.get(f"/requests?request={wrong}"))["data"]))
    assert ok(operator.get(f"/requests?request={asked}"))["data"] == []


def test_filters_choose_requests_and_pages_follow_each_other(raw: Caller, operator: InternalClient) -> None:
    missing = [request_id(raw.get("/v1/customers/cus_none")) for _ in range(5)]
    wrong = request_id(raw.post("/v1/customers", {"balance": "many"}))
    all_kept = wait_for_requests(operator, "", 6)
    key = all_kept[0]["key"]
    at = int(all_kept[0]["created"])
    for query, ids in {
        "status=404": missing,
        "status=4xx": [*missing, wrong],
        "status=5xx": [],
        "code=resource_missing": missing,
        "operation=POST%20/v1/customers": [wrong],
        f"key={key}&status=400": [wrong],
        "key=key_none": [],
        f"created[gte]={at - 60}&created[lt]={at + 60}": [*missing, wrong],
        f"created[gt]={at + 60}": [],
    }.items():
        assert {each["id"] for each in wait_for_requests(operator, query, len(ids))} == set(ids), query
    pages: list[str] = []
    after = ""
    while True:
        page = ok(operator.get(f"/requests?limit=2{after}"))
        pages += [each["id"] for each in page["data"] if each["account"] is not None]
        if not page["has_more"]:
            break
        after = f"&starting_after={page['next_request']}"
    assert pages == [wrong, *missing[::-1]]


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ("?status=abc", "status", None),
        ("?status=4x", "status", None),
        ("?limit=0", "limit", None),
        ("?colour=red", "colour", "parameter_unknown"),
        ("?starting_after=req_none", "starting_after", "resource_missing"),
        ("/groups?from=20&to=10", "from", None),
        ("/groups?from=99999999999", "from", None),
        ("/groups?to=soon", "to", None),
    ],
)
def test_a_query_that_means_nothing_is_refused(
    operator: InternalClient, query: str, param: str, code: str | None
) -> None:
    assert_refused(operator.get(f"/requests{query}"), 400, code=code, param=param)


def test_the_scope_audit_is_needed(http: httpx.Client, account: Account, registrar: Registrar) -> None:
    other = InternalClient(http, registrar.key(account.id, "rk", scopes=["webhooks"])[1])
    for path in ("/requests", "/requests/groups"):
        assert_refused(
            other.get(path), 403, code="more_permissions_required", message="lacks the scope 'audit'"
        )


@pytest.fixture
def database(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        yield conn


def make_request(number: int, *, status: int = 400, param: str = "name") -> FinishedRequest:
    body = f'{{"error": {{"type": "invalid_request_error", "param": "{param}", "message": "Wrong."}}}}'
    return FinishedRequest(
        OWNER, False, "key_1", f"req_{number}", "POST", "/v1/customers", "POST /v1/customers", status, 0.01,
        body if status >= 400 else None,
    )  # fmt: skip


def record(dsn: str, fill: Callable[[RequestRecorder], None], kept: Kept = "errors") -> None:
    """Let a recorder store what `fill` gives it."""

    async def run() -> None:
        requests = RequestRecorder(Store(dsn, SERVICE_KEY.encode(), load_settings(), Clock()), kept)
        fill(requests)
        await requests.close()

    asyncio.run(run())


def count_rows(database: psycopg.Connection, table: str) -> int:
    row = database.execute(f"SELECT count(*) FROM request_log.{table}").fetchone()
    assert row is not None
    return int(row[0])


def test_a_flood_of_errors_is_counted_and_only_some_are_kept(dsn: str, database: psycopg.Connection) -> None:
    flood = ROWS_PER_STEP_MAX + 300

    def fill(recorder: RequestRecorder) -> None:
        for number in range(flood):
            recorder.add(make_request(number, param=f"p{number}"))
            recorder.count(OWNER, False, "GET /v1/customers", 200, 0.001)

    record(dsn, fill)
    assert count_rows(database, "requests") == ROWS_PER_STEP_MAX
    assert count_rows(database, "counts") == 2 * (ERRORS_PER_STEP_MAX + 2)
    rows = database.execute(
        "SELECT period, sum(count), sum(left_out), bool_and(count = within_5ms + within_20ms) "
        "FROM request_log.counts GROUP BY period"
    ).fetchall()
    assert sorted(rows) == [(period, 2 * flood, 300, True) for period in (60, 3600)]


def test_requests_are_stored_together_and_not_one_by_one(
    dsn: str, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "STORE_SECONDS", 60.0)

    async def run() -> int:
        requests = RequestRecorder(Store(dsn, SERVICE_KEY.encode(), load_settings(), Clock()), "errors")
        await requests.start()
        requests.add(make_request(1))
        while not count_rows(database, "requests"):  # noqa: ASYNC110  # only the database knows
            await asyncio.sleep(0.01)
        requests.add(make_request(2))
        await asyncio.sleep(0.2)
        stored = count_rows(database, "requests")
        await requests.close()
        return stored

    assert asyncio.run(run()) == 1
    assert count_rows(database, "requests") == 2


def test_counts_of_several_steps_and_processes_are_added_up(dsn: str, database: psycopg.Connection) -> None:
    for _ in range(3):
        record(dsn, lambda recorder: recorder.add(make_request(1)))
    rows = database.execute("SELECT period, count, within_20ms FROM request_log.counts ORDER BY 1").fetchall()
    assert rows == [(60, 3, 3), (3600, 3, 3)]
    assert count_rows(database, "requests") == 3


def test_a_log_of_all_keeps_requests_that_succeeded(dsn: str, database: psycopg.Connection) -> None:
    record(dsn, lambda recorder: recorder.add(make_request(1, status=200)), kept="all")
    row = database.execute("SELECT request_id, status, error_type FROM request_log.requests").fetchone()
    assert row == ("req_1", 200, None)


def insert_requests(database: psycopg.Connection, count: int, age_seconds: int) -> None:
    database.execute(
        "INSERT INTO request_log.requests (at, request_id, owner, account, livemode, method, path, operation,"
        " status, milliseconds, grouped_by, code) SELECT now() - %s * interval '1 s' - n * interval '1 ms',"
        " 'req_' || %s || '_' || n, 'acct_1', 'acct_1', false, 'GET', '/v1/x', 'GET /v1/x', 404, 1, 'rgr_1',"
        " 'common' FROM generate_series(1, %s) n",
        (age_seconds, age_seconds, count),
    )


def test_what_is_too_old_or_too_much_is_deleted_in_steps(dsn: str, database: psycopg.Connection) -> None:
    insert_requests(database, 1500, 1_000_000)
    insert_requests(database, 700, 0)
    record(dsn, lambda recorder: recorder.count(OWNER, False, "GET /v1/x", 200, 0.1))

    async def delete(before: float, rows_max: int) -> int:
        async with await connect(dsn, "ledger_api", name="tests") as conn:
            return await delete_old(conn, before, rows_max=rows_max)

    week_ago = time.time() - 7 * 86_400
    assert [asyncio.run(delete(week_ago, 10_000)) for _ in range(3)] == [1000, 500, 0]
    assert count_rows(database, "requests") == 700
    assert asyncio.run(delete(week_ago, 100)) == 600
    assert count_rows(database, "counts") == 2
    asyncio.run(delete(time.time() + 7200, 100))
    assert count_rows(database, "requests") == count_rows(database, "counts") == 0


def test_a_page_says_where_to_go_on_when_it_has_looked_at_enough(
    dsn: str, database: psycopg.Connection
) -> None:
    insert_requests(database, EXAMINED_MAX + 100, 0)
    database.execute("UPDATE request_log.requests SET code = 'rare' WHERE number > %s", (EXAMINED_MAX + 50,))

    async def read(after: str | None) -> Any:
        async with await connect(dsn, "ledger_api", name="tests") as conn:
            viewer = Viewer(OWNER, False, None, True)
            return await list_requests(
                conn, viewer, RequestFilters(code="rare"), limit=100, starting_after=after
            )

    first = asyncio.run(read(None))
    assert first.requests == []
    assert first.next_id is not None
    second = asyncio.run(read(first.next_id))
    assert len(second.requests) == 50
    assert second.next_id is None


def test_the_groups_of_an_empty_log_are_empty(dsn: str) -> None:
    async def read() -> Any:
        async with await connect(dsn, "ledger_api", name="tests") as conn:
            window = Window.of(time.time() - 60, time.time())
            await fetch_all(conn, "SELECT 1")
            return await summarize_requests(
                conn, Viewer(OWNER, False, None, False), window, refused=400, fault=500
            )

    found = asyncio.run(read())
    assert (found["total"], found["counts"], found["groups"]) == (0, [], [])
