"""The frame of the console in a browser: signing in, the menu, keys, themes, accounts, and what it says when
something is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.service import Account, Registrar, Service
from tests.console.browser import NARROW, Console, check_accessible, check_width, take_picture
from tests.webhooks.receiver import wait_until

FIRST_VIEW_BYTES_MAX = 150_000
# As a view does: whether the service answers.
ASK = """async () => {
    const { get } = await import("/console/static/lib/api.js");
    return get("/internal/v1/projections").then(() => true, () => false);
}"""


@pytest.fixture
def visitor(browser: Browser, service: Service) -> Iterator[Console]:
    """A page that is not signed in."""
    console = Console(browser, service.url, None)
    yield console
    console.check_policy()
    console.close()


def test_a_key_opens_the_place_that_the_url_names(visitor: Console, operator_key: str) -> None:
    page = visitor.open_view("nowhere?tab=two")
    check_accessible(page)
    take_picture(page, "sign-in")
    page.get_by_label("API key").fill("rk_test_unknown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Invalid API Key provided")
    page.get_by_label("API key").fill(operator_key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("No such view")
    assert page.url.endswith("/console/nowhere?tab=two")
    assert operator_key not in page.content()
    stored = page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])")
    assert operator_key not in stored
    assert "ledger_console" not in stored


def test_a_link_opens_a_session_once_and_leaves_no_secret(
    visitor: Console, browser: Browser, service: Service, account: Account
) -> None:
    command = ("console", "open", "--account", account.id, "--url", service.url, "--json")
    url = json.loads(service.run_command(*command))["url"]
    page = visitor.page
    page.goto(url)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert "#" not in page.url
    other = Console(browser, service.url, None)
    other.page.goto(url)
    expect(other.page.get_by_role("alert")).to_contain_text("This link was used before, or has expired")
    other.close()


def test_signing_out_ends_the_session(console: Console) -> None:
    page = console.open_view("nowhere")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()


def test_another_page_of_the_browser_follows_who_is_signed_in(
    console: Console, registrar: Registrar, account: Account
) -> None:
    page = console.open_view("nowhere")
    other = console.context.new_page()
    other.goto(page.url)
    other.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    other.get_by_label("API key").fill(registrar.key(account.id, "rk", livemode=True, scopes=["audit"])[1])
    other.keyboard.press("Enter")
    expect(page.locator(".menu .mode")).to_have_text("Live mode")


def test_an_ended_session_is_said_and_taken_up_again_at_the_same_place(
    console: Console, registrar: Registrar, account: Account, operator_key: str
) -> None:
    key_id, key = registrar.key(account.id, "rk", scopes=["audit", "projections"])
    console.sign_in(key)
    page = console.open_view("nowhere")
    registrar.revoke(key_id)
    wait_until(lambda: not page.evaluate(ASK))
    expect(page.get_by_role("status")).to_contain_text(["", "Your session has ended."])
    page.get_by_label("API key").fill(operator_key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("No such view")


def test_a_view_that_the_key_may_not_see_names_the_scope(
    browser: Browser, service: Service, registrar: Registrar, account: Account
) -> None:
    console = Console(browser, service.url, registrar.key(account.id, "rk", scopes=["audit"])[1])
    asked: list[str] = []
    console.page.on("request", lambda request: asked.append(request.url))
    page = console.open_view("projections")
    expect(page.locator("main")).to_contain_text("Projections needs a key with the scope projections.")
    expect(page.get_by_text(f"ledger keys create {account.id} --kind rk --scope projections")).to_be_visible()
    closed = page.get_by_role("link", name="Projections, needs the scope projections")
    assert closed.get_attribute("title") == "needs the scope projections"
    assert not [url for url in asked if "/internal/v1/projections" in url]
    check_accessible(page)
    take_picture(page, "missing-scope")
    console.check_policy()
    console.close()


def test_the_keyboard_goes_everywhere(console: Console) -> None:
    page = console.open_view("nowhere")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_contain_text("Projections")
    check_accessible(page)
    take_picture(page, "keyboard")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    box = page.get_by_role("searchbox", name="Find an id")
    expect(box).to_be_focused()
    page.keyboard.type("g d ?")
    expect(box).to_have_value("g d ?")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/find?q=g+d+%3F")
    page.locator("main").focus()
    page.keyboard.press("g")
    page.keyboard.press("k")
    page.wait_for_url("**/console/keys")
    assert page.get_by_role("link", name="Keys and accounts").get_attribute("aria-current") == "page"
    page.reload()
    console.wait_until_drawn()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the view")).to_be_focused()
    page.go_back()
    page.wait_for_url("**/console/find?q=g+d+%3F")


def test_the_theme_is_kept(console: Console) -> None:
    page = console.open_view("nowhere")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_label("Theme").select_option("dark")
    wait_until(lambda: page.evaluate(ground) != light)
    check_accessible(page)
    page.reload()
    page.wait_for_selector("h1")
    assert page.evaluate(ground) != light
    page.get_by_label("Theme").select_option("system")
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == light


def test_an_account_is_chosen_and_stays_in_every_link(
    console: Console, registrar: Registrar, account: Account
) -> None:
    connected = registrar.account(platform=account.id).id
    page = console.open_view("nowhere")
    page.get_by_role("button", name=account.id).click()
    check_accessible(page)
    page.get_by_role("dialog").get_by_role("button", name=connected).click()
    page.wait_for_url(f"**/console/nowhere?account={connected}")
    link = page.get_by_role("link", name="Disputes")
    assert link.get_attribute("href") == f"/console/disputes?account={connected}"
    sent = page.evaluate(
        """async () => (await import("/console/static/lib/api.js")).headersOf()["Stripe-Account"]"""
    )
    assert sent == connected
    page.get_by_role("button", name="Connected account").click()
    page.get_by_role("dialog").get_by_role("button", name="the key's own").click()
    page.wait_for_url("**/console/nowhere")


def test_a_narrow_page_has_a_menu_to_open(console: Console) -> None:
    console.page.set_viewport_size(NARROW)
    page = console.open_view("nowhere")
    check_width(page)
    expect(page.get_by_role("navigation", name="Console")).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    check_width(page)
    check_accessible(page)
    take_picture(page, "menu-narrow")
    page.get_by_role("link", name="Keys and accounts").click()
    page.wait_for_url("**/console/keys")
    expect(page.get_by_role("navigation", name="Console")).to_be_hidden()


def test_what_fails_in_a_view_is_said_in_its_place(console: Console) -> None:
    broken = 'export function View() { throw new Error("<b>it broke</b>"); }'
    console.page.route(
        "**/views/keys.js", lambda route: route.fulfill(body=broken, content_type="text/javascript")
    )
    page = console.open_view("keys")
    expect(page.get_by_role("alert")).to_contain_text("This view failed.")
    expect(page.get_by_role("alert")).to_contain_text("<b>it broke</b>")
    check_accessible(page)
    page.get_by_role("link", name="Find").click()
    page.wait_for_url("**/console/find")
    expect(page.get_by_text("This view failed.")).to_have_count(0)
    console.complaints.clear()  # the page writes the error to the console, for whoever mends the view


def test_the_first_view_is_small(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    session = console.context.new_cdp_session(console.page)
    session.send("Network.enable")
    sizes: list[int] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    console.open_view("")
    console.page.wait_for_load_state("networkidle")
    with capsys.disabled():
        print(f"\nfirst view: {sum(sizes):,} bytes in {len(sizes)} answers")
    assert len(sizes) > 10
    assert sum(sizes) <= FIRST_VIEW_BYTES_MAX


def test_markup_in_the_name_of_an_account_is_text(
    browser: Browser, service: Service, registrar: Registrar
) -> None:
    account = registrar.account()
    key = registrar.key(account.id, "rk", scopes=["audit"])[1]
    page: Page
    console = Console(browser, service.url, key)
    hostile = "<img src=x onerror='window.hacked = 1'>"
    console.page.route(
        "**/console/session",
        lambda route: route.fulfill(json={**route.fetch().json(), "account_name": hostile}),
    )
    page = console.open_view("nowhere")
    expect(page.get_by_text(hostile)).to_be_visible()
    assert page.evaluate("window.hacked ?? null") is None
    console.check_policy()
    console.close()
