"""What the code and the documents say of Stripe's API is what the pinned SDK has."""

from __future__ import annotations

import re

from ledger.api.unknown_routes.hints import STRIPE_ROUTES_FILE
from ledger.config import Settings
from ledger.domain import dispute_decisions
from tests.sdk.api_tables import DOCUMENT, render_document, render_stripe_routes


def test_the_list_of_stripes_routes_is_that_of_the_pinned_sdk() -> None:
    assert STRIPE_ROUTES_FILE.read_text() == render_stripe_routes(), "run `make api-tables`"


def test_the_tables_of_the_document_are_what_the_code_serves() -> None:
    assert DOCUMENT.read_text() == render_document(DOCUMENT.read_text()), "run `make api-tables`"


def test_the_document_names_every_text_that_decides_a_dispute_and_its_outcome() -> None:
    section = DOCUMENT.read_text().partition("## Evidence that decides")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))
    words = {"won": "`won`", "lost": "`lost`", "inquiry_closed": "`warning_closed`", "escalated": "escalated"}
    on_chargebacks, on_inquiries = dispute_decisions._TEST_OUTCOMES, dispute_decisions._TEST_INQUIRY_OUTCOMES
    assert set(rows) == set(on_chargebacks) | set(on_inquiries)
    for text, row in rows.items():
        on_chargeback, on_inquiry = row.split(" | ")
        assert words.get(on_chargebacks.get(text, ""), "stays") in on_chargeback
        assert words[on_inquiries[text]] in on_inquiry


def test_the_document_has_the_limits_of_the_settings() -> None:
    section = DOCUMENT.read_text().partition("## Limits and headers")[2]
    fields = Settings.model_fields
    assert fields["body_bytes_max"].default == 2_000_000
    assert "2 MB (`LEDGER_BODY_BYTES_MAX`)" in section
    assert fields["file_bytes_max"].default == 16 * 1024**2
    assert "16 MiB (`LEDGER_FILE_BYTES_MAX`)" in section
    assert f"| {fields['webhook_endpoints_max'].default} an account and mode" in section
