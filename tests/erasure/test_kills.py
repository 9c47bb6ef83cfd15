"""kill -9 in the middle of each step of an erasure: after each restart it goes on, and it ends erased.

A trigger holds each step before its transaction commits, until the test lets it pass: so the process dies
there with its work undone. One erasure is killed in every step, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.api.service import ok
from tests.conftest import Cluster
from tests.erasure.answers import find_shown, read_all
from tests.erasure.markers import Person
from tests.erasure.stage import JOBS, PREVIEW, Stage, start_service
from tests.erasure.traces import plant
from tests.webhooks.receiver import Receiver, run_receiver, wait_until

STEPS_MIN = 12
HELD_SECONDS = 90.0
"""The erasure waits for deliveries that a killed process had claimed, until nobody can be sending them."""
HOLD_STEPS = """
CREATE FUNCTION hold_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('step'), hashtext(OLD.step));
    RETURN NEW;
END $$;
CREATE TRIGGER hold_step BEFORE UPDATE ON ledger.erasures FOR EACH ROW EXECUTE FUNCTION hold_step();
"""
LIST_STEPS = """
SELECT (regexp_matches(pg_get_constraintdef(oid), '''([a-z_]+)''::text', 'g'))[1] AS step
FROM pg_constraint WHERE conname = 'erasures_step'
"""
HOLD = "SELECT pg_advisory_lock(hashtext('step'), hashtext(%s))"
RELEASE = "SELECT pg_advisory_unlock(hashtext('step'), hashtext(%s))"
FIND_HELD = """
SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid AND a.datid = l.database
WHERE l.locktype = 'advisory' AND NOT l.granted AND a.datname = current_database()
AND l.classid = (hashtext('step')::bigint & 4294967295)::oid
AND l.objid = (hashtext(%s)::bigint & 4294967295)::oid
"""


class Killed:
    """An erasure whose processes were killed in each of its `steps`."""

    def __init__(self, dsn: str, folder: Path, receiver: Receiver) -> None:
        self._dsn = dsn
        self._folder = folder
        self._service = start_service(dsn, folder, {"LEDGER_WORKERS": "0"})
        self._http = httpx.Client(base_url=self._service.url, timeout=60)
        self.stage = Stage(self._service, receiver, self._http, folder)
        self.ada = plant(self.stage, Person("Ada"))
        self.ben = plant(self.stage, Person("Ben"))
        self.stage.wait_for_projections()
        self.killed: list[str] = []
        self.statuses: list[str] = []

    def run(self) -> None:
        """Erase Ada; kill the service in each step, once it has done the step's work but for the commit."""
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute(HOLD_STEPS)
            steps = [step for (step,) in conn.execute(LIST_STEPS) if step != "ended"]
            assert len(steps) >= STEPS_MIN
            conn.execute(HOLD, (steps[0],))
            job = self.stage.start_erasure(customers=[self.ada.customer])
            for step, following in zip(steps, [*steps[1:], None], strict=True):
                held = wait_until(partial(self._find_held, conn, step), seconds=HELD_SECONDS)
                self.killed.append(step)
                self._service.kill()
                for (pid,) in held:
                    conn.execute("SELECT pg_terminate_backend(%s)", (pid,))
                if following is not None:
                    conn.execute(HOLD, (following,))
                conn.execute(RELEASE, (step,))
                self._restart()
                self.statuses.append(self._read_status(job))
            self.stage.wait_for_status(job, "succeeded")
        self.ada, self.ben = self.ada.through(self.stage), self.ben.through(self.stage)

    @staticmethod
    def _find_held(conn: psycopg.Connection, step: str) -> list[tuple[int]]:
        """The server's processes that wait at the end of this step."""
        return conn.execute(FIND_HELD, (step,)).fetchall()

    def _restart(self) -> None:
        self._http.close()
        self._service = start_service(self._dsn, self._folder, {"LEDGER_WORKERS": "0"})
        self._http = httpx.Client(base_url=self._service.url, timeout=60)
        self.stage = self.stage.through(self._service, self._http)

    def _read_status(self, job: str) -> str:
        return str(ok(self.stage.raw.call("GET", f"{JOBS}/{job}", None, PREVIEW))["status"])

    def close(self) -> None:
        """Stop the service."""
        self._http.close()
        self._service.stop()


@pytest.fixture(scope="module")
def killed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    with cluster.create_database() as dsn, run_receiver() as receiver:
        killed = Killed(dsn, tmp_path_factory.mktemp("killed"), receiver)
        try:
            killed.run()
            yield killed
        finally:
            killed.close()


def test_every_step_was_killed_and_the_erasure_has_ended(killed: Killed) -> None:
    assert len(killed.killed) >= STEPS_MIN
    assert set(killed.statuses) <= {"redacting", "succeeded"}


def test_nothing_of_the_person_is_shown(killed: Killed) -> None:
    assert find_shown(read_all(killed.ada), killed.ada) == {}


def test_the_other_person_is_whole(killed: Killed) -> None:
    shown = find_shown(read_all(killed.ben), killed.ben)
    assert len(shown) > 100


def test_the_read_models_are_what_a_rebuild_makes(killed: Killed) -> None:
    killed.stage.service.run_command("projections", "verify", "--all")
