"""The folders in which the processes of a service keep their metrics: none is left behind."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.process import SERVICE_KEY, list_children, run_serve
from tests.serving.test_shutdown import is_running


@pytest.fixture
def settings(dsn: str) -> dict[str, Any]:
    return {"database_url": dsn, "secret_key": SERVICE_KEY}


@pytest.fixture
def folder(place: Path) -> Path:
    """A directory for temporary files of this test alone: the data directory's parent."""
    return Path(tempfile.mkdtemp(dir=place))


def metrics_folders(folder: Path) -> set[Path]:
    return {path for path in folder.iterdir() if "metrics" in path.name}


def test_the_folder_of_a_killed_service_goes_at_the_next_start_and_that_of_a_living_one_stays(
    folder: Path, settings: dict[str, Any]
) -> None:
    with run_serve(folder / "living", workers=2, **settings) as living:
        kept = metrics_folders(folder)
        assert len(kept) == 1
        for workers in (1, 2):
            left = leave_metrics_folder(folder, settings)
            with run_serve(folder / "next", workers=workers, **settings):
                assert not left & metrics_folders(folder)
                assert kept < metrics_folders(folder) or workers == 1
            assert metrics_folders(folder) == kept
        assert httpx.get(f"{living.url}/v1/customers").status_code == 401
        # The other API process may have answered: its counts are in the folder after half a second.
        deadline = time.monotonic() + 60
        while "ledger_requests_total" not in httpx.get(f"{living.url}/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert metrics_folders(folder) == set()


def leave_metrics_folder(folder: Path, settings: dict[str, Any]) -> set[Path]:
    """The folder that a killed service has left: its processes have ended."""
    before = metrics_folders(folder)
    with run_serve(folder / "killed", workers=2, **settings) as killed:
        processes = list_children(killed.process.pid)
        killed.kill()
        wait_until_ended(processes)
    left = metrics_folders(folder) - before
    assert len(left) == 1
    return left


def wait_until_ended(processes: dict[int, str]) -> None:
    deadline = time.monotonic() + 60
    while any(map(is_running, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_folder_without_a_lock_goes_when_no_process_that_it_names_runs(
    folder: Path, settings: dict[str, Any]
) -> None:
    """Earlier releases made folders without one."""
    for name, pid in (("living", os.getpid()), ("killed", 2**22 + 1), ("odd", 10**30)):
        (folder / f"ledger-metrics-{name}").mkdir()
        (folder / f"ledger-metrics-{name}" / f"counter_{pid}.db").write_bytes(b"")
    (folder / "ledger-metrics-elsewhere").symlink_to(folder / "ledger-metrics-living")
    with run_serve(folder / "data", **settings):
        names = {path.name for path in metrics_folders(folder)}
    assert names == {"ledger-metrics-living", "ledger-metrics-elsewhere"}


def test_a_killed_process_leaves_no_gauge_in_the_metrics(folder: Path, settings: dict[str, Any]) -> None:
    with run_serve(folder / "data", workers=2, **settings) as service:

        def gauge_pids() -> set[int]:
            [metrics] = metrics_folders(folder)
            files = (re.fullmatch(r"gauge_livesum_(\d+)\.db", path.name) for path in metrics.iterdir())
            return {int(file[1]) for file in files if file}

        service.wait_until(lambda: len(gauge_pids()) >= 2)
        victim = min(gauge_pids() & set(list_children(service.process.pid)))
        os.kill(victim, signal.SIGKILL)
        service.wait_until(lambda: victim not in gauge_pids())


def test_the_gauges_of_the_database_are_rendered_once_each(folder: Path, settings: dict[str, Any]) -> None:
    """Not as each of the processes saw them when it was last asked."""
    with run_serve(folder / "data", workers=2, **settings) as service:
        for _ in range(2):
            lines = httpx.get(f"{service.url}/metrics").text.splitlines()
        names = ("ledger_tree_size", "ledger_unsealed_seconds", "ledger_sealing_stopped")
        found = [line.split()[0] for line in lines if line.startswith(names)]
        assert found == list(names)
        assert not [line for line in lines if line.startswith("ledger_lag_seconds") and "pid=" in line]
