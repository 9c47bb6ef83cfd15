"""A primary whose commits wait for one standby: the standby goes away and comes back, and takes over."""

from __future__ import annotations

import time

import httpx
import pytest
from psycopg.conninfo import make_conninfo

from tests.ha.conftest import Measure
from tests.ha.scenes import run_loaded_service
from tests.postgres.standby import HOST, ReplicatedServers, Server, run_replicated

REQUEST_SECONDS = 2.5
AWAY_SECONDS = 4.0
"""Longer than the limit of a request: some end with 503. The official client's retries last longer."""
SETTLE_SECONDS = 0.5
"""After this time every answer has been received that was on its way."""
CANCEL_SECONDS = 0.3
CANCEL_WAITS = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
PROMOTION_GAP_SECONDS = 4.0

pytestmark = pytest.mark.timeout(240)


def name_both(servers: ReplicatedServers) -> str:
    """A connection string that leads to whichever of the two is the primary."""
    ports = f"{servers.primary.port},{servers.standby.port}"
    return make_conninfo(host=f"{HOST},{HOST}", port=ports, dbname="ledger", user="postgres")


def cancel_waits(servers: ReplicatedServers, seconds: float) -> None:
    """Cancel for so long whatever waits for the standby, as an operator may who sees only that it hangs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        servers.primary.execute(CANCEL_WAITS)
        time.sleep(CANCEL_SECONDS)


def read_head(server: Server) -> int:
    """The last position that a session of this server sees."""
    return int(str(server.fetch_value("SELECT max(notification_id) FROM ledger.events", "ledger")))


def test_nothing_is_acknowledged_while_the_standby_is_away_and_reads_go_on() -> None:
    with (
        run_replicated() as servers,
        run_loaded_service(servers.primary.dsn(), request_seconds=REQUEST_SECONDS) as scene,
    ):
        servers.pause_standby()
        time.sleep(SETTLE_SECONDS)
        began, acknowledged = time.monotonic(), len(scene.load.record.writes)
        time.sleep(AWAY_SECONDS)
        assert len(scene.load.record.writes) == acknowledged
        requests = scene.list_requests(began, time.monotonic())
        assert {each.status for each in requests if each.method == "GET"} <= {200}
        page = httpx.get(f"{scene.service.url}/v1/customers", auth=(scene.load.target.secret, ""))
        assert page.json()["data"]
        assert 503 in {each.status for each in requests if each.method == "POST"}
        servers.resume_standby()
        scene.end(servers.primary.dsn())


def test_what_no_standby_has_is_lost_and_was_never_acknowledged() -> None:
    """While the standby is away an operator cancels what waits for it, which makes it visible on the primary
    without any standby having it. Then the primary dies, and the standby takes over without it."""
    with (
        run_replicated() as servers,
        run_loaded_service(name_both(servers), request_seconds=REQUEST_SECONDS) as scene,
    ):
        servers.stop_standby()
        cancel_waits(servers, AWAY_SECONDS)
        visible = read_head(servers.primary)
        servers.primary.crash()
        servers.standby.start()
        assert read_head(servers.standby) < visible, "nothing was at stake"
        servers.promote_standby()
        scene.end(servers.standby.dsn())


def test_a_promotion_loses_no_webhook_and_costs_no_client_an_error(measure: Measure) -> None:
    with run_replicated() as servers, run_loaded_service(name_both(servers)) as scene:
        began = time.monotonic()
        servers.fail_over()
        scene.end(servers.standby.dsn())
        gap = scene.load.record.find_gap(since=began - 1.0)
        measure("promotion of a standby", gap, PROMOTION_GAP_SECONDS)
