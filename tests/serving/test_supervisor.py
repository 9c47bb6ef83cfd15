"""The supervisor alone, with tasks that write down what happens to them."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger import logs
from ledger.cli.service.processes import Supervisor, Task
from tests.forks import ForkedProcess

WAIT_SECONDS = 60.0


def write(file: str, text: str) -> None:
    with Path(file).open("a") as stream:
        stream.write(f"{text} {os.getpid()}\n")


def work(file: str, name: str, end_seconds: float) -> None:
    """Start; end so long after SIGTERM."""

    def end(*_: object) -> None:
        time.sleep(end_seconds)
        write(file, f"{name} ends")
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    write(file, f"{name} starts")
    while True:
        signal.pause()


def supervise(file: str, end_seconds: float, api_end_seconds: float) -> None:
    """The supervisor of an API process, which takes so long to end, and a worker, which is listed first."""
    tasks = [
        Task("ledger worker", lambda: work(file, "worker", 0), ends_last=True),
        Task("ledger api", lambda: work(file, "api", api_end_seconds)),
    ]
    Supervisor(tasks).run(
        end_seconds=end_seconds,
        stop_listening=lambda: write(file, "refuse connections"),
        forget=lambda pid: write(file, f"forget {pid} by"),
    )


Read = Callable[[], list[str]]
Start = Callable[[float, float], tuple[ForkedProcess, Read]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a supervisor and returns it, with a function that reads what was written."""
    processes: list[ForkedProcess] = []
    file = tmp_path / "happened"

    def start_one(end_seconds: float, api_end_seconds: float) -> tuple[ForkedProcess, Read]:
        processes.append(
            ForkedProcess(supervise, str(file), end_seconds, api_end_seconds, output=tmp_path / "output")
        )
        return processes[0], lambda: file.read_text().splitlines() if file.exists() else []

    yield start_one
    for process in processes:
        process.kill()


def wait_for(read: Read, text: str, count: int = 1) -> list[int]:
    """The ids of the processes that have written this, once they are `count`."""
    deadline = time.monotonic() + WAIT_SECONDS
    while len(found := [line.split()[-1] for line in read() if line.startswith(text)]) < count:
        assert time.monotonic() < deadline, read()
        time.sleep(0.01)
    return [int(pid) for pid in found]


def test_the_worker_ends_after_the_last_request(start: Start) -> None:
    process, read = start(10, 0.3)
    wait_for(read, "api starts")
    wait_for(read, "worker starts")
    process.terminate()
    assert process.wait(WAIT_SECONDS) == 0
    ended = [line.rpartition(" ")[0] for line in read()]
    assert ended[-3:] == ["refuse connections", "api ends", "worker ends"]


def test_a_process_that_does_not_end_in_time_is_killed(start: Start) -> None:
    process, read = start(0.5, 60)
    [api] = wait_for(read, "api starts")
    process.terminate()
    assert process.wait(WAIT_SECONDS) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(api, 0)


def test_each_process_that_dies_is_replaced_and_forgotten(start: Start, tmp_path: Path) -> None:
    process, read = start(10, 0)
    for text in ("worker starts", "api starts"):
        [first] = wait_for(read, text)
        os.kill(first, signal.SIGKILL)
        assert len(set(wait_for(read, text, count=2))) == 2
        assert wait_for(read, f"forget {first}") == [process.pid]
        assert re.search(rf"process_died.*{first}.*SIGKILL", (tmp_path / "output").read_text())


def fail() -> None:
    raise ValueError("sk_test_secret")


def supervise_failure(file: str) -> None:
    logs.configure("info")
    Supervisor([Task("ledger worker", fail)]).run(
        end_seconds=1, stop_listening=lambda: None, forget=lambda pid: write(file, f"forget {pid} by")
    )


def test_a_process_that_fails_is_two_lines_of_the_log(tmp_path: Path) -> None:
    """An exception's text may hold personal data: it is not logged."""
    file, errors = tmp_path / "happened", tmp_path / "errors"
    process = ForkedProcess(supervise_failure, str(file), output=tmp_path / "output", errors=errors)
    try:
        wait_for(lambda: file.read_text().splitlines() if file.exists() else [], "forget")
    finally:
        process.kill()
        process.wait()
    failed, died = (json.loads(line) for line in errors.read_text().splitlines()[:2])
    assert (failed["event"], failed["process"], failed["exception"]) == (
        "process_failed",
        "ledger worker",
        "ValueError",
    )
    assert (died["event"], died["process"], died["reason"]) == (
        "process_died",
        "ledger worker",
        "exit status 1",
    )
    assert failed["pid"] == died["process_id"] != died["pid"] == process.pid
    assert "sk_test" not in errors.read_text()


def test_no_process_outlives_a_supervisor_that_is_killed(start: Start) -> None:
    process, read = start(10, 0)
    started = wait_for(read, "worker starts") + wait_for(read, "api starts")
    process.kill()
    assert sorted(wait_for(read, "worker ends") + wait_for(read, "api ends")) == sorted(started)
