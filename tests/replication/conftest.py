"""A service on a primary whose commits wait for a standby, and what it has acknowledged."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from ledger.accounts import INTERNAL_SCOPES
from tests.api.service import SERVICE_KEY, Caller, Registrar, Service
from tests.postgres.standby import ReplicatedServers, run_replicated, wait_until
from tests.serving.process import run_ledger

_WAITING = """
SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'ledger {}'
"""


class Stage:
    """The service, its servers, and callers of one account: `caller` of the public API, `operator` of the
    internal one. Requests that wait are sent in threads."""

    def __init__(
        self, servers: ReplicatedServers, service: Service, http: httpx.Client, data_dir: Path
    ) -> None:
        self.servers = servers
        self.service = service
        self.data_dir = data_dir
        registrar = Registrar(service.dsn)
        account = registrar.account()
        self.account = account.id
        self.caller = Caller(http, account.secret)
        self.operator = Caller(http, registrar.key(account.id, "rk", scopes=INTERNAL_SCOPES)[1])
        registrar.close()
        self._threads = ThreadPoolExecutor(16)

    def begin(self, send: Any, *arguments: Any, **options: Any) -> Future[httpx.Response]:
        """Send a request that is not answered at once."""
        return self._threads.submit(send, *arguments, **options)

    def wait_for_standby(self, name: str) -> object:
        """Wait until a commit of the connection `name` waits for the standby; its process id."""
        wait_until(lambda: self.servers.primary.fetch_value(_WAITING.format(name)))
        return self.servers.primary.fetch_value(_WAITING.format(name))

    def end_wait(self, name: str, how: Literal["cancel", "terminate"] = "cancel") -> None:
        """End the wait for the standby of the connection `name`, or the connection, as an operator may."""
        pid, primary = self.wait_for_standby(name), self.servers.primary
        primary.fetch_value(f"SELECT pg_{how}_backend({pid})")
        wait_until(lambda: primary.fetch_value(_WAITING.format(name)) != pid)

    def begin_command(self, *arguments: str) -> Future[subprocess.CompletedProcess[str]]:
        """Run `ledger` in a shell beside the service."""
        settings: dict[str, Any] = {"database_url": self.service.dsn, "secret_key": SERVICE_KEY}
        return self._threads.submit(run_ledger, self.data_dir, *arguments, **settings)

    def post_internal(self, path: str, body: dict[str, Any], idempotency_key: str) -> httpx.Response:
        """The answer of the internal API."""
        headers = {"authorization": f"Bearer {self.operator.key}", "idempotency-key": idempotency_key}
        return self.operator.http.post(f"/internal/v1/{path}", json=body, headers=headers)

    def leave_unreplicated(self, path: str, form: dict[str, Any], **headers: str) -> httpx.Response:
        """The answer to a change whose wait for the standby an operator ends: the primary then shows what no
        standby has. The standby stays paused."""
        self.servers.pause_standby()
        change = self.begin(self.caller.post, path, form, **headers)
        self.end_wait("journal")
        return change.result()


@pytest.fixture(scope="module")
def servers() -> Iterator[ReplicatedServers]:
    with run_replicated() as servers:
        yield servers


@pytest.fixture(scope="module")
def stage(servers: ReplicatedServers) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as data_dir:
        service = Service(
            servers.primary.dsn(), Path(data_dir), LEDGER_LIST_WAIT_MS="100", LEDGER_SEAL_MS="50"
        )
        with httpx.Client(base_url=service.url, timeout=60) as http:
            yield Stage(servers, service, http, Path(data_dir))
        servers.resume_standby()
        service.stop()


@pytest.fixture(autouse=True)
def standby(servers: ReplicatedServers) -> Iterator[None]:
    """Whatever a test does with the standby, it is there again for the next one."""
    yield
    servers.resume_standby()
    wait_until(servers.is_replicated)
