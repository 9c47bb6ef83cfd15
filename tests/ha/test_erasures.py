"""An erasure is under way while a standby takes over: the new primary's processes end it; and one behind a
pooler, whose connections are just enough."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger.erasure.records import Step
from tests.erasure.persons import Persons
from tests.ha.test_standby import name_both
from tests.postgres.standby import run_replicated
from tests.serving.process import SERVICE_KEY, run_serve

STEPS = (Step.CLOSURE, Step.KEYS, Step.ROWS, Step.CERTIFICATE)
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
            with persons.keep_in_steps() as keep:
                for customer, step in zip(ERASED, STEPS, strict=True):
                    keep(customer, step)
                with ThreadPoolExecutor(2) as threads:
                    jobs = list(threads.map(persons.request, ERASED))
                for job, step in zip(jobs, STEPS, strict=True):
                    persons.wait_until_kept(job, step)
                servers.fail_over()
            for job in jobs:
                persons.wait_until_erased(job)
            assert persons.list_keys(*ERASED) == []
            persons.check_certificate(jobs[0])
            persons.check_shown(service.url, persons.create_secret(), *ERASED)
