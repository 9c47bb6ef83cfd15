"""A replica that answers lists, Events and audits: paused, away and back, while clients write and read."""

from __future__ import annotations

import re
import time

import httpx
import pytest

from tests.ha.scenes import WRITES, LoadedService, run_loaded_service
from tests.postgres.standby import run_replicated

PAUSED_SECONDS = 2.0
_READS = re.compile(r'^ledger_replica_reads_total\{.*outcome="(\w+)".*\} (\d+)', re.MULTILINE)

pytestmark = pytest.mark.timeout(240)


def count_reads(scene: LoadedService) -> dict[str, int]:
    """How many reads had each outcome."""
    metrics = httpx.get(f"{scene.service.url}/metrics").text
    return {outcome: int(count) for outcome, count in _READS.findall(metrics)}


def test_no_client_notices_a_replica_that_is_paused_or_away() -> None:
    """A client that reads what it wrote, and its lists, would notice: `tests.ha.load` records each
    contradiction."""
    with run_replicated() as servers:
        servers.set_synchronous("")
        with run_loaded_service(servers.primary.dsn(), replica_url=servers.standby.dsn()) as scene:
            assert count_reads(scene)["answered"] > 0
            servers.standby.execute("SELECT pg_wal_replay_pause()")
            answered = count_reads(scene)["answered"]
            time.sleep(PAUSED_SECONDS)
            scene.load.wait_for_writes(WRITES)
            behind = count_reads(scene)
            assert behind["behind"] + behind["not_asked"] > 0
            servers.standby.execute("SELECT pg_wal_replay_resume()")
            scene.service.wait_until(lambda: count_reads(scene)["answered"] > answered)
            servers.standby.crash()
            scene.load.wait_for_writes(WRITES)
            servers.standby.start()
            scene.end(servers.primary.dsn())
            statuses = scene.load.record.count_statuses()
            assert set(statuses) == {200}, "a replica costs no request"
