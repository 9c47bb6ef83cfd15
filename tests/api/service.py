"""The service in a process of its own, as a user runs it, and accounts to call it with.

`Service` is `ledger serve` on a database of its own: real HTTP, projections included. `Caller` sends
requests that no SDK sends; everything else goes through the official `stripe` client.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx
import psycopg
import stripe
from stripe._base_address import BaseAddresses

from ledger.accounts import KeyKind, create_account, create_key, revoke_key
from ledger.postgres.connections import connect
from ledger.store.replies import read_body
from tests.forks import start_ledger
from tests.keys.keyrings import read_keyring
from tests.serving.process import run_ledger

ROOT = Path(__file__).resolve().parents[2]
SERVICE_KEY = "the-service-key-of-the-tests-0123456789"
START_SECONDS = 60
STOP_SECONDS = 20
LIST_SECONDS = 60
FORM = "application/x-www-form-urlencoded"
PREVIEW = "2026-09-30.preview"
"""The version that the pre-release client sends."""


class Service:
    """A running service; everything it logs is in `log`."""

    def __init__(self, dsn: str, data_dir: Path, **settings: str) -> None:
        self.dsn = dsn
        self._data_dir = data_dir
        environment = {
            "LEDGER_DATABASE_URL": dsn,
            "LEDGER_SECRET_KEY": SERVICE_KEY,
            "LEDGER_DATA_DIR": str(data_dir),
            "LEDGER_PORT": "0",
            "LEDGER_TEST_CLOCK": "true",
            "LEDGER_LIST_WAIT_MS": "20000",
            "LEDGER_REQUEST_TIMEOUT_MS": "25000",
            "LEDGER_LOG_LEVEL": "debug",
            "LEDGER_LOG_REQUESTS": "all",
        }
        self._output = data_dir / "output"
        self._output.write_bytes(b"")
        (data_dir / "log").write_bytes(b"")
        self._process = start_ledger(
            ["serve"],
            environment=os.environ | environment | settings,
            directory=ROOT,
            output=self._output,
            errors=data_dir / "log",
        )
        self.url = self._wait_until_ready()
        self.port = int(self.url.rpartition(":")[2])

    def _wait_until_ready(self) -> str:
        """Its address, once it has announced that and answers."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            url_match = re.search(r"http://\S+?:\d+(?=\D)", self._output.read_text())
            if url_match is not None:
                readiness = httpx.get(f"{url_match[0]}/readyz", verify=False, timeout=START_SECONDS)
                if readiness.status_code == 200:
                    return url_match[0]
            time.sleep(0.02)

    @property
    def log(self) -> str:
        return (self._data_dir / "log").read_text()

    def run_command(self, *arguments: str) -> str:
        """What `ledger` with these arguments prints about the service's database."""
        settings: dict[str, Any] = {
            "database_url": self.dsn, "secret_key": SERVICE_KEY, "test_clock": True,
        }  # fmt: skip
        completed = run_ledger(self._data_dir, *arguments, **settings)
        assert completed.returncode == 0, completed
        return completed.stdout

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(STOP_SECONDS) == 0, self.log

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End all its processes at once, as a lost machine would."""
        self.send_signal(signal.SIGKILL)
        self._process.wait(STOP_SECONDS)


class Account(NamedTuple):
    """An account with a secret key of each mode and a publishable one."""

    id: str
    secret: str
    live_secret: str
    publishable: str


class Runner(Protocol):
    """Like `asyncio.Runner`."""

    def run(self, coroutine: Coroutine[Any, Any, Any], /) -> Any: ...

    def close(self) -> None: ...


class Registrar:
    """Creates accounts and keys, as the command line does. `runner` runs what is asynchronous, by default in
    the caller's thread."""

    def __init__(self, dsn: str, runner: Runner | None = None) -> None:
        self._runner = runner or asyncio.Runner()
        self._conn = self._runner.run(connect(dsn, "ledger_api", name="tests"))

    def account(self, platform: str | None = None) -> Account:
        account = self._runner.run(create_account(self._conn, "A test", platform=platform))
        return Account(
            account,
            self.key(account)[1],
            self.key(account, livemode=True)[1],
            self.key(account, "pk")[1],
        )

    def key(
        self, account: str, kind: KeyKind = "sk", *, livemode: bool = False, scopes: Sequence[str] = ()
    ) -> tuple[str, str]:
        """A new key: its id, and the secret."""
        return self._runner.run(
            create_key(self._conn, account, kind, livemode=livemode, name="test", scopes=scopes)
        )

    def revoke(self, key_id: str) -> None:
        self._runner.run(revoke_key(self._conn, key_id, now=time.time()))

    def close(self) -> None:
        self._runner.run(self._conn.close())
        self._runner.close()


