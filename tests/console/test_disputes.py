"""The view of disputes: the board, the list, and one dispute with its evidence, in a real browser."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.service import Caller, Registrar, Service, ok
from tests.console.browser import (
    NARROW,
    WIDE,
    Console,
    check_accessible,
    check_tables,
    check_width,
    take_picture,
)
from tests.console.conftest import OPERATOR_SCOPES, OpenView

HOUR = 3600
PDF = b"%PDF-1.4\n%%EOF\n"
SCRIPT = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
LONG_TEXT = f"{SCRIPT} The log of the customer's visits. ".ljust(20_000, "x")
"""As long as one text may be."""


class Disputes(NamedTuple):
    """Ids of what the tests look at."""

    soon: str
    staged: str
    escalated: str
    program: str
    lost: str


class Network:
    """Reports disputes of an account."""

    def __init__(self, raw: Caller) -> None:
        self.raw = raw

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        headers = {"authorization": f"Bearer {self.raw.key}"}
        return ok(self.raw.http.post(f"/internal/v1{path}", json=body, headers=headers))

    def open(self, hours: float = 200, *, amount: int = 2000, **fields: Any) -> str:
        charge = self.raw.charge(amount=amount)["id"]
        report = {
            "charge": charge,
            "kind": "chargeback",
            "reason": "fraudulent",
            "network_reason_code": "10.4",
        }
        due_by = {} if fields.get("kind") == "prevented" else {"due_by": int(time.time() + hours * HOUR)}
        return str(self.post("/disputes", {**report, **due_by, **fields})["id"])

    def report(self, dispute: str, fact: str, **fields: Any) -> None:
        self.post(f"/disputes/{dispute}/facts", {"fact": fact, "reference": f"{fact}-{dispute}", **fields})

    def respond(self, dispute: str, evidence: Mapping[str, str], *, submit: bool = False) -> None:
        form = {f"evidence[{name}]": text for name, text in evidence.items()}
        ok(self.raw.post(f"/v1/disputes/{dispute}", {**form, "submit": "true" if submit else "false"}))

    def upload(self, name: str, content: bytes) -> str:
        form = {"data": {"purpose": "dispute_evidence"}, "files": {"file": (name, content)}}
        headers = {"authorization": f"Bearer {self.raw.key}"}
        return str(ok(self.raw.http.post("/v1/files", headers=headers, **form))["id"])  # type: ignore[arg-type]


def make_png(width: int, height: int) -> bytes:
    """An image with a colour for each place."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(
        b"\0" + b"".join(bytes((x * 255 // width, y * 255 // height, 160)) for x in range(width))
        for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def operator_key(registrar: Registrar) -> str:
    """A key of an account of this module's own: its disputes are counted."""
    return registrar.key(registrar.account().id, "rk", scopes=OPERATOR_SCOPES)[1]


@pytest.fixture(scope="module")
def raw(http: httpx.Client, operator_key: str) -> Caller:
    return Caller(http, operator_key)


@pytest.fixture(scope="module")
def network(raw: Caller) -> Network:
    return Network(raw)


@pytest.fixture(scope="module")
def disputes(network: Network) -> Disputes:
    """Disputes in every status, with evidence staged and submitted."""
    soon = network.open(5, amount=1_234_500, reason="product_not_received")
    network.open(50, reason="duplicate")
    staged = network.open(100, reason="fraudulent", amount=80_00)
    files = {
        "customer_signature": network.upload(f"signature {SCRIPT}.png", make_png(240, 120)),
        "shipping_documentation": network.upload("label.png", b"\x89PNG\r\n\x1a\n no image at all"),
        "receipt": network.upload("receipt.pdf", PDF),
    }
    texts = {"access_activity_log": LONG_TEXT, "customer_name": f"Ada {SCRIPT}"}
    network.respond(staged, files | texts)
    ok(network.raw.post(f"/v1/disputes/{staged}", {"metadata[note]": SCRIPT, "submit": "false"}))
    escalated = network.open(30, kind="inquiry", reason="subscription_canceled")
    network.respond(escalated, {"cancellation_rebuttal": "It was renewed as agreed."}, submit=True)
    network.report(escalated, "escalated", due_by=int(time.time() + 70 * HOUR))
    network.respond(escalated, {"cancellation_policy_disclosure": "It is on the order page."})
    network.open(20, kind="inquiry", reason="unrecognized")
    reviewed = network.open(90, reason="general")
    network.respond(reviewed, {"uncategorized_text": "A hat."}, submit=True)
    closed = network.open(90, kind="inquiry")
    network.report(closed, "inquiry_closed")
    network.report(network.open(90, amount=43_00, reason="credit_not_processed"), "won")
    lost = network.open(90)
    network.report(lost, "lost")
    appealed = network.open(90)
    network.report(appealed, "lost")
    network.report(appealed, "appeal_opened", due_by=int(time.time() + 300 * HOUR))
    network.open(kind="prevented")
    program = network.raw.dispute("tok_createCe3EligibleDispute")["id"]
    return Disputes(soon, staged, escalated, program, lost)


def wait_for_cards(page: Page, count: int) -> None:
    expect(page.locator(".dispute-card")).to_have_count(count)


def test_the_board_has_a_column_for_each_state_in_the_order_of_due_dates(
    disputes: Disputes, open_view: OpenView
) -> None:
    page = open_view("disputes")
    wait_for_cards(page, 12)
    titles = [each.inner_text() for each in page.locator(".board-column h2").all()]
    assert titles == [
        "Needs response", "Open inquiries", "Under review", "Won", "Lost", "Closed otherwise",
    ]  # fmt: skip
    first = page.locator(".board-column").first
    expect(first.locator(".dispute-card").first).to_contain_text("12,345.00 USD")
    expect(first.locator(".dispute-card").first).to_contain_text("4 h 59 min left")
    expect(first.locator(".board-count")).to_have_text("6")
    expect(page.locator(".due-count").nth(1)).to_contain_text("2 due within 24 hours")
    take_picture(page, "disputes")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        check_accessible(page)
    page.set_viewport_size(NARROW)
    wait_for_cards(page, 0)  # a narrow page has the list
    check_width(page)
    check_accessible(page)


def test_the_keyboard_reaches_every_card_and_opens_it(disputes: Disputes, open_view: OpenView) -> None:
    page = open_view("disputes")
    wait_for_cards(page, 12)
    focused = "document.activeElement.getAttribute('href')"
    page.keyboard.press("j")
    assert page.evaluate(focused) == f"/console/disputes/{disputes.soon}"
    page.keyboard.press("j")
    assert page.evaluate(focused) != f"/console/disputes/{disputes.soon}"
    page.keyboard.press("ArrowUp")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("h")
    assert (
        page.evaluate("document.activeElement.closest('section').querySelector('h2').innerText")
        == "Under review"
    )
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("general")
    page.go_back()
    wait_for_cards(page, 12)
    page.keyboard.press("b")
    expect(page.locator("tbody tr")).to_have_count(12)
    assert "view=list" in page.url


def test_filters_and_pages_of_the_list_are_in_the_url(disputes: Disputes, open_view: OpenView) -> None:
    page = open_view("disputes?view=list&reason=duplicate&status=needs_response")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Reason").select_option("")
    expect(page.locator("tbody tr")).to_have_count(5)
    check_tables(page)
    page.get_by_label("Due").select_option("24h")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert "due=24h" in page.url
    page = open_view("disputes?due=72h")
    expect(page.locator(".board-column")).to_have_count(2)
    wait_for_cards(page, 4)
    page = open_view("disputes?view=list&status=won&reason=general")
    expect(page.locator(".empty")).to_contain_text("No disputes match")


def test_a_due_date_that_is_no_choice_is_said(disputes: Disputes, open_view: OpenView) -> None:
    page = open_view("disputes?due=tomorrow")
    expect(page.get_by_text("“tomorrow” is no choice of Due")).to_be_visible()
    expect(page.get_by_label("Due")).to_have_value("tomorrow")


def test_evidence_is_shown_field_by_field_as_text(
    disputes: Disputes, open_view: OpenView, http: httpx.Client
) -> None:
    page = open_view(f"disputes/{disputes.staged}")
    expect(page.locator("h1")).to_have_text("80.00 USD · fraudulent")
    fields = page.locator(".evidence-field")
    expect(fields).to_have_count(5)
    expect(fields.filter(has_text="customer name")).to_contain_text(f"Ada {SCRIPT}")
    log = fields.filter(has_text="access activity log")
    assert len(log.inner_text()) < 1000
    log.get_by_role("button", name="Show all 20,000 characters").click()
    expect(log.locator(".evidence-text")).to_have_text(LONG_TEXT)
    expect(page.locator("canvas.thumbnail")).to_have_count(1)
    expect(page.locator("canvas.thumbnail")).to_have_attribute("width", "160")
    expect(fields.filter(has_text="shipping documentation")).to_contain_text("No preview")
    with page.expect_download() as started:
        fields.filter(has_text="receipt").get_by_role("button", name="Download").click()
    assert started.value.suggested_filename == "receipt.pdf"
    assert started.value.path().read_bytes() == PDF
    assert page.evaluate("window.hacked") is None
    log.get_by_role("button", name="Show less").click()
    take_picture(page, "dispute")
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        check_width(page)
        check_accessible(page)
    page.emulate_media(color_scheme="dark")
    check_accessible(page)


def test_what_is_missing_follows_from_the_reason_and_what_was_sold(
    disputes: Disputes, open_view: OpenView
) -> None:
    page = open_view(f"disputes/{disputes.staged}")
    missing = page.locator(".missing-not")
    expect(page.locator(".missing-there")).to_have_count(2)
    expect(missing).to_have_count(5)
    page.get_by_label("What was sold").select_option("digital")
    expect(missing).to_have_count(2)
    assert "sold=digital" in page.url
    page = open_view(f"disputes/{disputes.program}")
    expect(page.get_by_text("Visa Compelling Evidence 3.0")).to_be_visible()
    expect(page.locator(".missing-not").first).to_contain_text("identifiers of the customer")


def test_submissions_and_money_come_from_the_history(disputes: Disputes, open_view: OpenView) -> None:
    page = open_view(f"disputes/{disputes.escalated}")
    fields = page.locator(".evidence-field")
    expect(fields.filter(has_text="cancellation rebuttal")).to_contain_text("submitted")
    expect(fields.filter(has_text="cancellation policy disclosure")).to_contain_text("staged")
    expect(page.locator(".submissions li")).to_have_count(1)
    expect(page.locator(".submissions")).to_contain_text("Submission 1")
    expect(page.locator(".leg")).to_have_count(1)
    expect(page.locator(".leg")).to_contain_text("\N{MINUS SIGN}20.00 USD")
    expect(page.get_by_label("Postings of the dispute").locator("tbody tr")).not_to_have_count(0)
    timeline = page.get_by_role("link", name="Timeline")
    expect(timeline).to_have_attribute("href", f"/console/objects/{disputes.escalated}")


def test_a_dispute_that_is_not_there_is_said_plainly(open_view: OpenView) -> None:
    page = open_view("disputes/du_none")
    expect(page.get_by_role("alert")).to_contain_text("No such dispute: 'du_none'")


def test_a_key_for_disputes_alone_is_told_what_else_it_would_need(
    disputes: Disputes, browser: Browser, service: Service, network: Network
) -> None:
    """And nothing is asked for that it may not see."""
    key = network.post("/keys", {"kind": "rk", "scopes": ["rak_dispute_read"]})["key"]
    console = Console(browser, service.url, key)
    refused: list[str] = []
    console.page.on("response", lambda answer: refused.append(answer.url) if answer.status == 403 else None)
    try:
        page = console.open_view("disputes")
        wait_for_cards(page, 12)
        page = console.open_view(f"disputes/{disputes.staged}")
        expect(page.locator(".evidence-field")).to_have_count(5)
        expect(page.get_by_text("rak_file_read").first).to_be_visible()
        expect(page.get_by_text("The history of submissions needs a key with the scope")).to_be_visible()
        console.check_policy()
    finally:
        console.close()
    assert refused == []


def test_the_board_shows_what_happens_without_a_reload(
    disputes: Disputes, network: Network, open_view: OpenView
) -> None:
    page = open_view("disputes?reason=noncompliant")
    wait_for_cards(page, 0)
    opened = network.open(reason="noncompliant")
    expect(page.locator(f"a[href$='{opened}']")).to_be_visible(timeout=8000)
