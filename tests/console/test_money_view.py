"""The view *Money*: the books add up at every moment, two moments are compared, postings lead to objects."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from tests.api.service import Caller, Registrar
from tests.console.browser import NARROW, Console, check_accessible, check_width, take_picture

MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def books(registrar: Registrar, http: httpx.Client) -> str:
    """The key of an account with a charge, a dispute over another one, and then a charge in yen."""
    account = registrar.account()
    caller = Caller(http, account.secret)
    caller.charge()
    caller.dispute()
    caller.charge(currency="jpy", amount=5000)
    return registrar.key(account.id, "rk", scopes=["audit"])[1]


@pytest.fixture
def console(console: Console, books: str) -> Console:
    console.sign_in(books)
    return console


def read_row(console: Console, currency: str, account: str) -> list[str]:
    table = console.page.get_by_role("table", name=f"Trial balance in {currency}")
    return table.get_by_role("row").filter(has_text=account).get_by_role("cell").all_inner_texts()


def test_the_books_of_each_currency_add_up_to_zero(console: Console) -> None:
    page = console.open_view("money")
    expect(page.get_by_text("debits and credits are equal")).to_have_count(2)
    assert read_row(console, "USD", "network")[1:] == ["40.00 USD", "20.00 USD", "20.00 USD"]
    assert read_row(console, "USD", "Total")[1:] == ["75.00 USD", "75.00 USD", "0.00 USD"]
    assert read_row(console, "JPY", "Total")[-1] == "0 JPY"
    take_picture(page, "money")
    check_accessible(page)
    page.set_viewport_size(NARROW)
    check_width(page)


def test_two_moments_are_compared_and_a_link_is_the_view(console: Console) -> None:
    page = console.open_view("money?tab=journal&order=asc")
    first = page.get_by_role("row").nth(1).get_by_role("cell").last.inner_text()
    page = console.open_view(f"money?compare=position:{first}")
    assert read_row(console, "USD", "network")[3:] == ["20.00 USD", "20.00 USD", "0.00 USD"]
    assert read_row(console, "USD", "dispute fees")[3:] == [
        f"{MINUS}15.00 USD",
        "0.00 USD",
        f"{MINUS}15.00 USD",
    ]
    page = console.open_view(f"money?at=position:{first}")
    expect(page.get_by_role("table")).to_have_count(1)
    check_accessible(page)


def test_a_moment_that_is_none_is_refused_in_words_and_the_field_stays(console: Console) -> None:
    page = console.open_view("money?at=yesterday")
    expect(page.get_by_role("alert")).to_contain_text("'yesterday' is neither a unix time")
    page.get_by_label("At", exact=True).fill("position:1")
    page.keyboard.press("Tab")
    expect(page.get_by_text("As of position 1,")).to_be_visible()
    assert page.url.endswith("money?at=position%3A1")


def test_the_journal_is_filtered_by_url_and_leads_to_the_object_at_that_moment(console: Console) -> None:
    page = console.open_view("money?tab=journal&ledger_account=dispute_fees")
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("row").nth(1)).to_contain_text("dispute.opened")
    take_picture(page, "money-journal")
    check_accessible(page)
    link = page.get_by_role("row").nth(1).get_by_role("link").first.get_attribute("href") or ""
    assert link.startswith("/console/objects/du_")
    assert "?at=position" in link
    page = console.open_view("money?tab=journal&currency=eur")
    expect(page.get_by_text("No posting satisfies the filters.")).to_be_visible()
