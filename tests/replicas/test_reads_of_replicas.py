"""Lists, Events and audits come from a replica, as new as from the primary; no client notices its loss."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import httpx
import psycopg
import pytest

from tests.api.service import Caller, Service, ok
from tests.postgres.standby import ReplicatedServers, wait_until

OUTCOMES = ("answered", "behind", "conflict", "failed", "not_asked")
READS = 20


@pytest.fixture(autouse=True)
def _replica_is_used(service: Service) -> None:
    wait_until(lambda: is_replica_asked(service))


def is_replica_asked(service: Service) -> bool:
    return read_metric(service, "ledger_replica_unused") == 0


def read_metric(service: Service, name: str) -> float:
    """The sample of this name, with its labels; -1 if there is none."""
    text = httpx.get(f"{service.url}/metrics").text
    match = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(match[1]) if match else -1.0


def count_outcomes(service: Service) -> dict[str, int]:
    """How the reads went so far."""
    return {
        outcome: max(0, int(read_metric(service, f'ledger_replica_reads_total{{outcome="{outcome}"}}')))
        for outcome in OUTCOMES
    }


@contextmanager
def counted(service: Service) -> Iterator[dict[str, int]]:
    """How the reads in the block went: filled at its end, without zeros."""
    before = count_outcomes(service)
    outcomes: dict[str, int] = {}
    yield outcomes
    after = count_outcomes(service)
    outcomes |= {name: after[name] - before[name] for name in OUTCOMES if after[name] > before[name]}


def wait_applied(service: Service, servers: ReplicatedServers) -> None:
    """Wait until the replica has what the projections have made of the whole log."""
    wait_until(
        lambda: (
            servers.standby.fetch_value(
                "SELECT min(c.position) = max(h.position) AND max(f.position) = max(h.position)"
                " FROM projections.checkpoints c, webhooks.checkpoint f, ledger.head h",
                "ledger",
            )
            and servers.primary.fetch_value("SELECT position FROM ledger.head", "ledger")
            == servers.standby.fetch_value("SELECT position FROM ledger.head", "ledger")
        )
    )


def list_ids(caller: Caller, path: str = "/v1/customers?limit=100") -> list[str]:
    return [each["id"] for each in caller.read_list(path)]


def measure(caller: Caller) -> float:
    """Seconds that a list takes: the median of some."""
    seconds = []
    for _ in range(READS):
        begun = time.monotonic()
        list_ids(caller)
        seconds.append(time.monotonic() - begun)
    return median(seconds)


def test_a_replica_that_has_everything_answers_lists_events_and_audits(
    service: Service, servers: ReplicatedServers, raw: Caller, operator: Caller
) -> None:
    customer = raw.customer(email="jo@example.com")["id"]
    raw.charge()
    wait_applied(service, servers)
    audit = "/internal/v1/audit"
    paths = [
        "/v1/customers", "/v1/charges?limit=1", "/v1/events", "/v1/balance", "/v1/balance_transactions",
        f"{audit}/objects/{customer}", f"{audit}/objects/{customer}/history", f"{audit}/objects?type=charge",
        f"{audit}/log", f"{audit}/log/1", f"{audit}/journal", f"{audit}/trial_balance",
    ]  # fmt: skip
    with counted(service) as outcomes:
        for path in paths:
            response = (operator if path.startswith(audit) else raw).get(path)
            assert response.status_code in (200, 404), (path, response.text)
    assert outcomes.keys() == {"answered"}
    assert outcomes["answered"] >= len(paths)
    assert list_ids(raw) == [customer]
    assert read_metric(service, "ledger_replica_lag_events") == 0


def test_a_command_decides_by_what_the_primary_says(
    service: Service, servers: ReplicatedServers, raw: Caller, operator: Caller
) -> None:
    charge = raw.charge()["id"]
    wait_applied(service, servers)
    with counted(service) as outcomes:
        ok(raw.post("/v1/refunds", {"charge": charge}))
        ok(raw.get(f"/v1/charges/{charge}"))
        ok(raw.post("/v1/customers", {}, idempotency_key="once"))
        ok(raw.post("/v1/customers", {}, idempotency_key="once"))
    assert not outcomes


def test_each_write_is_in_the_lists_that_follow_it(
    service: Service, servers: ReplicatedServers, raw: Caller
) -> None:
    with counted(service) as outcomes:
        for _ in range(READS):
            customer = raw.customer()["id"]
            assert list_ids(raw, "/v1/customers?limit=1") == [customer]
            assert raw.events("type=customer.created")[-1]["data"]["object"]["id"] == customer
    assert outcomes.keys() <= {"answered", "behind", "not_asked"}


def test_a_paused_replica_is_not_asked_and_nothing_is_stale(
    service: Service, servers: ReplicatedServers, raw: Caller, operator: Caller
) -> None:
    raw.customer()
    wait_applied(service, servers)
    servers.standby.fetch_value("SELECT pg_wal_replay_pause()")
    wait_until(lambda: servers.standby.fetch_value("SELECT pg_get_wal_replay_pause_state()") == "paused")
    with counted(service) as outcomes:
        customer = raw.customer()["id"]
        assert operator.get(f"/internal/v1/audit/objects/{customer}").status_code == 200
        assert customer in list_ids(raw)
        for _ in range(READS):
            assert customer in list_ids(raw)
            assert ok(operator.get(f"/internal/v1/audit/objects/{customer}"))["object"]["id"] == customer
    assert "answered" not in outcomes
    assert outcomes["behind"] <= 2
    assert outcomes["not_asked"] >= 2 * READS - 1
    assert not is_replica_asked(service)
    wait_until(lambda: read_metric(service, "ledger_replica_lag_events") > 0)
    assert httpx.get(f"{service.url}/readyz").status_code == 200
    servers.standby.fetch_value("SELECT pg_wal_replay_resume()")
    wait_applied(service, servers)
    wait_until(lambda: is_replica_asked(service))
    with counted(service) as outcomes:
        assert customer in list_ids(raw)
    assert outcomes.keys() == {"answered"}


def test_the_events_that_a_list_lacks_are_counted_by_the_primary(
    service: Service, servers: ReplicatedServers, raw: Caller
) -> None:
    raw.customer()
    wait_applied(service, servers)
    servers.standby.fetch_value("SELECT pg_wal_replay_pause()")
    with psycopg.connect(servers.primary.dsn()) as conn:
        conn.execute("SELECT FROM projections.checkpoints WHERE projection = 'customers' FOR UPDATE")
        raw.customer()
        row = conn.execute(
            "SELECT h.position - c.position FROM ledger.head h, projections.checkpoints c"
            " WHERE c.projection = 'customers'"
        ).fetchone()
        assert row is not None
        assert row[0] > 0
        response = raw.get("/v1/customers")
        assert response.headers["ledger-behind-events"] == str(row[0])
        servers.standby.fetch_value("SELECT pg_wal_replay_resume()")
        response = raw.get("/v1/customers")
        assert response.headers["ledger-behind-events"] == str(row[0])
    wait_applied(service, servers)
    assert len(list_ids(raw)) == 2


def test_a_replica_that_ends_costs_no_client_an_error_nor_time(
    service: Service, servers: ReplicatedServers, raw: Caller
) -> None:
    customer = raw.customer()["id"]
    wait_applied(service, servers)
    servers.standby.crash()
    with counted(service) as outcomes:
        assert list_ids(raw) == [customer]
        seconds = measure(raw)
    assert outcomes.get("failed", 0) <= 2
    assert outcomes["not_asked"] >= READS - 1
    assert seconds < 1
    assert httpx.get(f"{service.url}/readyz").status_code == 200
    servers.standby.start()
    wait_applied(service, servers)
    wait_until(lambda: is_replica_asked(service))
    with counted(service) as outcomes:
        assert list_ids(raw) == [customer]
    assert outcomes.keys() == {"answered"}


def test_a_replica_that_hangs_delays_only_the_first_read(
    service: Service, servers: ReplicatedServers, raw: Caller
) -> None:
    customer = raw.customer()["id"]
    wait_applied(service, servers)
    servers.pause_standby()
    try:
        begun = time.monotonic()
        assert list_ids(raw) == [customer]
        assert time.monotonic() - begun < 5
        assert measure(raw) < 1
    finally:
        servers.resume_standby()
    wait_until(lambda: is_replica_asked(service))


def test_a_replica_that_becomes_the_primary_serves_on(
    service: Service, servers: ReplicatedServers, raw: Caller, operator: Caller
) -> None:
    """The last test here: the primary does not come back."""
    customer = raw.customer()["id"]
    wait_applied(service, servers)
    servers.fail_over()
    assert list_ids(raw) == [customer]
    second = raw.customer()["id"]
    assert list_ids(raw) == [second, customer]
    wait_until(lambda: is_replica_asked(service))
    assert list_ids(raw) == [second, customer]
    assert operator.get(f"/internal/v1/audit/objects/{second}").status_code == 200
