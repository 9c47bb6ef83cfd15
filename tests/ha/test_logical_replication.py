"""Logical replication as a way out of the ledger (docs/high-availability.md): what a consumer of a slot may
rely on, and what it may be handed too early."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from psycopg.conninfo import make_conninfo

from tests.ha.load import open_target
from tests.ha.logical_consumer import Consumer, create_slot, run_consumer
from tests.ha.record import Target
from tests.ha.services import run_ha_service
from tests.postgres.standby import HOST, STANDBY_NAME, ReplicatedServers, Server, run_replicated, wait_until
from tests.serving.process import ServeProcess

REQUEST_MS = 2000
QUIET_SECONDS = 1.5
"""Within this time everything comes that will come."""
HEAD = "SELECT coalesce(max(notification_id), 0) FROM ledger.events"


class Ledger:
    """A service on replicated servers, a consumer of its log, and the file with all that this got."""

    def __init__(
        self, servers: ReplicatedServers, service: ServeProcess, target: Target, place: Path
    ) -> None:
        self.servers = servers
        self.service = service
        self.target = target
        self.received = place / "received"

    def create_customer(self) -> int:
        """The status of the answer."""
        answer = httpx.post(
            f"{self.service.url}/v1/customers", auth=(self.target.secret, ""), data={"name": "A"}, timeout=20
        )
        return answer.status_code

    def create_customers(self, count: int) -> None:
        """All of them at once, so that they meet in few transactions."""
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: self.create_customer(), range(count)))
        assert statuses == [200] * count

    def read_head(self, server: Server | None = None) -> int:
        """The last position that a session sees."""
        return int(str((server or self.servers.primary).fetch_value(HEAD, "ledger")))


@pytest.fixture(scope="module")
def replicated() -> Iterator[ReplicatedServers]:
    settings = {"wal_level": "logical", "hot_standby_feedback": "on"}
    with run_replicated(settings=settings) as servers:
        _use_physical_slot(servers)
        _set(servers.primary, "synchronized_standby_slots", STANDBY_NAME)
        _set(servers.standby, "sync_replication_slots", "on")
        yield servers


@pytest.fixture
def ledger(replicated: ReplicatedServers) -> Iterator[Ledger]:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o711)
        dsn = replicated.primary.dsn()
        with run_ha_service(place, dsn, request_timeout_ms=REQUEST_MS) as service:
            yield Ledger(replicated, service, open_target(service.url, dsn), place)


def test_positions_come_in_order_and_without_holes(ledger: Ledger) -> None:
    primary = ledger.servers.primary
    before = ledger.read_head()
    create_slot(primary, failover=False)
    with run_consumer(primary, ledger.received) as consumer:
        ledger.create_customers(40)
        head = ledger.read_head()
        consumer.wait_for(head)
        assert consumer.positions == list(range(before + 1, head + 1))
    with run_consumer(primary, ledger.received) as consumer:
        ledger.create_customers(5)  # after a break it goes on where it was
        consumer.wait_for(head + 5)
        assert sorted(set(consumer.positions)) == list(range(before + 1, head + 6))
    primary.execute("SELECT pg_drop_replication_slot('ledger_out')", "ledger")


def test_a_slot_hands_out_what_no_session_may_see_yet(ledger: Ledger) -> None:
    """The commit is in the WAL, but waits for the standby. A failover now would take it back.
    `synchronized_standby_slots` does not help a slot that is not for failovers."""
    servers = ledger.servers
    create_slot(servers.primary, failover=False)
    head = ledger.read_head()
    with run_consumer(servers.primary, ledger.received) as consumer:
        servers.stop_standby()
        assert ledger.create_customer() == 503
        consumer.wait_for(head + 1)
        assert ledger.read_head() == head
        servers.start_standby()
        wait_until(lambda: ledger.read_head() == head + 1)
    servers.primary.execute("SELECT pg_drop_replication_slot('ledger_out')", "ledger")


def test_synchronized_standby_slots_hold_it_back_and_the_standby_has_the_slot(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Nothing is handed out before the standby has it, and after a failover the consumer goes on there: it
    has nothing that the new primary has not, and misses nothing. Last in this file: it ends the primary."""
    servers = ledger.servers
    create_slot(servers.primary, failover=True)
    head = ledger.read_head()
    with run_consumer(servers.primary, ledger.received) as consumer:
        ledger.create_customers(5)
        consumer.wait_for(head + 5)
        servers.wait_caught_up()
        wait_until(lambda: _has_slot(servers), seconds=60)
        servers.stop_standby()
        assert ledger.create_customer() == 503
        assert _stays(consumer, head + 5)
    servers.primary.crash()
    servers.standby.start()
    _set(servers.standby, "synchronized_standby_slots", "")
    servers.promote_standby()
    assert ledger.read_head(servers.standby) == head + 5, "what nobody was acknowledged is lost"
    with run_ha_service(tmp_path, servers.standby.dsn()) as service:
        after = Ledger(servers, service, ledger.target._replace(url=service.url), tmp_path)
        after.create_customers(3)
    with run_consumer(servers.standby, after.received) as consumer:
        consumer.wait_for(head + 8)
        assert sorted({*range(head + 1, head + 6), *consumer.positions}) == list(range(head + 1, head + 9))


def _use_physical_slot(servers: ReplicatedServers) -> None:
    """Let the standby stream from a slot, and know the database whose slots it copies."""
    servers.primary.execute(f"SELECT pg_create_physical_replication_slot('{STANDBY_NAME}')")
    source = make_conninfo(
        host=HOST, port=str(servers.primary.port), user="postgres", dbname="ledger",
        application_name=STANDBY_NAME,
    )  # fmt: skip
    _set(servers.standby, "primary_slot_name", STANDBY_NAME)
    _set(servers.standby, "primary_conninfo", source)
    wait_until(
        lambda: (
            servers.primary.fetch_value("SELECT active FROM pg_replication_slots") is True
            and servers.is_replicated()
        )
    )


def _set(server: Server, name: str, value: str) -> None:
    server.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    server.execute("SELECT pg_reload_conf()")
    wait_until(lambda: server.fetch_value(f"SHOW {name}") == value)


def _has_slot(servers: ReplicatedServers) -> bool:
    """Whether the standby has the primary's slot for good. Its server copies slots by itself, and keeps one
    once its consumer has confirmed a record of the running transactions that is younger than the copy: the
    primary writes one every 15 seconds, or when it is asked to."""
    servers.primary.execute("SELECT pg_log_standby_snapshot()")
    query = "SELECT count(*) FROM pg_replication_slots WHERE synced AND NOT temporary"
    return servers.standby.fetch_value(query) == 1


def _stays(consumer: Consumer, position: int) -> bool:
    """Whether this is the last position, now and in a while."""
    time.sleep(QUIET_SECONDS)
    return consumer.positions[-1] == position
