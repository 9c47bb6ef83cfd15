"""Backups that are taken while persons are erased, one in each of some steps, and restored elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ledger.erasure.records import Step
from tests.conftest import Cluster
from tests.erasure.persons import Persons
from tests.serving.process import SERVICE_KEY, run_serve

STEPS = (Step.CLOSURE, Step.KEYS, Step.ROWS, Step.CERTIFICATE)
"""Before anything is done, before the keys are destroyed, after that, and before the certificate."""
ERASED = [f"cus_{step}" for step in STEPS]
LATER = ["cus_closure", "cus_keys"]
"""Whose keys the backup has."""


class Backups(NamedTuple):
    """The logs of before the erasures, and of their middle; the keys of each are beside it."""

    persons: Persons
    before: Path
    middle: Path
    certificates: list[str]


@pytest.fixture(scope="module")
def backups(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backups]:
    """The erasures have ended in the database that they are of."""
    folder = tmp_path_factory.mktemp("backups")
    folder.chmod(0o755)
    before, middle = folder / "before.dump", folder / "middle.dump"
    with cluster.create_database() as dsn:
        persons = Persons(dsn, folder)
        persons.plant(dict.fromkeys([*ERASED, "cus_other"], 3))
        with run_serve(folder / "service", database_url=dsn, secret_key=SERVICE_KEY) as service:
            service.wait_until(persons.has_signing_key)
            persons.run("backup", str(before))
            with persons.erase_as_far_as(ERASED, STEPS) as jobs:
                persons.run("backup", str(middle))
            for job in jobs:
                persons.wait_until_erased(job)
            with ThreadPoolExecutor(2) as threads:
                certify = partial(persons.run, "erase", "certificate", "--out", str(folder))
                list(threads.map(certify, jobs))
        assert persons.list_keys(*ERASED) == []
        yield Backups(persons, before, middle, [str(folder / f"{job}.certificate") for job in jobs])


@pytest.fixture
def copy(backups: Backups, cluster: Cluster) -> Iterator[Persons]:
    """The persons in a new database."""
    with cluster.create_database(template="template0") as dsn:
        yield backups.persons.through(dsn)


def activate(copy: Persons) -> list[Any]:
    """Make the copy the database that acts. Returns the ids of its erasures once they have ended."""
    copy.run("webhooks", "resume", "--reason", "the original is lost", "--yes")
    jobs = copy.list_erasures()
    for job in jobs:
        copy.wait_until_erased(job)
    return jobs


def test_erasures_of_the_backup_end_by_themselves(backups: Backups, copy: Persons) -> None:
    copy.run("restore", str(backups.middle))
    assert sorted(copy.list_keys(*ERASED)) == LATER
    copy.release()
    place = backups.middle.parent / "middle"
    with run_serve(place, database_url=copy.dsn, secret_key=SERVICE_KEY) as service:
        secret = copy.create_secret()
        copy.check_shown(service.url, secret, *ERASED)
        jobs = activate(copy)
        assert len(jobs) == len(ERASED)
        copy.check_shown(service.url, secret, *ERASED)
        copy.check_certificate(jobs[0])
    assert copy.list_keys(*ERASED) == []


def test_erasures_that_only_the_keys_know_of_are_requested_again(backups: Backups, copy: Persons) -> None:
    """The log is older than they are, the keys are from their middle: nobody would end them."""
    keys = backups.middle.with_name(f"{backups.middle.name}.keys")
    assert "was under way" in copy.run("restore", str(backups.before), "--keys", str(keys))
    assert sorted(copy.list_keys(*ERASED)) == LATER
    place = backups.middle.parent / "before"
    with run_serve(place, database_url=copy.dsn, secret_key=SERVICE_KEY) as service:
        secret = copy.create_secret()
        copy.check_shown(service.url, secret, *ERASED)
        assert "4 erasures requested" in copy.run("erase", "replay", *backups.certificates, "--yes")
        assert len(copy.list_erasures()) == len(ERASED)
        assert "0 erasures requested" in copy.run("erase", "replay", *backups.certificates, "--yes")
        activate(copy)
        copy.check_shown(service.url, secret, *ERASED)
    assert copy.list_keys(*ERASED) == []
