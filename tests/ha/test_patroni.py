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

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from tests.ha.cluster import LEASE_SECONDS, PatroniCluster
from tests.ha.conftest import Measure
from tests.ha.record import Request
from tests.ha.scenes import WRITES, LoadedService, run_loaded_service
from tests.webhooks.receiver import wait_until

SWITCHOVER_GAP_SECONDS = 4.0
KILL_GAP_SECONDS = LEASE_SECONDS + 5.0
ETCD_AWAY_SECONDS = LEASE_SECONDS + 5.0
HAPROXY_AWAY_SECONDS = 3.0

pytestmark = pytest.mark.timeout(240)


class Scene:
    """A service on a database of its own in the cluster, under load; lists are read from the standbys."""

    def __init__(self, cluster: PatroniCluster, loaded: LoadedService, dsn: str) -> None:
        self.cluster = cluster
        self.load = loaded.load
        self._loaded = loaded
        self._dsn = dsn

    def end(self) -> None:
        """Check all laws, once all is well again."""
        wait_until(self.cluster.is_whole)
        self._loaded.end(self._dsn)

    def list_refused(self) -> list[Request]:
        """What a bare client, which asks once, was answered other than with success."""
        return [request for request in self.load.record.requests if request.status != 200]

    def find_gap(self, since: float) -> float:
        """The longest time without a write since then, that before the first one included."""
        before = max(write.at for write in self.load.record.writes if write.at <= since)
        return self.load.record.find_gap(before)


@contextmanager
def create_database(cluster: PatroniCluster) -> Iterator[str]:
    """The name of a database of its own, which the owner `ledger` has."""
    maintenance = cluster.build_dsn("postgres", "PATRONI_SUPERUSER_PASSWORD", cluster.port, "postgres")
    name = f"ledger_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(maintenance, autocommit=True) as conn:
        conn.execute(SQL("CREATE DATABASE {} OWNER ledger").format(Identifier(name)))
    yield name
    cluster.wait_until_whole()
    with psycopg.connect(maintenance, autocommit=True) as conn:
        conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture
def scene(cluster_of_three: PatroniCluster) -> Iterator[Scene]:
    with create_database(cluster_of_three) as name:
        dsn = make_conninfo(cluster_of_three.dsn, dbname=name)
        replica_dsn = make_conninfo(cluster_of_three.replica_dsn, dbname=name)
        with run_loaded_service(dsn, workers=2, replica_url=replica_dsn) as loaded:
            yield Scene(cluster_of_three, loaded, dsn)


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


def test_a_lost_standby_is_not_noticed(scene: Scene, measure: Measure) -> None:
    standby = scene.cluster.get_standbys()[0]
    since = time.monotonic()
    standby.lose()
    scene.load.wait_for_writes(WRITES)
    standby.start()
    scene.cluster.wait_until_whole()
    scene.end()
    assert scene.list_refused() == []
    measure("kill -9 of a standby with its Patroni", scene.find_gap(since), 2.0)


def test_writes_go_on_without_etcd(scene: Scene, measure: Measure) -> None:
    primary = scene.cluster.get_primary()
    since = time.monotonic()
    scene.cluster.etcd.kill()
    while time.monotonic() < since + ETCD_AWAY_SECONDS:
        scene.load.wait_for_writes(10)
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
