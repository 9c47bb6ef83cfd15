"""A service on a Patroni cluster behind HAProxy, under load, while the cluster loses what it may lose.

Each test asserts all laws: nothing acknowledged is lost or doubled, positions are whole, views agree with the
log, every webhook arrives, the official client raises nothing, and nobody restarts the service.
"""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from tests.ha import laws
from tests.ha.cluster import LEASE_SECONDS, PatroniCluster
from tests.ha.conftest import Measure
from tests.ha.load import Load, Request, open_target, run_load
from tests.ha.services import create_endpoint, run_ha_service
from tests.serving.process import ServeProcess, list_children
from tests.webhooks.receiver import Receiver, run_receiver, wait_until

WRITES = 60
"""Before something fails, and after all is well again."""
SWITCHOVER_GAP_SECONDS = 4.0
KILL_GAP_SECONDS = LEASE_SECONDS + 5.0
ETCD_AWAY_SECONDS = LEASE_SECONDS + 5.0
HAPROXY_AWAY_SECONDS = 3.0

pytestmark = pytest.mark.timeout(240)


class Scene(NamedTuple):
    """A service on a database of its own in the cluster, its clients, and a receiver of its webhooks."""

    cluster: PatroniCluster
    service: ServeProcess
    load: Load
    dsn: str
    place: Path
    receiver: Receiver
    processes: dict[int, str]

    def end(self) -> None:
        """Stop the clients once all is well again, and check all laws."""
        self.load.wait_for_writes(WRITES)
        self.load.stop()
        self.load.resolve()
        laws.check_laws(
            laws.Scene(
                self.load.target, self.load.record, self.dsn, self.place, self.receiver.requests,
                checkpoint_file=self.place / "checkpoint",
            )
        )  # fmt: skip
        assert laws.find_restarts(self.processes, list_children(self.service.process.pid)) == []
        assert laws.find_secrets(self.service.log) == []

    def list_refused(self) -> list[Request]:
        """What a bare client, which asks once, was answered other than with success."""
        return [request for request in self.load.record.requests if request.status != 200]

    def find_gap(self, since: float) -> float:
        """The longest time without a write since then, that before the first one included."""
        before = max(write.at for write in self.load.record.writes if write.at <= since)
        return self.load.record.find_gap(before)


@contextmanager
def create_database(cluster: PatroniCluster) -> Iterator[str]:
    """The owner's connection string, through HAProxy, to a database of its own."""
    maintenance = cluster.build_dsn("postgres", "PATRONI_SUPERUSER_PASSWORD", cluster.port, "postgres")
    name = f"ledger_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(maintenance, autocommit=True) as conn:
        conn.execute(SQL("CREATE DATABASE {} OWNER ledger").format(Identifier(name)))
    yield make_conninfo(cluster.dsn, dbname=name)
    cluster.wait_until_whole()
    with psycopg.connect(maintenance, autocommit=True) as conn:
        conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture
def scene(cluster_of_three: PatroniCluster) -> Iterator[Scene]:
    with (
        create_database(cluster_of_three) as dsn,
        TemporaryDirectory(prefix="ledger-ha-") as directory,
        run_receiver() as receiver,
        run_ha_service(Path(directory), dsn, workers=2) as service,
    ):
        target = open_target(service.url, dsn)
        create_endpoint(target, receiver)
        with run_load(target) as load:
            load.wait_for_writes(WRITES)
            processes = list_children(service.process.pid)
            yield Scene(cluster_of_three, service, load, dsn, Path(directory), receiver, processes)


def test_a_switchover_costs_no_client_an_error(scene: Scene, measure: Measure) -> None:
    before = scene.cluster.get_primary()
    since = time.monotonic()
    scene.cluster.switch_over()
    assert scene.cluster.get_primary() is not before
    scene.end()
    assert scene.list_refused() == []
    measure("switchover", scene.find_gap(since), SWITCHOVER_GAP_SECONDS)


def test_a_killed_primary_is_replaced_within_the_lease(scene: Scene, measure: Measure) -> None:
    primary = scene.cluster.get_primary()
    since = time.monotonic()
    primary.lose()
    scene.cluster.wait_for_other_primary(primary, seconds=KILL_GAP_SECONDS)
    scene.load.wait_for_writes(WRITES)
    primary.start()
    scene.cluster.wait_until_whole()
    scene.end()
    measure("kill -9 of the primary with its Patroni", scene.find_gap(since), KILL_GAP_SECONDS)


def test_a_stopped_primary_that_goes_on_changes_nothing(scene: Scene, measure: Measure) -> None:
    primary = scene.cluster.get_primary()
    since = time.monotonic()
    primary.signal_all(signal.SIGSTOP)
    try:
        scene.cluster.wait_for_other_primary(primary, seconds=KILL_GAP_SECONDS)
        scene.load.wait_for_writes(WRITES)
    finally:
        primary.signal_all(signal.SIGCONT)
    scene.cluster.wait_until_whole()
    scene.end()
    assert scene.cluster.get_primary() is not primary
    measure("SIGSTOP of the primary with its Patroni", scene.find_gap(since), KILL_GAP_SECONDS)


def test_writes_go_on_without_etcd(scene: Scene, measure: Measure) -> None:
    primary = scene.cluster.get_primary()
    since = time.monotonic()
    scene.cluster.etcd.kill()
    while time.monotonic() < since + ETCD_AWAY_SECONDS:
        scene.load.wait_for_writes(1)
    scene.cluster.etcd.start()
    scene.cluster.wait_until_whole()
    scene.end()
    assert scene.cluster.get_primary() is primary
    assert scene.list_refused() == []
    measure("etcd away for longer than the lease", scene.find_gap(since), 2.0)


def test_a_killed_haproxy_that_is_started_again_costs_no_client_an_error(
    scene: Scene, measure: Measure
) -> None:
    since = time.monotonic()
    scene.cluster.haproxy.kill()
    time.sleep(HAPROXY_AWAY_SECONDS)
    scene.cluster.haproxy.start()
    scene.end()
    assert scene.list_refused() == []
    measure("HAProxy away for 3 s", scene.find_gap(since), HAPROXY_AWAY_SECONDS + 3.0)
    wait_until(scene.cluster.is_whole)
