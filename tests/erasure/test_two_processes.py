"""Processes with warm caches show nothing of an erased person, also one that hears of nothing.

Three processes serve one database, and each has shown everything of the person before. The second is cut off
from NOTIFY: the server's process that would pass it on stands still. The third one is stopped from before the
erasure until after it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import httpx
import psycopg
import pytest

from tests.api.service import Service
from tests.conftest import Cluster
from tests.erasure.answers import find_shown, read_all, read_events, read_public
from tests.erasure.markers import Person
from tests.erasure.stage import Stage, start_service
from tests.erasure.traces import Traces, plant
from tests.webhooks.receiver import run_receiver

_LISTENERS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'ledger listen' AND pid <> ALL (%s)
"""


class Processes(NamedTuple):
    """A person's traces as each of three processes sees them."""

    first: Traces
    deaf: Traces
    stopped: Traces


def list_listeners(dsn: str, *, besides: list[int]) -> list[int]:
    """The server's processes that pass notifications on."""
    with psycopg.connect(dsn) as conn:
        return [pid for (pid,) in conn.execute(_LISTENERS, (besides,))]


@pytest.fixture(scope="module")
def processes(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """All have shown everything, then the person is erased through the first."""
    folder = tmp_path_factory.mktemp("processes")
    with cluster.create_database() as dsn, ExitStack() as stack:
        services: list[Service] = []
        listeners: list[list[int]] = []
        for name in ("first", "deaf", "stopped"):
            services.append(start_service(dsn, folder / name, {"LEDGER_WORKERS": "0"}))
            known = [pid for pids in listeners for pid in pids]
            listeners.append(list_listeners(dsn, besides=known))
        clients = [
            stack.enter_context(httpx.Client(base_url=service.url, timeout=60)) for service in services
        ]
        receiver = stack.enter_context(run_receiver())
        stage = Stage(services[0], receiver, clients[0], folder)
        traces = plant(stage, Person("Ada"))
        stage.wait_for_projections()
        seen = Processes(
            *(
                traces.through(stage.through(service, http))
                for service, http in zip(services, clients, strict=True)
            )
        )
        for each in seen:
            assert find_shown(read_all(each), each)
        assert listeners[1]
        for pid in listeners[1]:
            os.kill(pid, signal.SIGSTOP)
        services[2].send_signal(signal.SIGSTOP)
        try:
            stage.erase(customers=[traces.customer])
            yield seen
        finally:
            for pid in listeners[1]:
                os.kill(pid, signal.SIGCONT)
            services[2].send_signal(signal.SIGCONT)
            for service in services:
                service.stop()


def test_the_process_that_erased_shows_nothing(processes: Processes) -> None:
    assert find_shown(read_all(processes.first), processes.first) == {}


def test_one_that_gets_no_notification_shows_nothing(processes: Processes) -> None:
    assert find_shown(read_all(processes.deaf), processes.deaf) == {}


def test_one_that_was_stopped_meanwhile_shows_nothing_once_it_goes_on(processes: Processes) -> None:
    """Its very first answers come from caches that it filled before."""
    processes.stopped.stage.service.send_signal(signal.SIGCONT)
    first = [*read_public(processes.stopped), *read_events(processes.stopped)]
    assert find_shown(first, processes.stopped) == {}
    assert find_shown(read_all(processes.stopped), processes.stopped) == {}
