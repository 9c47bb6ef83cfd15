"""Fixtures: the running service that all folders share, a new account for each test."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import stripe

from ledger.accounts import INTERNAL_SCOPES
from ledger.audit.reconciliation.reconcile import reconcile
from ledger.audit.reconciliation.report import Difference, Gap
from ledger.clock import Clock
from ledger.store.codec import Codec
from tests.api.answer_schemas import check_answers
from tests.api.service import SERVICE_KEY, Account, Caller, Registrar, Service, create_client

SECRETS = re.compile(r"(?:sk|rk|pk|ek)_(?:test|live)_\w{4}|cuss_secret_|pi_\w+_secret_|whsec_|_evidence_text")

WARNINGS = {
    "Invalid HTTP request received.",
    "alert_elevated",
    "alert_raised",
    "tls_hello_on_plain_port",
    "webhook_delivery_given_up",
    "webhook_endpoint_failing",
    "webhook_endpoint_recovered",
}


@pytest.fixture(scope="session")
def service(shared_service: Service) -> Service:
    """The running service; a folder may have another in its place."""
    return shared_service


@pytest.fixture(scope="module")
def registrar(service: Service) -> Iterator[Registrar]:
    """Accounts and keys of the service."""
    registrar = Registrar(service.dsn)
    yield registrar
    registrar.close()


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    """Kept connections to the service, without a key. Each JSON answer must be one that the OpenAPI document
    describes."""
    with httpx.Client(
        base_url=service.url, verify=False, timeout=30, event_hooks=check_answers(service.url)
    ) as http:
        yield http


@pytest.fixture
def account(registrar: Registrar) -> Account:
    """An account nobody else uses."""
    return registrar.account()


@pytest.fixture
def raw(http: httpx.Client, account: Account) -> Caller:
    """Plain HTTP with the account's secret test key."""
    return Caller(http, account.secret)


@pytest.fixture
def live(http: httpx.Client, account: Account) -> Caller:
    """Plain HTTP with the account's secret live key."""
    return Caller(http, account.live_secret)


@pytest.fixture
def operator(http: httpx.Client, account: Account, registrar: Registrar) -> Caller:
    """Plain HTTP with a key of the account for the internal API, with all scopes."""
    return Caller(http, registrar.key(account.id, "rk", scopes=INTERNAL_SCOPES)[1])


@pytest.fixture
def nobody(http: httpx.Client) -> Caller:
    """Plain HTTP without a key."""
    return Caller(http, None)


@pytest.fixture
def client(service: Service, account: Account) -> stripe.StripeClient:
    """The official client with the account's secret test key."""
    return create_client(service, account.secret)


@pytest.fixture
def configured(service: Service, account: Account, monkeypatch: pytest.MonkeyPatch) -> Account:
    """The `stripe` module itself set up, as contract §7 says."""
    monkeypatch.setattr(stripe, "api_key", account.secret)
    for base in ("api_base", "upload_api_base", "connect_api_base", "meter_events_api_base"):
        monkeypatch.setattr(stripe, base, service.url)
    return account


def parse_log(log: str) -> Iterator[dict[str, Any]]:
    """The entries of a service's log. Lines end with "\\n" only: paths in them may have U+0085 or U+2028."""
    return (json.loads(line) for line in log.split("\n") if line)


def check_money(dsn: str) -> None:
    """Assert that the log agrees with itself about all money, and the read models agree with the log."""
    found: list[Difference | Gap] = []
    codec = Codec(SERVICE_KEY.encode())
    reconciliation = reconcile(dsn, codec, Clock(), show=found.append, show_progress=lambda _: None)
    asyncio.run(reconciliation)
    assert not found, found[:5]


def check_log(log: str) -> None:
    """Assert that each line is JSON, that nothing secret is in the log, and that nothing failed but what
    tests make fail."""
    assert not SECRETS.search(log), SECRETS.findall(log)[:5]
    for entry in parse_log(log):
        assert entry["level"] in ("debug", "info") or entry["event"] in WARNINGS, entry
        assert entry["event"] in WARNINGS or entry.get("status", 200) < 500, entry
