"""A person is erased while two processes write to it, once and then again.

Each write is either acknowledged, and then it is in the log, or refused by the contract's error. Afterwards
nothing of what was written is shown, and no further write is taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, NamedTuple

import httpx
import pytest

from tests.api.service import ok
from tests.conftest import Cluster
from tests.erasure.answers import find_shown, read_all
from tests.erasure.markers import Person
from tests.erasure.stage import Stage, start_service
from tests.erasure.traces import Traces, plant
from tests.webhooks.receiver import run_receiver, wait_until

WRITES_BEFORE = 20
"""So many are acknowledged before the erasure begins."""
PAUSE_SECONDS = 0.05
"""Of each writer after each write: the erasure and the machine's other work need processors, too."""


class Write(NamedTuple):
    """A write and its answer. `position` in the log, of an acknowledged one."""

    path: str
    status: int
    body: Any
    position: int | None


class Writers:
    """One thread for each kind of write and process; each writes until the end, a new mark each time."""

    def __init__(self, traces: list[Traces]) -> None:
        self.writes: list[Write] = []
        self._traces = traces
        self._has_ended = threading.Event()

    def run(self, erase: Callable[[], object]) -> None:
        """Write; call `erase` once enough has been acknowledged; write a little longer."""
        kinds = (_update_customer, _update_charge, _create_charge, _open_session)
        with ThreadPoolExecutor(len(kinds) * len(self._traces)) as threads:
            runs = [threads.submit(self._write, kind, each) for kind in kinds for each in self._traces]
            try:
                wait_until(lambda: sum(each.status == 200 for each in self.writes) >= WRITES_BEFORE)
                erase()
                count = len(self.writes)
                wait_until(lambda: len(self.writes) > count + WRITES_BEFORE)
            finally:
                self._has_ended.set()
            for run in runs:
                run.result()

    def _write(self, kind: Callable[[Traces, int], tuple[str, dict[str, str]]], traces: Traces) -> None:
        number = 0
        while not self._has_ended.is_set():
            number += 1
            time.sleep(PAUSE_SECONDS)
            path, form = kind(traces, number)
            answer = traces.stage.raw.post(path, form)
            position = answer.headers.get("ledger-position")
            self.writes.append(
                Write(path, answer.status_code, answer.json(), int(position) if position else None)
            )


def _update_customer(traces: Traces, number: int) -> tuple[str, dict[str, str]]:
    form = {"metadata[note]": traces.mark(f"note {number}"), "name": traces.mark(f"name {number}")}
    return f"/v1/customers/{traces.customer}", form


def _update_charge(traces: Traces, number: int) -> tuple[str, dict[str, str]]:
    return f"/v1/charges/{traces.ids['charges'][0]}", {"description": traces.mark(f"words {number}")}


def _create_charge(traces: Traces, number: int) -> tuple[str, dict[str, str]]:
    form = {"amount": "2000", "currency": "usd", "customer": traces.customer}
    return "/v1/charges", {**form, "description": traces.mark(f"order {number}")}


def _open_session(traces: Traces, _: int) -> tuple[str, dict[str, str]]:
    form = {"customer": traces.customer, "components[buy_button][enabled]": "true", "expand[]": "customer"}
    return "/v1/customer_sessions", form


class Outcome(NamedTuple):
    """What was written while the person was erased, and twice the job."""

    traces: Traces
    writes: list[Write]
    second_job: str


@pytest.fixture(scope="module")
def outcome(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("writes")
    with cluster.create_database() as dsn, ExitStack() as stack:
        services = [start_service(dsn, folder / name, {"LEDGER_WORKERS": "0"}) for name in ("one", "two")]
        clients = [stack.enter_context(httpx.Client(base_url=each.url, timeout=60)) for each in services]
        stage = Stage(services[0], stack.enter_context(run_receiver()), clients[0], folder)
        traces = plant(stage, Person("Ada"))
        writers = Writers([traces, traces.through(stage.through(services[1], clients[1]))])
        writers.run(lambda: stage.erase(customers=[traces.customer]))
        stage.wait_for_projections()
        yield Outcome(traces, writers.writes, stage.erase(customers=[traces.customer]))
        for service in services:
            service.stop()


def test_each_write_is_acknowledged_or_refused(outcome: Outcome) -> None:
    for write in outcome.writes:
        if write.status != 200:
            assert write.status == 400, write
            assert write.body["error"]["type"] == "invalid_request_error", write
            assert outcome.traces.person.stem not in str(write.body), write


def test_no_acknowledged_write_is_lost(outcome: Outcome) -> None:
    positions = [write.position for write in outcome.writes if write.status == 200 and write.position]
    assert len(positions) >= WRITES_BEFORE
    for position in positions:
        ok(outcome.traces.stage.operator.get(f"/audit/log/{position}"))
    created = {
        write.body["id"] for write in outcome.writes if write.path == "/v1/charges" and write.status == 200
    }
    for charge in created:
        assert ok(outcome.traces.stage.raw.get(f"/v1/charges/{charge}"))["amount"] == 2000


def test_what_was_written_meanwhile_is_erased_too(outcome: Outcome) -> None:
    for write in outcome.writes:
        if write.path == "/v1/charges" and write.status == 200:
            outcome.traces.keep("charges", write.body["id"])
    assert find_shown(read_all(outcome.traces), outcome.traces) == {}
    outcome.traces.stage.service.run_command("projections", "verify", "--all")


def test_no_write_is_taken_afterwards(outcome: Outcome) -> None:
    for kind in (_update_customer, _update_charge, _create_charge, _open_session):
        path, form = kind(outcome.traces, 0)
        error = outcome.traces.stage.raw.post(path, form).json()["error"]
        assert error["type"] == "invalid_request_error", error
        assert "redact" in error["message"].lower(), error


def test_erasing_again_succeeds_with_nothing_left_to_do(outcome: Outcome) -> None:
    assert outcome.traces.stage.wait_for_status(outcome.second_job, "succeeded") == "succeeded"
