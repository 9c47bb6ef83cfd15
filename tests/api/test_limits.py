"""The answers of a service that is overloaded or cannot reach its database (contract §1.6, last rows).

The tests run a service of their own with the smallest possible limits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from tests.api.conftest import SECRETS, parse_log
from tests.api.service import Caller, Registrar, Service, assert_refused, ok
from tests.conftest import Cluster


@pytest.fixture(scope="module")
def service(cluster: Cluster) -> Iterator[Service]:
    limits = {
        "LEDGER_DECIDE_ATTEMPTS_MAX": "1",
        "LEDGER_APPEND_QUEUE_MAX": "2",
        "LEDGER_APPEND_TIMEOUT_MS": "500",
        "LEDGER_BODY_BYTES_MAX": "2000",
        "LEDGER_LIST_WAIT_MS": "3000",
        "LEDGER_REQUEST_TIMEOUT_MS": "5000",
    }
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        running = Service(dsn, Path(place), **limits)
        yield running
        running.stop()
        assert not SECRETS.search(running.log)
        assert [entry for entry in parse_log(running.log) if "exception" in entry] == []


@pytest.fixture(scope="module")
def registrar(service: Service) -> Iterator[Registrar]:
    registrar = Registrar(service.dsn)
    yield registrar
    registrar.close()


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, verify=False, timeout=30) as http:
        yield http


@pytest.mark.contract("1.6 lock contention")
def test_an_object_changed_by_many_at_once_is_reported_as_locked(raw: Caller) -> None:
    customer = raw.customer()["id"]
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda number: raw.post(f"/v1/customers/{customer}", f"name={number}"), range(80))
        )
    turned_away = [answer for answer in answers if answer.status_code != 200]
    assert turned_away
    for answer in turned_away:
        assert answer.status_code == 429
        assert answer.headers["stripe-should-retry"] == "true"
    locked = [answer for answer in turned_away if answer.json()["error"]["code"] == "lock_timeout"]
    assert_refused(locked[0], 429, code="lock_timeout", message="^This object cannot be accessed right now")
    succeeded = len(answers) - len(turned_away)
    assert len(raw.events("type=customer.updated")) == succeeded


@pytest.mark.contract("1.6 too many requests")
def test_requests_beyond_the_append_queue_are_refused(raw: Caller, service: Service) -> None:
    """While the log is locked, one batch is in progress and two commands wait; all others are refused."""
    with ThreadPoolExecutor(12) as pool:
        with psycopg.connect(service.dsn) as conn:
            conn.execute("SELECT FROM ledger.head FOR UPDATE")
            sent = [pool.submit(raw.post, "/v1/customers") for _ in range(12)]
            for answered, _ in zip(as_completed(sent, timeout=5), range(5), strict=False):
                assert_refused(
                    answered.result(), 429, code="rate_limit", message=r"^Request rate limit exceeded\."
                )
                assert answered.result().headers["stripe-should-retry"] == "true"
        answers = [each.result() for each in sent]
    made = {answer.json()["id"] for answer in answers if answer.status_code == 200}
    assert made
    assert {each["id"] for each in _all(raw)} == made


def test_a_body_has_a_limit(raw: Caller) -> None:
    assert ok(raw.post("/v1/customers", "name=" + "x" * 1995))["name"] == "x" * 1995
    assert_refused(raw.post("/v1/customers", "name=" + "x" * 1996), 413)


def test_many_lists_of_a_stalled_projection_answer_with_the_rows_it_has(
    raw: Caller, service: Service
) -> None:
    """There are more lists than connections in the pool, and other requests need connections meanwhile."""
    with ThreadPoolExecutor(24) as pool, psycopg.connect(service.dsn) as conn:
        conn.execute("SELECT FROM projections.checkpoints FOR UPDATE")
        raw.customer()
        lists = [pool.submit(raw.get, "/v1/customers") for _ in range(23)]
        lists.append(pool.submit(raw.get, "/v2/core/events"))
        time.sleep(0.5)
        assert raw.http.get("/readyz").status_code == 200
        for each in lists:
            assert ok(each.result())["data"] == []
            assert int(each.result().headers["ledger-behind-events"]) >= 1


@pytest.mark.contract("1.6 temporarily unavailable")
def test_a_database_outage_is_reported_and_survived(raw: Caller, service: Service, cluster: Cluster) -> None:
    customer = raw.customer(name="kept")["id"]
    name = conninfo_to_dict(service.dsn)["dbname"]
    assert isinstance(name, str)
    other = make_conninfo(service.dsn, dbname="postgres")
    with psycopg.connect(other, autocommit=True) as conn:
        switch = SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        conn.execute(switch.format(Identifier(name), SQL("false")))
        try:
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            with ThreadPoolExecutor(3) as pool:  # each waits for the database as long as a request may take
                asked = [
                    pool.submit(raw.post, "/v1/customers", "name=lost", idempotency_key="k"),
                    pool.submit(raw.get, f"/v1/customers/{customer}"),
                    pool.submit(raw.get, "/v1/customers"),
                ]
            answers = [each.result() for each in asked]
            assert raw.http.get("/readyz").status_code == 503
            assert raw.http.get("/healthz").status_code == 200
            exposed = raw.http.get("/metrics")
            assert (exposed.status_code, "ledger_requests_total" in exposed.text) == (200, True)
        finally:
            conn.execute(switch.format(Identifier(name), SQL("true")))
    for answer in answers:
        error = assert_refused(answer, 503, kind="api_error")
        assert "database" not in error["message"]
        assert answer.headers["stripe-should-retry"] == "true"
    deadline = time.monotonic() + 60
    while (answer := raw.post("/v1/customers", "name=lost", idempotency_key="k")).status_code == 503:
        assert time.monotonic() < deadline, service.log[-2000:]
        time.sleep(0.1)
    made = ok(answer)["id"]
    raw.read_list("/v1/customers")  # the projections reconnect, too
    assert [each["id"] for each in _all(raw)] == [made, customer]


def _all(raw: Caller) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = []
    page = ok(raw.get("/v1/customers?limit=100"))
    listed += page["data"]
    while page["has_more"]:
        page = ok(raw.get(f"/v1/customers?limit=100&starting_after={listed[-1]['id']}"))
        listed += page["data"]
    return listed
