"""Erasures that are under way when a standby takes over, and behind a pooler: they end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.erasure.records import Step
from tests.erasure.persons import Persons
from tests.ha.test_standby import name_both
from tests.postgres.poolers import needs_pgbouncer, open_pgbouncer
from tests.postgres.standby import run_replicated
from tests.serving.process import SERVICE_KEY, run_serve

STEPS = (Step.CLOSURE, Step.KEYS, Step.ROWS, Step.CERTIFICATE)
POOL_SIZE = 60
ERASED = [f"cus_{step}" for step in STEPS]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ha-erasures-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_erasures_in_each_step_end_after_a_promotion(place: Path) -> None:
    with run_replicated() as servers:
        persons = Persons(name_both(servers), place)
        persons.plant({ERASED[0]: 1000} | dict.fromkeys([*ERASED[1:], "cus_other"], 3))
        with run_serve(place / "service", database_url=persons.dsn, secret_key=SERVICE_KEY) as service:
            with persons.erase_as_far_as(ERASED, STEPS) as jobs:
                servers.fail_over()
            for job in jobs:
                persons.wait_until_erased(job)
            assert persons.list_keys(*ERASED) == []
            persons.check_certificate(jobs[0])
            persons.check_shown(service.url, persons.create_secret(), *ERASED)


@needs_pgbouncer
def test_erasures_by_command_and_by_api_end_behind_a_pooler(dsn: str, place: Path) -> None:
    """Two processes, and hardly more connections than both use when nothing is erased."""
    settings = {"pool_mode": "session", "default_pool_size": POOL_SIZE, "max_client_conn": 200}
    with open_pgbouncer(dsn, place / "pooler", **settings) as url:
        persons = Persons(url, place)
        persons.plant({"cus_1": 500, "cus_2": 500, "cus_other": 3})
        serving: dict[str, Any] = {"database_url": url, "secret_key": SERVICE_KEY}
        with run_serve(place / "one", **serving) as service, run_serve(place / "two", **serving):
            secret = persons.create_secret()
            jobs = [persons.request("cus_1"), persons.request_by_api(service.url, secret, "cus_2")]
            for job in jobs:
                persons.wait_until_erased(job)
            persons.check_shown(service.url, secret, "cus_1", "cus_2")
    assert persons.through(dsn).list_keys("cus_1", "cus_2") == []
