"""The view of alerts in a browser: a fault appears and goes by itself, one is cleared, receivers are kept.

The faults are made before the first test: they take seconds to be sure of.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.api.service import Account, Caller, Registrar, Service
from tests.conftest import Cluster
from tests.console.browser import NARROW, WIDE, Console, check_accessible, check_width, take_picture
from tests.console.conftest import OPERATOR_SCOPES, ThreadRunner
from tests.webhooks.receiver import Receiver, run_receiver, wait_until

FAULT_MS = 15_000


@pytest.fixture(scope="module")
def service(cluster: Cluster) -> Iterator[Service]:
    """A service of the module's own: what other tests of the console break raises alerts."""
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        running = Service(dsn, Path(place))
        yield running
        running.stop()


@pytest.fixture(scope="module")
def registrar(service: Service) -> Iterator[Registrar]:
    registrar = Registrar(service.dsn, ThreadRunner())
    yield registrar
    registrar.close()


@pytest.fixture(scope="module")
def account(registrar: Registrar) -> Account:
    return registrar.account()


@pytest.fixture(scope="module")
def operator_key(registrar: Registrar, account: Account) -> str:
    return registrar.key(account.id, "rk", scopes=OPERATOR_SCOPES)[1]


@pytest.fixture(scope="module")
def raw(service: Service, account: Account) -> Iterator[Caller]:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        yield Caller(http, account.secret)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def faults(service: Service, raw: Caller, operator_key: str) -> Iterator[psycopg.Connection]:
    """A row that differs from the log, and a projection that somebody keeps from moving on: until the
    connection rolls back."""
    customer = raw.customer(name="Ada", email="ada@example.com")["id"]

    def verify() -> None:
        address = "/internal/v1/projections/customers/verify"
        headers = {"authorization": f"Bearer {operator_key}"}
        assert raw.http.post(address, json={}, headers=headers).status_code == 200

    change = "UPDATE projections.customers SET email = %s WHERE id = %s RETURNING id"
    with (
        psycopg.connect(service.dsn, autocommit=True) as conn,
        psycopg.connect(service.dsn, application_name="a forgotten shell") as blocker,
    ):
        wait_until(lambda: conn.execute(change, ["x", customer]).fetchall())
        verify()
        blocker.execute("SELECT FROM projections.checkpoints WHERE projection = 'refunds' FOR UPDATE")
        raw.customer(name="Grace", email="grace@example.com")
        yield blocker
        blocker.rollback()
        conn.execute(change, ["ada@example.com", customer])
        verify()


@pytest.fixture
def view(console: Console, faults: psycopg.Connection) -> Page:
    return console.open_view("alerts")


def test_a_receiver_is_added_with_its_secret_shown_once_tested_and_removed(
    console: Console, receiver: Receiver, faults: psycopg.Connection
) -> None:
    page = console.open_view("alerts?tab=receivers")
    expect(page.get_by_text("Nobody is told of alerts.")).to_be_visible()
    take_picture(page, "alerts-no-receivers")
    page.get_by_role("button", name="Add a receiver").click()
    page.get_by_label("URL").fill("ftp://example.com")
    page.get_by_role("button", name="Add the receiver").click()
    expect(page.get_by_role("alert")).to_contain_text("explicit scheme")
    page.get_by_label("URL").fill(receiver.url("/alerts/T0ken"))
    page.get_by_label("Description").fill("The pager")
    take_picture(page, "alerts-add-receiver")
    page.get_by_role("button", name="Add the receiver").click()
    expect(page.locator(".secret")).to_contain_text("whsec_")
    secret = page.locator(".secret").inner_text()
    page.get_by_role("button", name="Close").last.click()
    row = page.get_by_role("row").filter(has_text="The pager")
    expect(row).to_be_visible()
    assert secret not in page.content()
    assert "T0ken" not in page.content()
    row.get_by_role("button", name="Test").click()
    page.get_by_role("button", name="Send it").click()
    expect(page.get_by_role("status").filter(has_text="status 200")).to_be_visible()
    page.get_by_role("button", name="Close").last.click()
    events = [request.event(secret) for request in receiver.requests_to("/alerts/T0ken")]
    assert "alert.test" in [event["type"] for event in events]
    check_accessible(page)
    take_picture(page, "alerts-receivers")


