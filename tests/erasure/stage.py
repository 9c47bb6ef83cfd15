"""A service with an account whose Events go to a receiver, and redaction jobs as an integrator runs them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import httpx
import psycopg

from ledger.accounts import INTERNAL_SCOPES
from tests.api.service import Account, Caller, Registrar, Service, ok
from tests.internal.conftest import InternalClient
from tests.webhooks.receiver import Receiver, ScriptedResponse, run_receiver

PREVIEW = {"stripe-version": "2026-09-30.preview"}
JOBS = "/v1/privacy/redaction_jobs"
ERASED_SECONDS = 120.0
REFUSED_PATH, ACCEPTED_PATH = "/refused", "/accepted"


class Stage:
    """A running service, an account of it, and a receiver that sends back whatever it is sent."""

    def __init__(self, service: Service, receiver: Receiver, http: httpx.Client, folder: Path) -> None:
        self.service = service
        self.receiver = receiver
        self.http = http
        self.folder = folder
        self.registrar = Registrar(service.dsn)
        self.account: Account = self.registrar.account()
        self.raw = Caller(http, self.account.secret)
        scopes = (*INTERNAL_SCOPES, "rak_dispute_read")
        self.operator = InternalClient(http, self.registrar.key(self.account.id, "rk", scopes=scopes)[1])
        for path in (REFUSED_PATH, ACCEPTED_PATH):
            status = 500 if path == REFUSED_PATH else 200
            receiver.scripts[path] = [ScriptedResponse(status, body=None)]
            form = {"url": receiver.url(path), "enabled_events[]": "*"}
            ok(self.raw.post("/v1/webhook_endpoints", form))

    def through(self, service: Service, http: httpx.Client) -> Stage:
        """The same stage, seen through another process."""
        other = copy(self)
        other.service, other.http = service, http
        other.raw = Caller(http, self.account.secret)
        other.operator = InternalClient(http, self.operator.key)
        return other

    def wait_for_projections(self) -> None:
        """Wait until lists and Events show all that has been written."""
        self.raw.read_list("/v1/customers")
        self.raw.events()

    def start_erasure(self, **ids: Sequence[str]) -> str:
        """Have a redaction job of objects, by their plural, validated and run. Returns its id."""
        objects = {f"objects[{plural}][{n}]": each for plural in ids for n, each in enumerate(ids[plural])}
        form = {**objects, "validation_behavior": "error"}
        job = ok(self.raw.call("POST", JOBS, form, PREVIEW))["id"]
        assert self.wait_for_status(job, "ready", "failed") == "ready", self.list_errors(job)
        ok(self.raw.call("POST", f"{JOBS}/{job}/run", None, PREVIEW))
        return str(job)

    def wait_for_status(self, job: str, *statuses: str) -> str:
        """The job's status once it is one of these."""
        deadline = time.monotonic() + ERASED_SECONDS
        while True:
            status = str(ok(self.raw.call("GET", f"{JOBS}/{job}", None, PREVIEW))["status"])
            if status in statuses:
                return status
            assert time.monotonic() < deadline, (status, self._describe_erasures())
            time.sleep(0.05)

    def _describe_erasures(self) -> list[Any]:
        """Where erasures are that have not ended, and the warnings of the service."""
        with psycopg.connect(self.service.dsn) as conn:
            rows = conn.execute("SELECT job, step, cursor, obstacle, counts FROM ledger.erasures").fetchall()
        return [*rows, *(line for line in self.service.log.split("\n") if '"level":"warning"' in line)][-20:]

    def list_errors(self, job: str) -> Any:
        """Why the job did not pass."""
        return ok(self.raw.call("GET", f"{JOBS}/{job}/validation_errors", None, PREVIEW))["data"]

    def erase(self, **ids: Sequence[str]) -> str:
        """Erase objects, by their plural. Returns the job's id once it has succeeded."""
        job = self.start_erasure(**ids)
        self.wait_for_status(job, "succeeded")
        return job


@contextmanager
def run_stage(dsn: str, folder: Path, **settings: str) -> Iterator[Stage]:
    """A stage on this database, with what its service writes in the folder. `settings` as in `Service`."""
    with ExitStack() as stack:
        receiver = stack.enter_context(run_receiver())
        service = start_service(dsn, folder / "service", settings)
        http = stack.enter_context(httpx.Client(base_url=service.url, timeout=60))
        yield Stage(service, receiver, http, folder)
        service.stop()


def start_service(dsn: str, data_dir: Path, settings: Mapping[str, str] = {}) -> Service:
    """`ledger serve` on this database; a delivery that is refused is tried again after a second."""
    data_dir.mkdir(exist_ok=True)
    retries = {"LEDGER_WEBHOOK_RETRY_SECONDS_TEST": "1,1", "LEDGER_WEBHOOK_POLL_MS": "50"}
    return Service(dsn, data_dir, **{**retries, **settings})
