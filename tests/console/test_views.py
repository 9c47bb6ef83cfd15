"""All views: each by its URL alone and by keyboard alone, without a violation of the policy, accessible in
light and dark, on wide and narrow pages, and with hostile content shown as text."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.console.browser import (
    AXE,
    NARROW,
    WIDE,
    Console,
    check_accessible,
    check_contrast,
    check_width,
    take_picture,
)
from tests.console.seed import HOSTILE_NAME, IMAGE, SCRIPT, Shop

# Places of each view, by the names of the shop's objects.
PLACES = (
    "find?q={customer}",
    "objects/{charge}",
    "disputes",
    "disputes/{needs_response}",
    "events",
    "money",
    "alerts",
    "deliveries",
    "projections",
    "projections/disputes/step",
    "requests",
    "proof",
    "keys",
)
FOCUSED = "document.activeElement"
HOSTILE_PLACES = {
    "objects/{hostile_customer}": HOSTILE_NAME,
    "objects/{deep_resource}": SCRIPT,
    "disputes/{hostile_dispute}": HOSTILE_NAME,
    "find?q=%3Cscript%3Ewindow.hacked%3D1%3C%2Fscript%3E": "<script>window.hacked=1</script>",
}


def locate(place: str, shop: Shop) -> str:
    return place.format(**shop._asdict(), **shop.disputes)


def list_views(page: Page) -> Any:
    """The rows of main.js that are in the menu: name, title, key."""
    return page.evaluate(
        """async () => (await import("/console/static/main.js")).VIEWS
            .filter((view) => !view.hidden).map(({ name, title, key }) => ({ name, title, key }))"""
    )


def test_axe_is_there_to_check_every_page() -> None:
    if not AXE.is_file():
        pytest.skip("axe is not installed (make check-console): no page is checked for accessibility")


def test_each_view_has_a_place_here(console: Console) -> None:
    console.open_view("nowhere")
    names = {view["name"] for view in list_views(console.page)}
    assert names <= {place.partition("/")[0].partition("?")[0] for place in PLACES}


@pytest.mark.parametrize("place", PLACES)
def test_a_view_is_drawn_by_its_url(console: Console, shop: Shop, place: str) -> None:
    page = console.open_view(locate(place, shop))
    assert page.title().endswith("· Ledger console")
    expect(page.locator("main .note-danger")).to_have_text([])  # it says which
    check_width(page)
    check_accessible(page)
    name = place.partition("?")[0].replace("/", "-").replace("{", "").replace("}", "")
    take_picture(page, name)
    page.set_viewport_size(NARROW)
    console.wait_until_drawn()  # a view may ask for something else when it is narrow
    check_width(page)
    take_picture(page, f"{name}-narrow")
    page.emulate_media(color_scheme="dark")
    check_contrast(page)
    page.set_viewport_size(WIDE)
    take_picture(page, f"{name}-dark")


def test_each_view_is_reached_and_used_by_keyboard_alone(console: Console, shop: Shop) -> None:
    page = console.open_view("nowhere")
    for view in list_views(page):
        page.keyboard.press("g")
        page.keyboard.press(view["key"])
        page.wait_for_url(f"**/console/{view['name']}*")
        console.wait_until_drawn()
        assert page.locator("h1").count() == 1
        assert view["title"] in page.title()
        if not page.evaluate(f"{FOCUSED}.matches('input')"):  # where a field has the focus at once
            page.keyboard.press("Tab")
        assert page.evaluate(f"document.querySelector('main').contains({FOCUSED})"), view["name"]
        assert page.evaluate(f"{FOCUSED}.id !== 'main'"), f"Tab leads nowhere in {view['name']}"
        page.locator("main").focus()


@pytest.mark.parametrize("place", HOSTILE_PLACES)
def test_hostile_content_is_text(console: Console, shop: Shop, place: str) -> None:
    page = console.open_view(locate(place, shop))
    expect(page.locator("main")).to_contain_text(HOSTILE_PLACES[place])
    check_width(page)
    page.set_viewport_size(NARROW)
    check_width(page)
    assert page.evaluate("window.hacked ?? null") is None
    assert page.locator("main script, main img[onerror]").count() == 0
    assert IMAGE not in page.content()
