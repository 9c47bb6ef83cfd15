"""A service for the console, a browser, and pages that are signed in.

A page fails its test when its policy is violated or its console shows an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ledger.accounts import INTERNAL_SCOPES, SCOPES
from tests.api.service import Account, Caller, Registrar, Service
from tests.conftest import Cluster
from tests.console.browser import CHROMIUM, Console

OPERATOR_SCOPES = tuple(scope for scope in SCOPES if scope != "ledger_feed")
OpenView = Callable[[str], Page]


@pytest.fixture(scope="package")
def service(cluster: Cluster) -> Iterator[Service]:
    """A service of the package's own: the tests of the console restart it and fill it."""
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        running = Service(dsn, Path(place))
        yield running
        running.stop()


@pytest.fixture(scope="package")
def registrar(service: Service) -> Iterator[Registrar]:
    registrar = Registrar(service.dsn)
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
    """A key of the account with every scope but those of the command line."""
    assert set(INTERNAL_SCOPES) <= set(SCOPES)
    return registrar.key(account.id, "rk", scopes=OPERATOR_SCOPES)[1]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests of the console."""
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
