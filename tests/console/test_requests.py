"""The view Requests in a browser: the plot, groups of errors, single requests, and what one changed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.api.service import Caller, ok
from tests.console.browser import NARROW, check_accessible, check_width, take_picture
from tests.console.conftest import OpenView
from tests.webhooks.receiver import wait_until

EMAIL = "ada.rosenquist@example.com"


@pytest.fixture(scope="module")
def failed(raw: Caller, http: httpx.Client, operator_key: str) -> list[str]:
    """Ids of four requests that failed alike, the newest last; others failed otherwise."""
    ids = [raw.get(f"/v1/customers/cus_none{number}").headers["request-id"] for number in range(4)]
    raw.post("/v1/customers", {"balance": EMAIL})

    def list_kept() -> list[dict[str, Any]]:
        header = {"authorization": f"Bearer {operator_key}"}
        return list(ok(http.get("/internal/v1/requests?limit=100", headers=header))["data"])

    wait_until(lambda: {*ids} < {each["id"] for each in list_kept()})
    return ids


def test_errors_are_plotted_and_grouped_and_lead_to_their_requests(
    open_view: OpenView, failed: list[str]
) -> None:
    page = open_view("requests?span=1h")
    expect(page.locator("canvas")).to_have_count(2)
    check_accessible(page)
    check_width(page)
    take_picture(page, "requests")
    group = page.get_by_role("row").filter(has_text="GET /v1/customers/{customer}").filter(has_text="404")
    group.get_by_role("button").click()
    expect(page.get_by_role("region", name="Group")).to_contain_text("resource_missing")
    expect(page.get_by_role("link", name=failed[-1]).first).to_be_visible()
    assert "group=rgr_" in page.url
    page.reload()
    page.get_by_role("row").nth(1).get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(failed[-1])
    expect(page.get_by_text("No event was recorded by this request.")).to_be_visible()
    expect(page.get_by_text("GET /v1/customers/cus_none3")).to_be_visible()


def test_single_requests_are_filtered_by_the_url(open_view: OpenView, failed: list[str]) -> None:
    page = open_view("requests?tab=requests&status=400&operation=POST /v1/customers")
    expect(page.get_by_role("row").nth(1)).to_contain_text("Invalid integer: [removed]")
    assert EMAIL not in page.content()
    page.get_by_label("Status").fill("4x")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Invalid status")
    page.get_by_label("Status").fill("599")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No such request is kept.")).to_be_visible()
    page.set_viewport_size(NARROW)
    page = open_view("requests?tab=requests")
    check_width(page)
    check_accessible(page)


def test_a_request_leads_to_what_it_changed(open_view: OpenView, raw: Caller) -> None:
    answer = raw.post("/v1/customers", {"name": "Ada"})
    page = open_view(f"requests/{answer.headers['request-id']}")
    expect(page.get_by_text("It is not in the request log.")).to_be_visible()
    changed = page.get_by_role("region", name="What it changed").get_by_role("row").nth(1)
    expect(changed).to_contain_text(answer.json()["id"])
    check_accessible(page)
    check_width(page)
