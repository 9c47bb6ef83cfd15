"""A service under load on a database that a test takes away and gives back; at the end all laws must hold."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ha import laws
from tests.ha.load import Load, open_target, run_load
from tests.ha.record import Request
from tests.ha.services import create_endpoint, run_ha_service
from tests.serving.process import ServeProcess, list_children
from tests.webhooks.receiver import Receiver, run_receiver

WRITES = 40
"""Before something fails, and after all is well again."""


class LoadedService:
    """A service, its clients, and a receiver of its webhooks. `request_seconds`: the limit of a request."""

    def __init__(
        self, service: ServeProcess, load: Load, receiver: Receiver, place: Path, request_seconds: float
    ) -> None:
        self.service = service
        self.load = load
        self._receiver = receiver
        self._place = place
        self._request_seconds = request_seconds
        self._processes = list_children(service.process.pid)

    def list_requests(self, since: float, until: float) -> list[Request]:
        """The requests of bare clients that were answered in this time."""
        return [
            each for each in self.load.record.requests if since <= each.started_at + each.seconds <= until
        ]

    def end(self, dsn: str) -> None:
        """Once all is well again: stop the clients, and check all laws on the database `dsn`."""
        self.load.wait_for_writes(WRITES)
        self.load.stop()
        self.load.resolve()
        scene = laws.Scene(
            self.load.target,
            self.load.record,
            dsn,
            self._place,
            self._receiver.requests,
            checkpoint_file=self._place / "checkpoint",
        )
        laws.check_laws(scene, request_seconds=self._request_seconds)
        assert laws.find_restarts(self._processes, list_children(self.service.process.pid)) == []
        assert laws.find_secrets(self.service.log) == []


@contextmanager
def run_loaded_service(
    dsn: str, *, owner_dsn: str | None = None, request_seconds: float = laws.REQUEST_SECONDS, **settings: Any
) -> Iterator[LoadedService]:
    """A service on the database `dsn` that clients have begun to load. `owner_dsn`: the same database
    directly, if `dsn` leads through something."""
    limit_ms = round(request_seconds * 1000)
    with tempfile.TemporaryDirectory(prefix="ha-scene-") as directory, run_receiver() as receiver:
        place = Path(directory)
        place.chmod(0o711)
        with run_ha_service(place, dsn, request_timeout_ms=limit_ms, **settings) as service:
            target = open_target(service.url, owner_dsn or dsn)
            create_endpoint(target, receiver)
            with run_load(target) as load:
                load.wait_for_writes(WRITES)
                yield LoadedService(service, load, receiver, place, request_seconds)
