"""A deployment of separate processes, as in production: API processes and a worker that can be stopped and
killed one by one.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from ledger.accounts import INTERNAL_SCOPES
from tests.api.answer_schemas import check_answers
from tests.api.service import SERVICE_KEY, Account, Registrar
from tests.forks import ForkedProcess, start_ledger
from tests.webhooks.receiver import wait_until

SETTINGS = {
    "LEDGER_SECRET_KEY": SERVICE_KEY,
    "LEDGER_TEST_CLOCK": "true",
    "LEDGER_ALERT_STALLED_SECONDS": "2",
    "LEDGER_ALERT_CRITICAL_SECONDS": "4",
    "LEDGER_VERIFY_PAUSE_SECONDS": "0",
    "LEDGER_WEBHOOK_RETRY_SECONDS_TEST": ",".join(["1"] * 60),
    "LEDGER_WEBHOOK_POLL_MS": "100",
}


class Deployment:
    """Its processes by name, its account, and its database."""

    def __init__(self, dsn: str, place: Path, names: tuple[str, ...]) -> None:
        self.dsn = dsn
        self._place = place
        self.ports = {name: _find_free_port() for name in names if name.startswith("api")}
        self.processes = {name: self._start(name) for name in names}
        registrar = Registrar(dsn)
        self.account: Account = registrar.account()
        self.operator = registrar.key(self.account.id, "rk", scopes=INTERNAL_SCOPES)[1]
        registrar.close()
        self.database = psycopg.connect(dsn, autocommit=True)
        self.http = self._connect(names[0])

    def _start(self, name: str) -> ForkedProcess:
        command = name.partition(" ")[0]
        environment = {"LEDGER_DATABASE_URL": self.dsn, "LEDGER_DATA_DIR": str(self._place)} | SETTINGS
        if name in self.ports:
            environment["LEDGER_PORT"] = str(self.ports[name])
        return start_ledger(
            [command],
            environment=os.environ | environment,
            directory=self._place,
            output=self._place / f"{name}.output",
            errors=self._place / f"{name}.log",
        )

    def _connect(self, name: str) -> httpx.Client:
        url = f"http://127.0.0.1:{self.ports[name]}"

        def is_ready() -> bool:
            assert self.processes[name].poll() is None, self.read_log(name)
            try:
                return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_ready)
        return httpx.Client(base_url=url, timeout=30, event_hooks=check_answers(url))

    def read_log(self, name: str) -> str:
        return (self._place / f"{name}.log").read_text()

    def send_signal(self, name: str, number: int) -> None:
        self.processes[name].send_signal(number)

    def use(self, name: str) -> None:
        """Ask this API process from now on."""
        self.http.close()
        self.http = self._connect(name)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """A call of the internal API."""
        sent = {"authorization": f"Bearer {self.operator}"}
        sent |= {name.replace("_", "-"): text for name, text in headers.items()}
        return self.http.request(method, f"/internal/v1{path}", json=body, headers=sent)

    def post(self, path: str, form: Any = None) -> Any:
        """A call of the public API, which must succeed."""
        answer = self.http.post(path, data=form or {}, auth=(self.account.secret, ""))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, query: Any, *values: object) -> list[tuple[Any, ...]]:
        return self.database.execute(query, values).fetchall()

    def list_keys(self, state: str = "active") -> set[str]:
        return {each["key"] for each in self.call("GET", f"/alerts?state={state}&limit=100").json()["data"]}

    def find_leader(self) -> str | None:
        """The name of the process that holds the lease."""
        ((holder, is_held),) = self.ask("SELECT holder, leased_until > now() FROM alerts.lease")
        pid = int(holder.split(":")[1]) if is_held else 0
        return next((name for name, process in self.processes.items() if process.pid == pid), None)

    def close(self) -> None:
        self.http.close()
        self.database.close()
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for name, process in self.processes.items():
            assert process.wait(20) in (0, -signal.SIGKILL), self.read_log(name)


@contextmanager
def run_deployment(dsn: str, place: Path, *names: str) -> Iterator[Deployment]:
    deployment = Deployment(dsn, place, names)
    try:
        yield deployment
    finally:
        deployment.close()


def measure(began_at: float) -> str:
    """How long ago this moment of the monotonic clock was, to be printed."""
    return f"{time.monotonic() - began_at:.1f} s"


def _find_free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
