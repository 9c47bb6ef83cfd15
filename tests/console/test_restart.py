"""The service ends and starts again under an open page: the page says so, and comes back by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.api.service import Caller, Registrar, Service
from tests.conftest import Cluster
from tests.console.browser import Console, check_accessible, take_picture
from tests.console.conftest import OPERATOR_SCOPES, ThreadRunner
from tests.webhooks.receiver import wait_until

# What a view does: it follows the feed, and asks for a list every second.
FOLLOW = """async (key) => {
    window.marker = "the same page";
    window.seen = [];
    window.answers = 0;
    const { streamEvents } = await import("/console/static/lib/stream.js");
    const { repeat } = await import("/console/static/lib/resource.js");
    const { get } = await import("/console/static/lib/api.js");
    const { signal } = new AbortController();
    streamEvents("/internal/v1/feed", { after: 0 }, { onItem: (item) => seen.push(item.position), signal });
    repeat(async () => { await get("/v1/customers"); window.answers += 1; }, 200, signal);
}"""
# As the browser does when another tab is chosen: pages of a browser without a screen are always visible.
SET_HIDDEN = """(isHidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
POST_CUSTOMER = """async ([name, key]) => {
    const { postForm } = await import("/console/static/lib/api.js");
    return postForm("/v1/customers", { name }, { idempotencyKey: key ?? undefined }).then(
        (made) => ({ name: made.name }),
        (error) => ({ status: error.status, code: error.code, message: error.message }),
    );
}"""


class Restartable:
    """A service that can be stopped, and started again at the same address."""

    def __init__(self, dsn: str, place: Path) -> None:
        self._dsn, self._place = dsn, place
        self.service = Service(dsn, place)
        self._port = str(self.service.port)

    def start(self) -> None:
        self.service = Service(self._dsn, self._place, LEDGER_PORT=self._port)


@pytest.fixture(scope="module")
def restartable(cluster: Cluster) -> Iterator[Restartable]:
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        restartable = Restartable(dsn, Path(place))
        yield restartable
        restartable.service.stop()


@pytest.fixture(scope="module")
def keys(restartable: Restartable) -> Iterator[tuple[str, str]]:
    """A secret key, and one of an operator, of one account."""
    registrar = Registrar(restartable.service.dsn, ThreadRunner())
    account = registrar.account()
    yield account.secret, registrar.key(account.id, "rk", scopes=OPERATOR_SCOPES)[1]
    registrar.close()


def create_customer(url: str, secret: str) -> None:
    with httpx.Client(base_url=url, timeout=30) as http:
        Caller(http, secret).customer(name="A customer")


def count_seen(page: Page) -> Any:
    return page.evaluate("seen.length")


def test_streams_and_polls_come_back_after_a_restart(
    browser: Browser, restartable: Restartable, keys: tuple[str, str]
) -> None:
    secret, operator_key = keys
    url = restartable.service.url
    create_customer(url, secret)
    console = Console(browser, url, operator_key)
    page = console.open_view("nowhere")
    page.evaluate(FOLLOW)
    wait_until(lambda: count_seen(page) >= 1)
    before = count_seen(page)
    restartable.service.stop()
    strip = page.get_by_text("No answer from the service. Trying again.")
    expect(strip).to_be_visible()
    check_accessible(page)
    take_picture(page, "no-answer")
    restartable.start()
    create_customer(url, secret)
    expect(strip).to_have_count(0, timeout=30_000)
    answers = page.evaluate("answers")
    wait_until(lambda: count_seen(page) > before and page.evaluate("answers") > answers)
    assert page.evaluate("marker") == "the same page"
    positions = page.evaluate("seen")
    assert positions == list(range(1, len(positions) + 1)), "an event was missed, or came twice"
    assert not page.evaluate("violations")
    console.close()


def test_pages_that_nobody_sees_leave_the_connections_to_others(
    browser: Browser, restartable: Restartable, keys: tuple[str, str]
) -> None:
    secret, operator_key = keys
    url = restartable.service.url
    console = Console(browser, url, operator_key)
    pages = []
    for _ in range(7):  # a browser has six connections for all pages of a host
        page = console.open_view("events")
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        page.evaluate(SET_HIDDEN, True)
        pages.append(page)
        console.page = console.context.new_page()
    create_customer(url, secret)
    rows = pages[0].get_by_role("row")
    before = rows.count()
    pages[0].evaluate(SET_HIDDEN, False)
    expect(rows).to_have_count(before + 1)
    assert not console.complaints
    console.close()


def test_an_action_without_an_answer_is_repeated_under_its_key_only(
    browser: Browser, restartable: Restartable, keys: tuple[str, str]
) -> None:
    console = Console(browser, restartable.service.url, keys[1])
    page = console.open_view("nowhere")
    sent: list[str | None] = []

    def lose_first_answer(route: Route) -> None:
        sent.append(route.request.headers.get("idempotency-key"))
        if len(sent) == 1:
            route.fetch()  # done, and nobody hears of it
            route.abort()
        else:
            route.continue_()

    page.route("**/v1/customers", lose_first_answer)
    assert page.evaluate(POST_CUSTOMER, ["Once", "console-test-1"]) == {"name": "Once"}
    assert sent == ["console-test-1", "console-test-1"]
    sent.clear()
    unanswered = page.evaluate(POST_CUSTOMER, ["Perhaps", None])
    assert (unanswered["status"], unanswered["code"]) == (0, "no_answer")
    assert "Look before you try it again." in unanswered["message"]
    assert sent == [None]
    page.unroute("**/v1/customers")
    with httpx.Client(base_url=restartable.service.url, timeout=30) as http:
        listed = Caller(http, keys[0]).get("/v1/customers?limit=100").json()["data"]
    names = [each["name"] for each in listed]
    assert (names.count("Once"), names.count("Perhaps")) == (1, 1)
    console.close()


def test_a_test_clock_that_is_moved_moves_the_times_of_the_page(
    browser: Browser, restartable: Restartable, keys: tuple[str, str]
) -> None:
    console = Console(browser, restartable.service.url, keys[1])
    page = console.open_view("nowhere")
    expect(page.get_by_text("Session ends in 3 h")).to_be_visible()
    moved = httpx.post(
        f"{restartable.service.url}/internal/v1/clock",
        json={"advance_seconds": 7200},
        headers={"authorization": f"Bearer {keys[1]}"},
    )
    assert moved.status_code == 200, moved.text
    expect(page.get_by_text("Session ends in 1 h")).to_be_visible()
    console.close()
