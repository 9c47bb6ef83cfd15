"""The view Events in a browser: live, with filters, pause, earlier pages, and an event in all its forms."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.service import Account, Caller, Registrar, Service, ok
from tests.console.browser import NARROW, Console, check_accessible, check_width, take_picture
from tests.console.conftest import OpenView
from tests.console.seed import Shop


def row(page: Page, text: str) -> object:
    return page.get_by_role("row").filter(has_text=text)


def find_position(http: httpx.Client, key: str, object_id: str) -> int:
    """The first position of an object."""
    answer = http.get(f"/internal/v1/feed?object={object_id}", headers={"authorization": f"Bearer {key}"})
    return int(answer.text.split('"position":', 1)[1].partition(",")[0])


def test_a_new_event_appears_by_itself(open_view: OpenView, shop: Shop, raw: Caller) -> None:
    page = open_view("events")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    made = raw.customer(name="Somebody new")["id"]
    expect(page.get_by_role("row").nth(1)).to_contain_text(made)
    check_accessible(page)
    check_width(page)
    take_picture(page, "events")


def test_a_pause_counts_what_comes_and_shows_it_afterwards(
    open_view: OpenView, shop: Shop, raw: Caller
) -> None:
    page = open_view("events")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    made = [raw.customer(name="Later")["id"] for _ in range(3)]
    expect(page.get_by_role("status").filter(has_text="Paused · 3 new")).to_be_visible()
    assert page.get_by_text(made[0]).count() == 0
    page.keyboard.press("Space")
    for place, customer in enumerate(reversed(made)):
        expect(page.get_by_role("row").nth(1 + place)).to_contain_text(customer)
    assert "paused" not in page.url


def test_types_are_recorded_or_public_ones_with_wildcards(
    open_view: OpenView, shop: Shop, raw: Caller
) -> None:
    for typed in ("charge.dispute.*", "v1.charge.dispute.created", "dispute.opened"):
        page = open_view(f"events?types={typed}")
        expect(page.get_by_role("row").filter(has_text="dispute.opened").first).to_be_visible()
        assert page.get_by_role("row").filter(has_text="customer.created").count() == 0
    page = open_view("events")
    page.get_by_label("Types").fill("invoice.*")
    page.keyboard.press("Enter")
    expect(page.get_by_role("row").filter(has_text="resource.published").first).to_be_visible()
    assert page.get_by_role("row").filter(has_text="customer.created").count() == 0
    expect(page.get_by_text("No type of the ledger's own objects matches invoice.*")).to_be_visible()
    assert page.url.endswith("?types=invoice.*")


def test_an_event_is_shown_as_recorded_as_snapshot_and_as_thin(
    open_view: OpenView, shop: Shop, http: httpx.Client, operator_key: str
) -> None:
    page = open_view(f"events?object={shop.customer}")
    expect(page.get_by_role("row").nth(2)).to_be_visible()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    item = page.get_by_role("region", name="Selected event")
    snapshot = item.get_by_role("region", name=re.compile("^Snapshot evt_"))
    thin = item.get_by_role("region", name=re.compile("^Thin evt_thin_"))
    expect(snapshot).to_contain_text('"customer.created"')
    expect(thin).to_contain_text('"v1.customer.created"')
    position = find_position(http, operator_key, shop.customer)
    assert page.url.endswith(f"item={position}")
    recorded = item.get_by_role("region", name="What was recorded")
    assert "jenny@example.com" not in recorded.inner_text()
    item.get_by_role("button", name="Show the whole record").click()
    expect(recorded).to_contain_text("jenny@example.com")
    take_picture(page, "events-item")
    check_accessible(page)
    page.set_viewport_size(NARROW)
    page.reload()
    expect(snapshot).to_be_visible()
    check_width(page)
    page.keyboard.press("x")
    expect(item).to_have_count(0)


def test_earlier_events_are_a_page_by_position_or_time(
    open_view: OpenView, shop: Shop, http: httpx.Client, operator_key: str
) -> None:
    position = find_position(http, operator_key, shop.charge)
    page = open_view(f"events?before={position + 1}")
    expect(page.get_by_role("row").nth(1)).to_contain_text(shop.charge)
    expect(page.get_by_text("Earlier events", exact=True)).to_be_visible()
    page.keyboard.press("l")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page = open_view("events?to=2020-01-01")
    expect(page.get_by_text("Nothing that is chosen was recorded in this time.")).to_be_visible()
    page = open_view("events?from=soon")
    expect(page.get_by_text("“From” is no time")).to_be_visible()


def test_what_makes_no_public_event_says_so(
    open_view: OpenView, shop: Shop, http: httpx.Client, operator_key: str
) -> None:
    page = open_view("events?types=charge.disputed")
    page.get_by_role("row").nth(1).click()
    expect(page.get_by_text("It makes none: nothing of it is in /v1/events")).to_be_visible()
    page = open_view("events?item=999999999")
    expect(page.get_by_role("alert")).to_contain_text("is in the future")


@pytest.fixture
def reader(browser: Browser, service: Service, registrar: Registrar, account: Account) -> Iterator[Console]:
    """A page of a key that may read public Events only."""
    key = registrar.key(account.id, "rk", scopes=["rak_event_read"])[1]
    console = Console(browser, service.url, key)
    yield console
    console.check_policy()
    console.close()


def test_a_key_without_the_feed_is_shown_the_public_list(reader: Console, shop: Shop, raw: Caller) -> None:
    page = reader.open_view("events?types=customer.created")
    expect(page.get_by_text("This key reads the list of public Events")).to_be_visible()
    made = ok(raw.post("/v1/customers", {"name": "Seen later"}))["id"]
    expect(page.get_by_role("row").nth(1)).to_contain_text(made)
    page.get_by_role("row").nth(1).get_by_role("button").click()
    expect(page.get_by_role("region", name=re.compile("^Thin evt_thin_"))).to_contain_text(made)
    check_accessible(page)
