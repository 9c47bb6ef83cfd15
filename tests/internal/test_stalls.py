"""A projection that does not move: the cause is named, in the answer and on the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from ledger.clock import Clock
from ledger.postgres.connections import open_connection
from ledger.store.codec import Codec
from projections.engine.engine import Engine
from projections.operate.actions import Actions
from projections.operate.stalls import NO_WORKER
from tests.api.service import Caller, Registrar, Service, assert_refused, ok
from tests.conftest import Cluster
from tests.internal.conftest import InternalClient
from tests.projections.histories import KEY, Author, catch_up, run_story

WAIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def service(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place: Path = tmp_path_factory.mktemp("stalls")
    with cluster.create_database() as dsn:
        service = Service(dsn, place, LEDGER_LIST_WAIT_MS="50")
        yield service
        service.stop()


@pytest.fixture(scope="module")
def registrar(service: Service) -> Iterator[Registrar]:
    registrar = Registrar(service.dsn)
    yield registrar
    registrar.close()


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        yield http


def wait_until(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def get_live(operator: InternalClient, name: str) -> Any:
    found = ok(operator.get(f"/projections/{name}"))
    return next(each for each in found["generations"] if each["live"])


def wait_until_stalled(operator: InternalClient, name: str) -> Any:
    """The cause, once an event is old enough by the clock."""
    ok(operator.post("/clock", {"advance_seconds": 60}))
    return wait_until(lambda: get_live(operator, name)["cause"])


def wait_until_moving(operator: InternalClient, name: str) -> None:
    wait_until(lambda: get_live(operator, name)["events"] == 0)
    assert get_live(operator, name)["cause"] is None


def cannot_create_engine() -> Engine:
    raise AssertionError("nothing is applied here")


def test_without_a_worker_that_is_what_is_told(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        await author.create_customer(email="two@example.com")
        clock = Clock(movable=True)
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            await clock.move(conn, clock.now() + 60)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            report = await Actions(conn, dsn, Codec(KEY), clock, cannot_create_engine).load_status("feed")
        assert report.workers == 0
        assert report.generations[0].cause == NO_WORKER

    run_story(dsn, story)


def test_the_session_that_holds_a_lock_is_named(
    service: Service, operator: InternalClient, raw: Caller
) -> None:
    assert ok(operator.get("/projections"))["workers"] == 1
    with psycopg.connect(service.dsn, application_name="a report") as holder:
        holder.execute("LOCK TABLE projections.customers_g1")
        raw.customer()
        cause = wait_until_stalled(operator, "customers")
        assert cause["code"] == "lock"
        assert "projections.customers_g1" in cause["message"]
        assert f"session {holder.info.backend_pid} (a report, idle in transaction for " in cause["message"]
        assert "stalled: customers_g1: The worker waits" in service.run_command(
            "projections", "status", "customers"
        )
        holder.rollback()
    wait_until_moving(operator, "customers")


def test_a_session_that_has_locked_a_checkpoint_is_named(
    service: Service, operator: InternalClient, raw: Caller
) -> None:
    with psycopg.connect(service.dsn, application_name="by hand") as holder:
        holder.execute("SELECT FROM projections.checkpoints WHERE projection = 'charges' FOR UPDATE")
        raw.charge()
        cause = wait_until_stalled(operator, "charges")
        assert cause["code"] == "checkpoint_locked"
        assert f"session {holder.info.backend_pid} (by hand" in cause["message"]
        assert get_live(operator, "feed")["cause"] is None, "the others move"
        holder.rollback()
    wait_until_moving(operator, "charges")


def test_a_batch_that_cannot_be_written_is_named_until_it_can(
    service: Service, operator: InternalClient, raw: Caller
) -> None:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE projections.refunds RENAME TO elsewhere")
        raw.refund()
        cause = wait_until_stalled(operator, "refunds")
        assert (cause["code"], "UndefinedTable" in cause["message"]) == ("batch_failed", True)
        conn.execute("ALTER TABLE projections.elsewhere RENAME TO refunds")
        wait_until_moving(operator, "refunds")
        wait_until(lambda: not conn.execute("SELECT FROM projections.batch_failures").fetchall())


def test_samples_are_there_from_the_start_and_a_bad_time_is_refused(operator: InternalClient) -> None:
    samples = wait_until(lambda: (found := ok(operator.get("/projections/samples")))["times"] and found)
    assert {"customers", "sealing", "webhook fan-out"} <= {each["name"] for each in samples["series"]}
    assert samples["step"] == 10
    only = ok(operator.get("/projections/samples?names=sealing&names=feed"))
    assert [each["name"] for each in only["series"]] == ["feed", "sealing"]
    for query, param in (("from=2&to=1", "from"), ("from=x", "from"), ("to=-1", "to")):
        assert_refused(operator.get(f"/projections/samples?{query}"), 400, param=param)