def test_a_fault_appears_with_its_cause_and_goes_when_it_is_cleared(view: Page, receiver: Receiver) -> None:
    drift = view.get_by_role("row").filter(has_text="Rows of the projection customers differ")
    expect(drift).to_contain_text("Critical", timeout=FAULT_MS)
    stalled = view.get_by_role("row").filter(has_text="The projection refunds is behind the log")
    expect(stalled).to_contain_text("a forgotten shell", timeout=FAULT_MS)
    expect(view.get_by_role("link", name="Projection refunds", exact=True)).to_have_attribute(
        "href", "/console/projections/refunds"
    )
    for theme in ("light", "dark"):
        view.emulate_media(color_scheme=theme)
        view.set_viewport_size(WIDE)
        check_accessible(view)
        take_picture(view, f"alerts-{theme}")
        view.set_viewport_size(NARROW)
        check_width(view)
        check_accessible(view)
        take_picture(view, f"alerts-narrow-{theme}")
    view.emulate_media(color_scheme="light")
    view.set_viewport_size(WIDE)
    drift.get_by_role("button", name="Clear").click()
    confirm = view.get_by_role("button", name="Clear the alert")
    expect(confirm).to_be_disabled()
    view.get_by_label("Why").fill("a rebuild is under way")
    take_picture(view, "alerts-clear")
    confirm.click()
    view.get_by_role("button", name="Close").last.click()
    expect(drift).to_have_count(0)
    view.get_by_role("tab", name="Ended").click()
    ended = view.get_by_role("row").filter(has_text="Rows of the projection customers differ")
    expect(ended).to_contain_text("Cleared, lasts on")
    expect(ended).to_contain_text("a rebuild is under way")
    take_picture(view, "alerts-ended")


def test_an_alert_by_keyboard_shows_its_events_and_who_was_told(view: Page, receiver: Receiver) -> None:
    view.keyboard.press("g")
    view.keyboard.press("a")
    view.get_by_role("tab", name="Active").focus()
    view.keyboard.press("ArrowRight")
    expect(view.get_by_role("row").filter(has_text="customers differ")).to_be_visible()
    view.keyboard.press("j")
    view.keyboard.press("Enter")
    expect(view.get_by_role("heading", level=1)).to_contain_text("Rows of the projection customers differ")
    events = view.locator(".alert-events > li")
    expect(events).to_have_count(2)
    expect(events.first).to_contain_text("Cleared")
    expect(events.last).to_contain_text("Raised")
    expect(events.first).to_contain_text("Delivered")
    address = view.url
    take_picture(view, "alert")
    check_accessible(view)
    view.set_viewport_size(NARROW)
    check_width(view)
    take_picture(view, "alert-narrow")
    view.goto(address)
    expect(view.locator(".alert-events > li")).to_have_count(2)


def test_an_alert_resolves_under_an_open_page_when_its_cause_is_gone(
    view: Page, faults: psycopg.Connection
) -> None:
    stalled = view.get_by_role("row").filter(has_text="The projection refunds is behind the log")
    expect(stalled).to_be_visible(timeout=FAULT_MS)
    faults.rollback()
    expect(view.get_by_text("Nothing is wrong.")).to_be_visible(timeout=FAULT_MS)
    take_picture(view, "alerts-none")


def test_what_is_not_there_is_said_plainly(console: Console) -> None:
    page = console.open_view("alerts/alrt_none")
    expect(page.get_by_role("alert")).to_contain_text("No such alert: 'alrt_none'")
    expect(page.get_by_role("alert")).to_contain_text("Look for a slip in it.")
