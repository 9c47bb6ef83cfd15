"""Find: whatever a text names opens, by keyboard and by URL."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.api.service import Account, Caller, Registrar, Service, ok
from tests.console.browser import NARROW, Console, check_accessible, check_width, take_picture

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def customer(raw: Caller) -> Any:
    """A customer with a card that was charged: the id of the card names two objects."""
    made = raw.customer(email="jenny.to.find@example.com", name="Jenny Rosen", source="tok_visa")
    raw.charge(customer=made["id"], source=made["default_source"])
    return made


def test_one_exact_hit_opens_at_once(console: Console, customer: Any) -> None:
    page = console.open_view("find")
    expect(page.get_by_label("What to find")).to_be_focused()
    page.keyboard.press("/")  # the key of "find", where the field has the focus already
    page.keyboard.type("jenny.to.find@example.com")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(customer["id"])
    assert page.url == f"{console.url}/console/objects/{customer['id']}"
    page.go_back()
    expect(page.get_by_label("What to find")).to_be_focused()


def test_several_hits_are_chosen_by_keyboard(console: Console, customer: Any) -> None:
    page = console.open_view(f"find?q={customer['default_source']}")
    rows = page.get_by_role("row")
    expect(rows).to_have_count(3)
    take_picture(page, "find-several")
    check_accessible(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(customer["id"])


def test_a_request_and_an_event_lead_to_the_object_as_of_then(
    console: Console, raw: Caller, customer: Any
) -> None:
    updated = raw.post(f"/v1/customers/{customer['id']}", {"description": "once"})
    ok(raw.post(f"/v1/customers/{customer['id']}", {"description": "twice"}))
    updates = raw.events("type=customer.updated")
    (once,) = [each for each in updates if each["data"]["object"]["description"] == "once"]
    thin = once["id"].replace("evt_", "evt_thin_")
    for path in (f"find?q={updated.headers['request-id']}", f"objects/{once['id']}", f"find?q={thin}"):
        page = console.open_view(path)
        expect(page.get_by_text("Version 2 of 3")).to_be_visible()
        assert re.fullmatch(rf"{console.url}/console/objects/{customer['id']}\?at=position:\d+", page.url)


@pytest.mark.parametrize("path", ["find?q=alrt_0none", "objects/alrt_0none"])
def test_an_alert_is_found_though_it_belongs_to_no_account(console: Console, path: str) -> None:
    page = console.open_view(path)
    expect(page.get_by_text("No such alert: 'alrt_0none'")).to_be_visible()
    assert page.url == f"{console.url}/console/alerts/alrt_0none"


def test_nothing_found_is_said_with_what_to_do(console: Console) -> None:
    page = console.open_view("find")
    page.get_by_label("What to find").fill(HOSTILE)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing is called")).to_contain_text(HOSTILE)
    expect(page.get_by_text("The whole text has to match")).to_be_visible()
    assert page.locator("img").count() == 0
    page = console.open_view("objects/ch_doesnotexist0")
    expect(page.get_by_text("There is nothing with this id")).to_be_visible()
    check_accessible(page)


def test_the_view_fits_a_narrow_page(console: Console, customer: Any) -> None:
    console.page.set_viewport_size(NARROW)
    for path in ("find", f"find?q={customer['default_source']}"):
        page = console.open_view(path)
        check_width(page)
    check_accessible(page)
    take_picture(page, "find-several-narrow")


def test_a_key_without_audit_finds_what_the_public_api_shows_it(
    browser: Browser, service: Service, registrar: Registrar, account: Account, customer: Any
) -> None:
    key = registrar.key(account.id, "rk", scopes=["rak_customer_read"])[1]
    console = Console(browser, service.url, key)
    try:
        page = console.open_view("find?q=jenny.to.find@example.com")
        expect(page.get_by_role("heading", level=1)).to_contain_text(customer["id"])
        expect(page.get_by_text("needs a key with the scope audit")).to_be_visible()
        page = console.open_view("find?q=some%20key")
        expect(page.get_by_text("Not everything was searched")).to_be_visible()
        page = console.open_view("objects/ch_0352I2S0wXTRNVkqM8D9w9")
        expect(page.get_by_text("needs a key with the scope rak_charge_read or audit")).to_be_visible()
        console.check_policy()
    finally:
        console.close()


def test_an_auditor_without_the_scope_is_told_that_addresses_were_not_searched(
    browser: Browser, service: Service, registrar: Registrar, account: Account, customer: Any
) -> None:
    console = Console(browser, service.url, registrar.key(account.id, "rk", scopes=["audit"])[1])
    try:
        page = console.open_view("find?q=jenny.to.find@example.com")
        note = page.get_by_text("Customers by the e-mail address that they have now: needs")
        expect(note).to_contain_text("personal_data")
        console.check_policy()
    finally:
        console.close()
