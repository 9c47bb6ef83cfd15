"""Listeners of a service with two API processes: over the death of both, and when the service stops."""

from __future__ import annotations

import os
import signal
import socket
import string
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import stripe
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from ledger.wire.thin_events import to_thin_id
from tests.api.conftest import account, client, http, parse_log, raw, registrar  # noqa: F401  # fixtures
from tests.api.service import Account, Caller, Service, create_client, ok
from tests.conftest import Cluster
from tests.listeners.client import Listener, Session
from tests.webhooks.receiver import wait_until

# ruff: noqa: F811
BURST = 250
STOP_SECONDS = 7.0
UPDATES = 10
LONG_TEXTS = (
    "access_activity_log", "cancellation_policy_disclosure", "cancellation_rebuttal",
    "duplicate_charge_explanation", "product_description", "refund_policy_disclosure",
    "refund_refusal_explanation",
)  # fmt: skip


@pytest.fixture(scope="module")
def service(cluster: Cluster) -> Iterator[Service]:
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        running = Service(
            dsn,
            Path(place),
            LEDGER_WORKERS="2",
            LEDGER_STRIPE_CLI_CONNECTION_SECONDS="2",
            LEDGER_PUBLIC_URL="https://ledger.example.com",  # listeners connect where they have asked
        )
        yield running
        running.stop()


def list_processes(service: Service) -> set[int]:
    """The API processes to which listeners have connected."""
    return {entry["pid"] for entry in parse_log(service.log) if entry["event"] == "listener_connected"}


def test_each_process_serves_listeners_whichever_made_the_event(
    service: Service, account: Account, raw: Caller
) -> None:
    with ExitStack() as stack:
        listeners: list[Listener] = []
        while len(list_processes(service)) < 2:
            assert len(listeners) < 30
            session = Session(service.url, account.secret)
            assert session.answer["reconnect_delay"] == 2
            listeners.append(stack.enter_context(session.connect()))
            listeners[-1].socket.ping().wait(5)
        raw.customer()
        assert len({tuple(listener.receive_ids(1)) for listener in listeners}) == 1


def receive_all(session: Session, count: int) -> list[str]:
    """Ids of `count` Events that a listener gets, in order of the first time, as the CLI does: it is back a
    moment after its connection has ended, however it ended."""
    received: dict[str, int] = {}
    deadline = time.monotonic() + 60
    while len(received) < count:
        assert time.monotonic() < deadline, len(received)
        try:
            with session.connect() as listener:
                while len(received) < count:
                    (message,) = listener.receive(1)
                    received[message.id] = received.get(message.id, 0) + 1
        except (ConnectionClosed, InvalidHandshake, OSError):
            time.sleep(0.05)
    return list(received)


def test_no_event_is_lost_when_all_processes_are_killed(
    service: Service, account: Account, client: stripe.StripeClient
) -> None:
    """Neither a snapshot nor a thin event."""
    session = Session(service.url, account.secret, **{"websocket_features[]": ["webhooks", "v2_events"]})
    patient = create_client(service, account.secret, max_network_retries=8)
    with ThreadPoolExecutor() as pool:
        received = pool.submit(receive_all, session, 2 * BURST)
        made = [pool.submit(patient.v1.customers.create, {"name": str(number)}) for number in range(BURST)]
        wait_until(lambda: sum(each.done() for each in made) > BURST // 3)
        for process in list_processes(service):
            os.kill(process, signal.SIGKILL)
        customers = {each.result().id for each in made}
    events = list(client.v1.events.list({"limit": 100}).auto_paging_iter())
    assert {event.data.object["id"] for event in events} == customers
    snapshots = {event.id for event in events}
    assert set(received.result()) == snapshots | {to_thin_id(event_id) for event_id in snapshots}


def test_a_process_that_stops_sends_listeners_to_another_and_waits_for_none_that_does_not_read(
    service: Service, account: Account, raw: Caller
) -> None:
    session, stuck_session = (Session(service.url, account.secret) for _ in range(2))
    with (
        session.connect() as listener,
        stuck_session.connect(sock=connect_without_buffer(service), max_queue=1),
    ):
        dispute = raw.dispute()["id"]
        for letter in string.ascii_letters[:UPDATES]:  # more than the connection holds
            texts = {f"evidence[{field}]": letter * 20_000 for field in LONG_TEXTS} | {"submit": "false"}
            ok(raw.post(f"/v1/disputes/{dispute}", texts))
        made = raw.events()
        before = listener.receive_ids(len(made))
        processes = list_processes(service)
        started = time.monotonic()
        for process in processes:
            with suppress(ProcessLookupError):  # those of an earlier test are gone
                os.kill(process, signal.SIGTERM)
        assert listener.wait_closed() == 1012
        wait_until(lambda: not any(is_running(process) for process in processes))
        assert time.monotonic() - started < STOP_SECONDS
    raw.customer()
    (after,) = receive_all(session, 1)
    assert after not in before


def connect_without_buffer(service: Service) -> socket.socket:
    """A connection whose receiving end holds little, until it is read from."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", service.port))
    return connection


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
