"""`ledger erase` on a terminal: its question is answered by Ctrl-C, by a lost terminal, or never."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api.service import SERVICE_KEY, Service, ok
from tests.privacy.conftest import JOBS, PreviewCaller
from tests.serving.process import run_ledger
from tests.serving.terminal import TerminalProcess

WHY = ("--why", "request 4711")
END_SECONDS = 5.0
CTRL_C = "\x03"
Ask = Callable[[str], TerminalProcess]
Run = Callable[..., subprocess.CompletedProcess[str]]


def get_settings(service: Service) -> dict[str, Any]:
    return {"database_url": service.dsn, "secret_key": SERVICE_KEY, "test_clock": True}


@pytest.fixture
def run(service: Service, tmp_path: Path) -> Run:
    """Runs a command of `ledger` on the service's database, without a terminal."""
    return lambda *arguments: run_ledger(tmp_path / "data", *arguments, **get_settings(service))


@pytest.fixture
def ask(service: Service, tmp_path: Path) -> Ask:
    """Runs `ledger erase` on a terminal, up to its question."""

    def ask(customer: str) -> TerminalProcess:
        asking = TerminalProcess(tmp_path / "data", "erase", customer, *WHY, **get_settings(service))
        asking.await_question()
        return asking

    return ask


def find_job(preview: PreviewCaller) -> Any:
    """The only job of the account."""
    (job,) = ok(preview.get(JOBS))["data"]
    return job


def test_ctrl_c_ends_the_command_at_once_and_leaves_no_job_behind(preview: PreviewCaller, ask: Ask) -> None:
    customer = preview.customer(name="Ada")["id"]
    with ask(customer) as asking:
        assert find_job(preview)["status"] == "ready"
        asking.type(CTRL_C)
        assert asking.wait(seconds=END_SECONDS) != 0
    assert "Traceback" not in asking.shown
    assert find_job(preview)["status"] == "canceled"
    assert ok(preview.get(f"/v1/customers/{customer}"))["name"] == "Ada"


def test_a_lost_terminal_leaves_no_job_behind(preview: PreviewCaller, ask: Ask) -> None:
    with ask(preview.customer()["id"]) as asking:
        asking.hang_up()
        assert asking.wait(seconds=END_SECONDS) != 0
    assert find_job(preview)["status"] == "canceled"


def test_a_job_of_a_killed_command_is_shown_and_run(preview: PreviewCaller, ask: Ask, run: Run) -> None:
    customer = preview.customer(name="Ada")["id"]
    with ask(customer) as asking:
        asking.process.kill()
    job = preview.await_job(find_job(preview)["id"], "ready")["id"]
    refused = run("erase", customer, *WHY, "--yes")
    assert refused.stderr.endswith("See: ledger erase list\n"), refused
    assert f"redaction job {job}, which has a status of ready" in refused.stderr
    assert f"ledger erase run {job}" in run("erase", "show", job).stdout
    listed = run("erase", "list", "--status", "ready")
    assert job in listed.stdout
    assert "ledger erase run JOB, or ledger erase cancel JOB" in listed.stderr
    assert "--yes" in run("erase", "run", job).stderr, "it asks again"
    assert ok(preview.get(f"{JOBS}/{job}"))["status"] == "ready"
    ended = run("erase", "run", job, "--yes", "--wait", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["status"]) == (0, "succeeded"), ended
    assert ok(preview.get(f"/v1/customers/{customer}"))["name"] == "[redacted]"
    assert "has a status of succeeded" in run("erase", "run", job, "--yes").stderr
    assert "ledger erase run JOB" not in run("erase", "list", "--status", "succeeded").stderr


def test_a_job_of_a_killed_command_is_canceled(preview: PreviewCaller, ask: Ask, run: Run) -> None:
    customer = preview.customer(name="Ada")["id"]
    with ask(customer) as asking:
        asking.process.kill()
    job = find_job(preview)["id"]
    ended = run("erase", "cancel", job)
    assert (ended.returncode, "status      canceled" in ended.stdout) == (0, True), ended
    assert "has a status of canceled" in run("erase", "cancel", job).stderr
    assert "there is no redaction job prj_nothing" in run("erase", "cancel", "prj_nothing").stderr
    assert run("erase", customer, *WHY, "--dry-run").stdout.count("In the way") == 0
    assert ok(preview.get(f"/v1/customers/{customer}"))["name"] == "Ada"
