"""A service for the console, a browser, and pages that are signed in.

A page fails its test when its policy is violated or its console shows an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ledger.accounts import SCOPES
from tests.api.service import Account, Caller, Registrar, Service
from tests.conftest import Cluster
from tests.console.browser import CHROMIUM, Console
from tests.console.seed import Shop, make_shop
from tests.webhooks.receiver import run_receiver

OPERATOR_SCOPES = tuple(scope for scope in SCOPES if scope != "ledger_feed")
OpenView = Callable[[str], Page]


@pytest.fixture(scope="package")
def service(cluster: Cluster) -> Iterator[Service]:
    """A service of the package's own: the tests of the console restart it and fill it."""
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        running = Service(dsn, Path(place))
        yield running
        running.stop()


class ThreadRunner:
    """`asyncio.Runner` in a thread of its own: while Playwright is open, its event loop runs in the thread of
    the tests, where no other one can run (nor `asyncio.run`)."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._runner = self._thread.submit(asyncio.Runner).result()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._thread.submit(self._runner.run, coroutine).result()

    def close(self) -> None:
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()


@pytest.fixture(scope="package")
def registrar(service: Service) -> Iterator[Registrar]:
    runner = ThreadRunner()
    registrar = Registrar(service.dsn, runner)
    yield registrar
    registrar.close()


@pytest.fixture(scope="package")
def account(registrar: Registrar) -> Account:
    return registrar.account()


@pytest.fixture(scope="package")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        yield http


@pytest.fixture(scope="package")
def raw(http: httpx.Client, account: Account) -> Caller:
    """Plain HTTP with the account's secret test key."""
    return Caller(http, account.secret)


@pytest.fixture(scope="package")
def operator_key(registrar: Registrar, account: Account) -> str:
    """A key of the account with every scope that can be given to it by the API."""
    return registrar.key(account.id, "rk", scopes=OPERATOR_SCOPES)[1]


@pytest.fixture(scope="package")
def shop(
    raw: Caller, http: httpx.Client, operator_key: str, account: Account, registrar: Registrar
) -> Iterator[Shop]:
    """The account with objects in every state, and webhook endpoints with receivers behind them."""
    with run_receiver() as receiver:
        yield make_shop(raw, Caller(http, operator_key), account, registrar, receiver)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a module. Not for more: while it is open, no other event loop can run in
    this thread."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def console(browser: Browser, service: Service, operator_key: str) -> Iterator[Console]:
    """A page that is signed in with every scope; at the end nothing may have complained."""
    console = Console(browser, service.url, operator_key)
    yield console
    try:
        console.check_policy()
    finally:
        console.close()


@pytest.fixture
def open_view(console: Console) -> OpenView:
    """Opens a view by its URL: open_view("disputes?status=lost") is the page, once it is drawn."""
    return console.open_view


@pytest.fixture
def page(console: Console) -> Page:
    return console.page