class Caller:
    """Plain HTTP with one key, and one API version if it is not the account's. A form is a dict of bracketed
    names, or the bytes to send."""

    def __init__(self, http: httpx.Client, key: str | None, version: str | None = None) -> None:
        self.http = http
        self.key = key
        self.version = version

    def call(
        self,
        method: str,
        path: str,
        form: Mapping[str, Any] | str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        default_headers = {"authorization": f"Bearer {self.key}"} if self.key is not None else {}
        if self.version is not None:
            default_headers["stripe-version"] = self.version
        if isinstance(form, str | bytes):
            default_headers["content-type"] = FORM
            return self.http.request(
                method, path, content=form, headers=default_headers | dict(headers or {})
            )
        return self.http.request(method, path, data=form, headers=default_headers | dict(headers or {}))

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.call("GET", path, headers=_dashed(headers))

    def delete(self, path: str, **headers: str) -> httpx.Response:
        return self.call("DELETE", path, headers=_dashed(headers))

    def post(
        self, path: str, form: Mapping[str, Any] | str | bytes | None = None, **headers: str
    ) -> httpx.Response:
        return self.call("POST", path, form, _dashed(headers))

    def customer(self, **fields: Any) -> Any:
        return ok(self.post("/v1/customers", fields))

    def charge(self, source: str = "tok_visa", **fields: Any) -> Any:
        return ok(self.post("/v1/charges", {"amount": 2000, "currency": "usd", "source": source, **fields}))

    def refund(self, **fields: Any) -> Any:
        """A refund of a new charge."""
        return ok(self.post("/v1/refunds", {"charge": self.charge()["id"], **fields}))

    def dispute(self, source: str = "tok_createDispute", **fields: Any) -> Any:
        """The dispute of a new charge."""
        charge = self.charge(source, **fields)
        return self.read_list(f"/v1/disputes?charge={charge['id']}")[0]

    def events(self, query: str = "") -> Any:
        """Events, oldest first."""
        return self.read_list(f"/v1/events?limit=100&{query}")[::-1]

    def read_list(self, path: str) -> Any:
        """What a list shows once it lacks no write before. On a busy machine that may take longer than the
        service lets a list wait."""
        deadline = time.monotonic() + LIST_SECONDS
        while "ledger-behind-events" in (answer := self.get(path)).headers:
            assert time.monotonic() < deadline, answer.headers["ledger-behind-events"]
        return ok(answer)["data"]


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def read_stored_replies(service: Service, account: str) -> dict[str, str]:
    """The bodies of an account's stored replies, opened, by idempotency key.

    Tests share the service and its database: another account may have used the same key.
    """
    keyring = read_keyring(service.dsn, SERVICE_KEY.encode())
    with psycopg.connect(service.dsn) as conn:
        rows = conn.execute(
            "SELECT key, body, compressed FROM ledger.replies WHERE account = %s", (account,)
        ).fetchall()
    return {key: read_body(text, stored, keyring) or "" for key, text, stored in rows}


def ok(response: httpx.Response) -> Any:
    """The object or list in a successful response."""
    assert response.status_code == 200, response.text
    return response.json()


def assert_refused(
    response: httpx.Response,
    status: int = 400,
    *,
    code: str | None = None,
    param: str | None = None,
    message: str = "",
    kind: str = "invalid_request_error",
) -> dict[str, Any]:
    """The error in the response, after asserting that it is exactly the expected one; `message` is a
    pattern to search for."""
    document = response.json()
    assert list(document) == ["error"], document
    error: dict[str, Any] = document["error"]
    actual = (response.status_code, error["type"], error.get("code"), error.get("param"))
    assert actual == (status, kind, code, param), document
    assert re.search(message, error["message"]), (message, error["message"])
    assert None not in error.values()
    assert error.get("doc_url") == (
        f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}" if code else None
    )
    assert response.headers["request-id"].startswith("req_")
    return error


def create_client(service: Service, key: str, **options: Any) -> stripe.StripeClient:
    """The official client with the service's address, otherwise as it comes."""
    return stripe.StripeClient(key, base_addresses=name_bases(service.url), **options)


def name_bases(url: str) -> BaseAddresses:
    """All base addresses of the official client: each that is left out is a host of Stripe."""
    return {"api": url, "files": url, "connect": url, "meter_events": url}
