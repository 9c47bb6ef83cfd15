"""The view of deliveries in a browser: endpoints, the list, one delivery, and jobs that send many again."""

from __future__ import annotations

import re

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.api.service import Caller, Service, ok
from tests.console.browser import NARROW, Console, check_accessible, check_tables, check_width, take_picture
from tests.console.seed import Shop
from tests.webhooks.receiver import wait_until

OPEN_BREAKER = """
UPDATE webhooks.endpoint_health SET opened_at = now(), probe_at = now() + interval '1 hour'
WHERE endpoint = %s
"""
CLOSE_BREAKER = "UPDATE webhooks.endpoint_health SET opened_at = NULL WHERE endpoint = %s"


@pytest.fixture(scope="module")
def operator(raw: Caller, operator_key: str, shop: Shop) -> Caller:
    """With every scope; the Events of the shop are delivered, or were tried once."""
    operator = Caller(raw.http, operator_key)
    path = f"/internal/v1/webhooks/deliveries?limit=100&endpoint={shop.failing_endpoint}"

    def is_settled() -> bool:
        rows = ok(operator.get(path))["data"]
        return bool(rows) and all(row["attempt_count"] > 0 for row in rows)

    wait_until(is_settled)
    return operator


def test_endpoints_are_above_the_list_and_lead_to_their_deliveries(
    console: Console, operator: Caller, shop: Shop
) -> None:
    page = console.open_view("deliveries")
    endpoints = page.get_by_role("table", name="Endpoints")
    failing = endpoints.get_by_role("row").filter(has_text=shop.failing_endpoint)
    expect(failing).to_contain_text(re.compile("fails|tried now|paused"))
    expect(failing).to_contain_text("500")
    expect(failing).to_contain_text("/failing")  # the key may read webhook endpoints
    expect(endpoints.get_by_role("row").filter(has_text=shop.accepting_endpoint)).to_contain_text("accepts")
    take_picture(page, "deliveries-endpoints")
    check_tables(page)
    failing.get_by_role("button").click()
    page.wait_for_url(f"**/deliveries?endpoint={shop.failing_endpoint}")
    deliveries = page.get_by_role("table", name="Deliveries")
    expect(deliveries.get_by_role("row").filter(has_text=shop.accepting_endpoint)).to_have_count(0)
    expect(deliveries.get_by_role("row").nth(1)).to_contain_text("pending")
    page.get_by_label("State").select_option("delivered")
    expect(page.get_by_text("No delivery matches")).to_be_visible()
    page.go_back()
    expect(deliveries.get_by_role("row").nth(1)).to_contain_text("pending")


def test_one_delivery_shows_what_the_receiver_answered_as_text(
    console: Console, operator: Caller, shop: Shop
) -> None:
    page = console.open_view(f"deliveries?endpoint={shop.failing_endpoint}")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/deliveries/dlv_*")
    expect(page.get_by_role("heading", level=2, name="Attempts")).to_be_visible()
    expect(page.locator(".attempt-answer").first).to_have_text(
        "<h1>Down</h1><script>window.hacked = 1</script>"
    )
    assert page.evaluate("window.hacked ?? null") is None
    check_accessible(page)
    take_picture(page, "deliveries-one")
    delivery = page.url.rpartition("/")[2]
    path = f"/internal/v1/webhooks/deliveries/{delivery}"
    before = ok(operator.get(path))["attempt_count"]
    page.get_by_role("button", name="Send again").click()
    page.get_by_role("dialog").get_by_role("button", name="Send again").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    wait_until(lambda: ok(operator.get(path))["attempt_count"] > before)
    expect(page.locator(".attempt")).to_have_count(before + 1)
    page.set_viewport_size(NARROW)
    check_width(page)


def fill_reason(page: Page, text: str) -> None:
    page.get_by_role("dialog").get_by_label("Why").fill(text)


