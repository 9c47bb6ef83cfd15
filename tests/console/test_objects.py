"""Object: its timeline, its state at any moment with what changed, and what belongs to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.service import Account, Caller, Registrar, Service, ok
from tests.console.browser import NARROW, Console, check_accessible, check_tables, check_width, take_picture
from tests.webhooks.receiver import wait_until

HOSTILE = "<script>alert(1)</script>"
LONG = "x" * 150_000
VERSIONS = 45
IS_SEALED = "SELECT t.size >= h.position FROM ledger.tree_head t, ledger.head h"


@pytest.fixture(scope="module")
def dispute(raw: Caller) -> Any:
    """A dispute in four versions: opened, evidence staged, evidence submitted, won."""
    opened = raw.dispute()
    path = f"/v1/disputes/{opened['id']}"
    staged = {"evidence[product_description]": HOSTILE, "submit": "false", "metadata[order]": "7"}
    ok(raw.post(path, staged))
    return ok(raw.post(path, {"evidence[uncategorized_text]": "winning_evidence", "submit": "true"}))


@pytest.fixture(scope="module")
def customer(raw: Caller) -> str:
    """The id of a customer in VERSIONS versions, each with its number as description."""
    made: str = raw.customer(description="1", source="tok_visa")["id"]
    for version in range(2, VERSIONS + 1):
        ok(raw.post(f"/v1/customers/{made}", {"description": str(version)}))
    return made


def show_status(page: Page) -> str:
    """The row of the member `status` in the object, with what it was before."""
    return page.locator(".json-row", has_text="status:").last.inner_text()


def test_each_version_is_shown_with_what_changed_marked(console: Console, dispute: Any) -> None:
    page = console.open_view(f"objects/{dispute['id']}")
    expect(page.get_by_text("Version 4 of 4 · dispute.won")).to_be_visible()
    assert "under_review" in show_status(page)
    page.keyboard.press("[")
    expect(page.get_by_text("Version 3 of 4 · dispute.evidence_submitted")).to_be_visible()
    expect(page.locator("del", has_text="needs_response")).to_be_visible()
    table = page.get_by_role("region", name="What changed")
    expect(table.get_by_role("row", name="status needs_response under_review")).to_be_visible()
    take_picture(page, "object")
    check_accessible(page)

    page.get_by_label("Version of the object").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("Version 2 of 4 · dispute.evidence_staged")).to_be_visible()
    expect(page.locator(".json-added", has_text="product_description")).to_contain_text(HOSTILE)
    page.keyboard.press("Home")
    expect(page.get_by_text("The object did not exist yet at this moment")).to_be_visible()
    page.get_by_role("button", name="Show its creation").click()
    expect(page.get_by_text("Version 1 of 4 · dispute.opened")).to_be_visible()
    page.keyboard.press("}")
    expect(page.get_by_text("Version 4 of 4")).to_be_visible()
    assert page.url.endswith(dispute["id"])


def test_a_link_is_the_moment(console: Console, dispute: Any) -> None:
    page = console.open_view(f"objects/{dispute['id']}")
    page.get_by_role("link", name="dispute.evidence_staged").click()
    expect(page.get_by_text("Version 2 of 4")).to_be_visible()
    url = page.url
    assert "at=position" in url
    page.reload()
    expect(page.get_by_text("Version 2 of 4 · dispute.evidence_staged")).to_be_visible()
    assert page.url == url
    field = page.get_by_label("Any moment")
    field.fill("2020-01-01 12:00")
    field.press("Enter")
    expect(page.get_by_text("The object did not exist yet at this moment")).to_be_visible()
    field.fill("last tuesday")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("neither a unix time, nor an ISO 8601 time")
    expect(page.get_by_text("No version is shown, of 4")).to_be_visible()
    page.get_by_role("button", name="Now", exact=True).click()
    expect(page.get_by_text("Version 4 of 4")).to_be_visible()


def test_the_slider_is_exact_among_more_changes_than_a_page_has(console: Console, customer: str) -> None:
    page = console.open_view(f"objects/{customer}")
    rows = page.get_by_label("Changes").get_by_role("listitem")
    expect(page.get_by_text(f"26 to {VERSIONS} of {VERSIONS} changes")).to_be_visible()
    slider = page.get_by_label("Version of the object")
    for version, pages in (("7", "6 to 25"), ("3", "1 to 5"), ("44", "26 to 45")):
        slider.fill(version)
        expect(page.get_by_text(f"Version {version} of {VERSIONS} · customer.updated")).to_be_visible()
        expect(page.locator(".json-changed", has_text="description")).to_contain_text(f'"{version}"')
        expect(page.get_by_text(f"{pages} of {VERSIONS} changes")).to_be_visible()
        expect(rows.filter(has=page.locator("[aria-current]"))).to_contain_text(version)
    page.keyboard.press("n")
    expect(page.get_by_text(f"6 to 25 of {VERSIONS} changes")).to_be_visible()
    page.get_by_role("link", name="7 customer.updated", exact=True).click()
    expect(page.get_by_text(f"Version 7 of {VERSIONS}")).to_be_visible()
    moment = page.url.partition("at=")[2].partition("&")[0]
    console.open_view(f"objects/{customer}?at={moment}")  # the page follows from the moment
    expect(page.get_by_text(f"6 to 25 of {VERSIONS} changes")).to_be_visible()


def test_what_belongs_to_it_is_shown_as_of_the_moment(console: Console, raw: Caller, dispute: Any) -> None:
    charge = dispute["charge"]
    page = console.open_view(f"objects/{charge}?tab=related")
    disputes = page.get_by_role("region", name="Disputes").last
    expect(disputes.get_by_role("link", name=dispute["id"])).to_be_visible()
    expect(page.get_by_text("None at this moment.")).to_be_visible()  # no refunds
    page = console.open_view(f"objects/{dispute['id']}?tab=related")
    expect(page.get_by_role("tabpanel").get_by_role("link", name=charge).first).to_be_visible()
    check_accessible(page)

    page.get_by_role("tab", name="Money").click()
    expect(page.get_by_role("row", name="merchant balance")).to_have_count(2)
    expect(page.get_by_text("Debits less credits")).to_be_visible()
    assert page.url.endswith("?tab=money")
    check_accessible(page)
    page = console.open_view(f"objects/{dispute['id']}?tab=raw")
    assert json.loads(page.get_by_label("The object as JSON").inner_text())["id"] == dispute["id"]


def test_deliveries_of_its_events_are_shown(console: Console, raw: Caller) -> None:
    endpoint = ok(raw.post("/v1/webhook_endpoints", {"url": "http://127.0.0.1:9", "enabled_events[]": "*"}))
    made = raw.customer()["id"]
    ok(raw.post(f"/v1/customers/{made}", {"description": "changed"}))
    page = console.open_view(f"objects/{made}?tab=deliveries")
    rows = page.get_by_role("row", name=endpoint["id"])
    for _ in range(20):  # the fan-out follows within a second
        if rows.count() == 2:
            break
        page.wait_for_timeout(100)
        console.open_view(f"objects/{made}?tab=deliveries")
    expect(rows.last).to_contain_text("customer.created")
    expect(rows.first).to_contain_text("customer.updated")
    check_accessible(page)
    check_tables(page)
    ok(raw.delete(f"/v1/webhook_endpoints/{endpoint['id']}"))


def test_the_record_is_proven_and_its_proof_is_downloaded(console: Console, dispute: Any) -> None:
    page = console.open_view(f"objects/{dispute['id']}")
    expect(page.get_by_text("checked in this browser")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name=".tlog-proof").click()
    proof = download.value.path().read_text()
    assert proof.startswith("c2sp.org/tlog-proof@v1"), proof[:80]


def test_a_change_appears_by_itself(console: Console, raw: Caller) -> None:
    made = raw.customer(description="before")["id"]
    page = console.open_view(f"objects/{made}")
    expect(page.get_by_text("Version 1 of 1")).to_be_visible()
    ok(raw.post(f"/v1/customers/{made}", {"description": "after"}))
    expect(page.get_by_text("Version 2 of 2 · customer.updated")).to_be_visible()
    page.keyboard.press("[")
    page.wait_for_url("**at=*")
    ok(raw.post(f"/v1/customers/{made}", {"description": "last"}))
    page.get_by_role("button", name="Show the newest").click()
    expect(page.get_by_text("Version 1 of 3")).to_be_visible()


def test_hostile_and_deep_content_is_text_and_a_deleted_object_says_so(
    console: Console, http: httpx.Client, operator_key: str
) -> None:
    deep: Any = {"text": HOSTILE}
    for _ in range(28):
        deep = {"inner": deep}
    body = {"event_type": "invoice.updated", "object": {"long": LONG, "deep": deep, "name": HOSTILE}}
    headers = {"authorization": f"Bearer {operator_key}"}
    path = "/internal/v1/resources/invoice/in_hostile00001"
    ok(http.put(path, json=body, headers=headers))
    page = console.open_view("objects/in_hostile00001")
    expect(page.locator(".json").get_by_role("button", name="150,000 characters")).to_be_visible()
    assert HOSTILE in page.locator(".json").inner_text()
    assert page.locator("main script").count() == 0
    check_width(page)
    ok(http.request("DELETE", path, json={"event_type": "invoice.deleted"}, headers=headers))
    page = console.open_view("objects/in_hostile00001")
    expect(page.get_by_text("It is deleted")).to_be_visible()
    page.keyboard.press("[")
    expect(page.locator(".json").get_by_role("button", name="150,000 characters")).to_be_visible()


def test_a_redacted_object_says_so_and_which_members_have_changed(console: Console, raw: Caller) -> None:
    made = raw.customer(name="Ada")["id"]
    ok(raw.post(f"/v1/customers/{made}", {"name": "Ada L."}))
    page = console.open_view(f"objects/{made}")
    expect(page.get_by_text("Ada L.").first).to_be_visible()
    expect(page.get_by_text("redacted", exact=True)).to_have_count(0)
    erase(raw, made)
    page = console.open_view(f"objects/{made}")
    expect(page.locator(".badge", has_text="redacted")).to_be_visible()
    expect(page.get_by_text("changed; both values are redacted")).to_be_visible()
    expect(page.get_by_text("Ada L.")).to_have_count(0)


def erase(raw: Caller, customer: str) -> None:
    """Erase a customer by a redaction job."""
    preview = {"stripe-version": "2026-09-30.preview"}
    jobs = "/v1/privacy/redaction_jobs"
    job = ok(raw.call("POST", jobs, {"objects[customers][0]": customer}, preview))["id"]

    def has(status: str) -> bool:
        return bool(ok(raw.call("GET", f"{jobs}/{job}", None, preview))["status"] == status)

    wait_until(lambda: has("ready"))
    ok(raw.call("POST", f"{jobs}/{job}/run", None, preview))
    wait_until(lambda: has("succeeded"), seconds=60)


@pytest.fixture
def unreadable(service: Service, raw: Caller) -> Iterator[str]:
    """The id of a customer whose third record cannot be read."""
    made = raw.customer(description="1")["id"]
    for text in ("2", "3"):
        ok(raw.post(f"/v1/customers/{made}", {"description": text}))
    raw.customer()  # the last record of the tree is compared whenever more is sealed
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        wait_until(lambda: conn.execute(IS_SEALED).fetchone() == (True,))
        conn.execute("ALTER TABLE ledger.events DISABLE TRIGGER USER")
        stored = conn.execute(
            "SELECT state FROM ledger.events WHERE originator_id = %s AND originator_version = 3", (made,)
        ).fetchone()
        assert stored is not None
        store = "UPDATE ledger.events SET state = %s WHERE originator_id = %s AND originator_version = 3"
        conn.execute(store, (b"not JSON", made))
        yield made
        conn.execute(store, (stored[0], made))
        conn.execute("ALTER TABLE ledger.events ENABLE TRIGGER USER")


def test_an_object_with_an_unreadable_record_is_shown_as_of_a_moment_before_it(
    console: Console, unreadable: str
) -> None:
    page = console.open_view(f"objects/{unreadable}")
    expect(page.get_by_role("alert")).to_contain_text("A record of this object cannot be read")
    expect(page.get_by_role("alert")).to_contain_text("not_json: version 3")
    page.get_by_label("Changes").get_by_role("link", name="2 customer.updated").click()
    expect(page.locator(".json-changed", has_text="description")).to_contain_text('"2"')


def test_the_view_fits_a_narrow_page(console: Console, dispute: Any) -> None:
    console.page.set_viewport_size(NARROW)
    page = console.open_view(f"objects/{dispute['id']}")
    assert page.evaluate("scrollY") == 0  # the timeline scrolls to its row, never the page
    take_picture(page, "object-narrow")
    for tab in ("State", "Related", "Money", "Deliveries", "Raw JSON"):
        page.get_by_role("tab", name=tab).click()
        console.wait_until_drawn()
        check_width(page)
    check_accessible(page)


def test_a_key_without_audit_sees_the_object_and_what_is_missing(
    browser: Browser, service: Service, registrar: Registrar, account: Account, dispute: Any
) -> None:
    key = registrar.key(account.id, "rk", scopes=["rak_dispute_read"])[1]
    console = Console(browser, service.url, key)
    try:
        page = console.open_view(f"objects/{dispute['id']}")
        expect(page.locator(".json")).to_contain_text("winning_evidence")
        expect(page.get_by_text("needs a key with the scope audit")).to_be_visible()
        check_accessible(page)
        console.check_policy()
    finally:
        console.close()


def test_personal_data_is_named_but_not_shown_without_its_scope(
    browser: Browser, service: Service, registrar: Registrar, account: Account, customer: str
) -> None:
    console = Console(browser, service.url, registrar.key(account.id, "rk", scopes=["audit"])[1])
    try:
        page = console.open_view(f"objects/{customer}")
        row = page.get_by_role("row", name="description")
        expect(row).to_contain_text("personal data, shown with the scope personal_data")
        expect(page.locator(".json-changed", has_text="description")).to_contain_text("null")
        page.get_by_role("tab", name="Deliveries").click()
        expect(page.get_by_text("needs a key with the scope webhooks")).to_be_visible()
        console.check_policy()
    finally:
        console.close()
