"""What a person must not lose or be misled by: sessions that end under an action, answers that are lost,
texts that turn their line around."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.api.service import Account, Caller, Registrar, Service
from tests.console.browser import Console, check_accessible
from tests.console.conftest import OPERATOR_SCOPES
from tests.webhooks.receiver import wait_until

KEYS = "/internal/v1/keys"
TURNED = "invoice\u202efdp.exe\u2066"


@pytest.fixture
def visitor(browser: Browser, service: Service) -> Iterator[Console]:
    """A page that is not signed in."""
    console = Console(browser, service.url, None)
    yield console
    console.check_policy()
    console.close()


def ask_for_key(page: Page, name: str) -> None:
    """Fill the dialog that creates a key, without its confirmation."""
    page.get_by_role("button", name="Create a key").click()
    page.get_by_role("dialog").get_by_label("Name").fill(name)
    page.get_by_role("dialog").get_by_role("button", name="Auditor").click()


def list_names(http: httpx.Client, key: str) -> list[str]:
    listed = Caller(http, key).get(f"{KEYS}?limit=100").json()["data"]
    return [each["name"] for each in listed]


@pytest.mark.parametrize(
    ("silence", "said"), [(False, "What you asked for last was not done"), (True, "is not known")]
)
def test_an_action_whose_session_has_ended_is_said(
    visitor: Console, registrar: Registrar, account: Account, http: httpx.Client, *, silence: bool, said: str
) -> None:
    key_id, key = registrar.key(account.id, "rk", scopes=OPERATOR_SCOPES)
    visitor.sign_in(key)
    page = visitor.open_view("keys")
    ask_for_key(page, "Never made")
    registrar.revoke(key_id)
    headers = {"ledger-console": "1"}
    wait_until(lambda: visitor.context.request.get(f"{visitor.url}{KEYS}", headers=headers).status == 401)
    lost: list[Route] = []

    def lose_first(route: Route) -> None:
        lost.append(route)
        if len(lost) == 1:
            route.abort()
        else:
            route.continue_()

    if silence:
        page.route(f"**{KEYS}", lose_first)
    page.get_by_role("button", name="Create it").click()
    expect(page.get_by_text("Your session has ended.")).to_be_visible()
    expect(page.get_by_role("status").last).to_contain_text(said)
    check_accessible(page)
    again = registrar.key(account.id, "rk", scopes=OPERATOR_SCOPES)[1]
    page.get_by_label("API key").fill(again)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Keys and accounts")
    assert "Never made" not in list_names(http, again)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text(said)).to_have_count(0)


def test_a_key_whose_answer_was_lost_is_not_made_twice(
    console: Console, http: httpx.Client, operator_key: str
) -> None:
    page = console.open_view("keys")
    sent: list[str | None] = []

    def lose_first_answer(route: Route) -> None:
        sent.append(route.request.headers.get("idempotency-key"))
        if len(sent) == 1:
            route.fetch()  # made, and its secret is lost
            route.abort()
        else:
            route.continue_()

    ask_for_key(page, "Made once")
    page.route(f"**{KEYS}", lose_first_answer)
    for tries in (2, 3):
        page.get_by_role("button", name="Create it").click()
        expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("roll the key")
        wait_until(lambda tries=tries: len(sent) == tries)  # type: ignore[misc]
        expect(page.get_by_role("button", name="Create it")).to_be_enabled()
    expect(page.get_by_role("dialog")).to_contain_text("It was done, but the answer with the secret was lost")
    assert len(set(sent)) == 1
    page.unroute(f"**{KEYS}")
    assert list_names(http, operator_key).count("Made once") == 1


def test_a_text_cannot_turn_its_line_around(console: Console, raw: Caller) -> None:
    customer = raw.customer(name=TURNED, email="turned@example.com")["id"]
    shown = r"invoice\u202efdp.exe\u2066"
    for place in (f"objects/{customer}", f"objects/{customer}?tab=raw", f"find?q={customer}"):
        page = console.open_view(place)
        expect(page.locator("main")).to_contain_text(shown)
        assert "\u202e" not in page.locator("main").inner_text()


def test_a_place_of_the_page_is_no_link_to_sign_in(console: Console) -> None:
    sent: list[str] = []
    console.page.on("request", lambda request: sent.append(f"{request.method} {request.url}"))
    page = console.open_view("nowhere#main")
    assert page.url.endswith("#main")
    assert not [each for each in sent if each.startswith("POST")]
