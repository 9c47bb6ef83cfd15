"""A Patroni cluster for the whole run, and what is printed of it: the gaps that were measured, and the end of
every log when a test has failed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import find_memory_directory
from tests.ha.cluster import PatroniCluster, name_missing

MEASURED = pytest.StashKey[list[str]]()
Measure = Callable[[str, float, float], None]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if lines := config.stash[MEASURED]:
        terminalreporter.section("gaps in writes")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function, call: pytest.CallInfo[None]) -> Any:
    report = yield
    cluster = item.funcargs.get("cluster_of_three")
    if report.failed and isinstance(cluster, PatroniCluster):
        report.sections.append(("the cluster", cluster.describe()))
    return report


@pytest.fixture
def measure(pytestconfig: pytest.Config) -> Measure:
    """Prints a gap in writes at the end of the run, and asserts that it is within its limit, in seconds."""

    def measure(what: str, gap: float, limit: float) -> None:
        pytestconfig.stash[MEASURED].append(f"{what}: {gap:.2f} s (limit {limit:g} s)")
        assert gap <= limit, what

    return measure


@pytest.fixture(scope="session")
def patroni() -> Iterator[PatroniCluster]:
    """The cluster, whose processes and data are gone afterwards. Skips the test where there can be none."""
    reason = name_missing()
    if reason is not None:
        pytest.skip(reason)
    place = Path(tempfile.mkdtemp(prefix="ledger-ha-", dir=find_memory_directory()))
    place.chmod(0o711)
    cluster = PatroniCluster(place)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(place)


@pytest.fixture
def cluster_of_three(patroni: PatroniCluster) -> PatroniCluster:
    """The cluster, whole again after what the test before did to it."""
    patroni.wait_until_whole()
    return patroni