def test_all_that_match_are_counted_then_sent_again_by_a_job(
    console: Console, operator: Caller, shop: Shop
) -> None:
    query = f"endpoint={shop.accepting_endpoint}&state=delivered&type=customer.created"
    page = console.open_view(f"deliveries?{query}")
    page.keyboard.press("s")
    dialog = page.get_by_role("dialog")
    count = len(ok(operator.get(f"/internal/v1/webhooks/deliveries?limit=100&{query}"))["data"])
    confirm = dialog.get_by_role("button", name=f"Send {count} deliveries again")
    expect(confirm).to_be_disabled()  # a reason is missing
    expect(dialog).to_contain_text(f"{count} deliveries would be sent again")
    expect(dialog).to_contain_text("Their receivers get these Events once more.")
    check_accessible(page)
    take_picture(page, "deliveries-retry")
    fill_reason(page, "the receiver lost them")
    confirm.dblclick()
    expect(dialog).to_contain_text("has begun")
    dialog.get_by_role("link").click()
    page.wait_for_url("**/deliveries/wrt_*")
    expect(page.get_by_text("completed").first).to_be_visible()
    expect(page.locator("main")).to_contain_text("the receiver lost them")
    retry = page.url.rpartition("/")[2]
    shown = ok(operator.get(f"/internal/v1/webhooks/retries/{retry}"))
    assert (shown["made_due"], shown["delivered"]) == (count, count)
    assert len(ok(operator.get("/internal/v1/webhooks/retries"))["data"]) == 1, "a double click does it once"
    check_accessible(page)
    take_picture(page, "deliveries-job")
    page.get_by_role("link", name="Its deliveries").click()
    page.wait_for_url(f"**/deliveries?job={retry}")
    expect(page.get_by_role("table", name="Deliveries").get_by_role("row")).to_have_count(count + 1)


def test_a_job_is_watched_and_cancelled_at_the_top_of_the_view(
    console: Console, operator: Caller, shop: Shop, service: Service
) -> None:
    # It opens by itself after a minute of failures.
    with psycopg.connect(service.dsn) as conn:
        conn.execute(OPEN_BREAKER, [shop.failing_endpoint])
    page = console.open_view(f"deliveries?endpoint={shop.failing_endpoint}&state=pending")
    page.get_by_role("button", name="Send again all that match").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("checkbox", name="pending")).to_be_checked()
    dialog.get_by_label("Last HTTP status").fill("404")
    expect(dialog).to_contain_text("No delivery matches")
    expect(dialog).to_contain_text("What still waits is “pending”")
    dialog.get_by_label("Last HTTP status").fill("500")
    expect(dialog).to_contain_text("would be sent again")
    fill_reason(page, "try them now")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("has begun")
    dialog.get_by_role("button", name="Close").last.click()
    running = page.locator(".panel").filter(has_text="Jobs under way")
    expect(running.get_by_role("progressbar")).to_be_visible()
    expect(running).to_contain_text("last status 500")
    page.set_viewport_size(NARROW)
    check_width(page)
    check_accessible(page)
    take_picture(page, "deliveries-job-narrow")
    running.get_by_role("link", name="wrt_").click()
    expect(page.get_by_role("table", name="By endpoint")).to_contain_text("failed over and over")
    page.go_back()
    expect(page.get_by_role("table", name="Deliveries")).to_contain_text(re.compile(r"due (now|\d+ s ago)"))
    running.get_by_role("button", name="Cancel").click()
    expect(dialog).to_contain_text("get the state back that they had before it")
    fill_reason(page, "enough")
    dialog.get_by_role("button", name="Cancel the job").click()
    expect(running).to_have_count(0)
    (newest, *_) = ok(operator.get("/internal/v1/webhooks/retries"))["data"]
    assert newest["state"] == "cancelled"
    assert newest["returned"] > 0
    with psycopg.connect(service.dsn) as conn:
        conn.execute(CLOSE_BREAKER, [shop.failing_endpoint])


def test_a_window_is_replayed_from_the_same_place(console: Console, operator: Caller, shop: Shop) -> None:
    page = console.open_view(f"deliveries?endpoint={shop.accepting_endpoint}&type=customer.created")
    page.get_by_role("button", name="Replay a window").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Choose an endpoint and where the window begins.")
    dialog.get_by_label("From (UTC)").fill("yesterday")
    expect(dialog).to_contain_text("This is no time.")
    dialog.get_by_label("From (UTC)").fill("2020-01-01")
    expect(dialog).to_contain_text("would be sent")
    check_accessible(page)
    take_picture(page, "deliveries-replay")
    fill_reason(page, "a new receiver")
    dialog.get_by_role("button", name="Send").click()
    expect(dialog).to_contain_text("has begun")
    page = console.open_view("deliveries/jobs?tab=replays")
    row = page.get_by_role("table", name="Jobs").get_by_role("row").nth(1)
    expect(row).to_contain_text("whr_")
    check_accessible(page)
    take_picture(page, "deliveries-jobs")


def test_a_filter_that_is_no_time_and_an_unknown_endpoint_are_said(console: Console, shop: Shop) -> None:
    page = console.open_view("deliveries?since=soon")
    expect(page.get_by_role("alert")).to_contain_text('"soon" is no time')
    page = console.open_view("deliveries?endpoint=we_none")
    expect(page.get_by_role("alert")).to_contain_text("No such webhook endpoint: 'we_none'")
    page = console.open_view("deliveries/dlv_none")
    expect(page.get_by_role("alert")).to_contain_text("No such delivery")
