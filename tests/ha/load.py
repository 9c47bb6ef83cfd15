"""Clients that write and read while something fails, and remember every answer, for tests of failovers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import stripe

from ledger.accounts import INTERNAL_SCOPES
from tests.api.service import Registrar
from tests.ha.clients import BareClient, Client, SdkClient
from tests.ha.record import Record, Target, Write

SDK_CALL_SECONDS_MAX = 120.0
"""No call of the official client takes longer: seven requests and the pauses between them."""


class Load:
    """Running clients, and what they were answered so far."""

    def __init__(self, target: Target, clients: Sequence[Client], record: Record) -> None:
        self.target = target
        self.record = record
        self._clients = clients
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, pause_seconds: float) -> None:
        """Let the clients begin."""
        for client in self._clients:
            thread = threading.Thread(target=client.run, args=(self._stop, pause_seconds), daemon=True)
            thread.start()
            self._threads.append(thread)

    def wait_for_writes(self, count: int, *, seconds: float = 60.0) -> None:
        """Return once `count` more writes are acknowledged."""
        wanted, deadline = len(self.record.writes) + count, time.monotonic() + seconds
        while len(self.record.writes) < wanted:
            assert not self.record.crashes, self.record.crashes
            assert time.monotonic() < deadline, (
                f"{count - wanted + len(self.record.writes)} of {count} writes were acknowledged in "
                f"{seconds:g} s; {self.record.count_statuses()}, {self.record.failures[-1:]}"
            )
            time.sleep(0.02)

    def stop(self) -> None:
        """Let each client end its request, and then stop."""
        self._stop.set()
        deadline = time.monotonic() + SDK_CALL_SECONDS_MAX
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"a client still waits after {SDK_CALL_SECONDS_MAX:g} s"
        assert not self.record.crashes, self.record.crashes

    def resolve(self, *, seconds: float = 60.0) -> None:
        """Repeat each write whose outcome is unknown, under its key, until it is acknowledged: as an
        application does when all is well again."""
        deadline = time.monotonic() + seconds
        while self.record.unresolved:
            call = self.record.unresolved[0]
            try:
                id, _ = call.send()
            except stripe.StripeError:
                id = ""
            if id:
                self.record.writes.append(Write(id, call.mark, call.key, time.monotonic()))
                self.record.unresolved.pop(0)
            else:
                assert time.monotonic() < deadline, f"{call.mark or call.key} is refused for {seconds:g} s"
                time.sleep(0.2)


@contextmanager
def run_load(
    target: Target, *, sdk_clients: int = 4, bare_clients: int = 2, pause_seconds: float = 0.06
) -> Iterator[Load]:
    """Clients that run until the end of the block, or until they are stopped before."""
    record = Record()
    clients: list[Client] = [SdkClient(f"sdk{number}", target, record) for number in range(sdk_clients)]
    clients += [BareClient(f"bare{number}", target, record) for number in range(bare_clients)]
    load = Load(target, clients, record)
    load.start(pause_seconds)
    try:
        yield load
    finally:
        load._stop.set()


def open_target(url: str, dsn: str) -> Target:
    """A new account of the service at `url`, whose database is at `dsn`, with its keys."""
    registrar = Registrar(dsn)
    account = registrar.account()
    operator = registrar.key(account.id, "rk", scopes=INTERNAL_SCOPES)[1]
    registrar.close()
    return Target(url, account.id, account.secret, operator)
