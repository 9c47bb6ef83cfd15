"""The tables of contract §3.4, row by row: what each test card causes, and what each text in submitted
evidence."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.api.service import Caller, assert_refused, ok
from tests.contract import rows


class Dispute(NamedTuple):
    """The expected members of a dispute; `...` is any value."""

    status: str
    reason: Any
    network_reason_code: Any
    case_type: str
    amount: int = 2000
    eligibility: tuple[str, ...] = ()


CARDS: dict[str, tuple[str, list[Dispute]]] = {
    "tok_visa": ("4242424242424242", []),
    "tok_mastercard": ("5555555555554444", []),
    "tok_bypassPending": ("4000000000000077", []),
    "tok_createDispute": (
        "4000000000000259",
        [Dispute("needs_response", "fraudulent", "10.4", "chargeback")],
    ),
    "tok_createDisputeProductNotReceived": (
        "4000000000002685",
        [Dispute("needs_response", "product_not_received", "13.1", "chargeback")],
    ),
    "tok_createDisputeInquiry": (
        "4000000000001976",
        [Dispute("warning_needs_response", ..., "10", "inquiry")],
    ),
    "tok_createMultipleDisputes": (
        "4000000404000079",
        [Dispute("needs_response", ..., ..., "chargeback", 1000)] * 2,
    ),
    "tok_createCe3EligibleDispute": (
        "4000000404000038",
        [Dispute("needs_response", ..., ..., "chargeback", eligibility=("visa_compelling_evidence_3",))],
    ),
    "tok_createComplianceDispute": (
        "4000008400000779",
        [Dispute("needs_response", "noncompliant", ..., "compliance", eligibility=("visa_compliance",))],
    ),
    "tok_createIssuerFraudRecord": ("4000000000005423", []),
}
DECLINES: dict[str, tuple[str, str | None]] = {
    "tok_chargeDeclined": ("card_declined", "generic_decline"),
    "tok_chargeDeclinedInsufficientFunds": ("card_declined", "insufficient_funds"),
    "tok_chargeDeclinedExpiredCard": ("expired_card", None),
    "tok_chargeDeclinedIncorrectCvc": ("incorrect_cvc", None),
    "tok_chargeDeclinedProcessingError": ("processing_error", None),
}
TEXTS: dict[str, tuple[str, list[str], str, list[str]]] = {
    "winning_evidence": ("won", ["funds_reinstated", "closed"], "warning_closed", ["closed"]),
    "losing_evidence": ("lost", ["closed"], "warning_closed", ["closed"]),
    "escalate_inquiry_evidence": ("under_review", [], "needs_response", ["updated", "funds_withdrawn"]),
}
"""By text: the outcome for a chargeback, for an inquiry, and the Events that follow the one of the
submission."""


def _spellings(token: str, number: str) -> list[str]:
    behaves = any(map(str.isupper, token))
    return [token, number, *([f"tok_visa_{token[4:]}"] if behaves else [])]


@rows("3.4", CARDS, "token")
def test_a_card_by_each_of_its_names(raw: Caller, token: str) -> None:
    number, expected = CARDS[token]
    for source in _spellings(token, number):
        charge = raw.charge(source, **{"expand[]": "balance_transaction"})
        funds = charge["balance_transaction"]
        assert (funds["status"] == "available") is (token == "tok_bypassPending"), source
        assert charge["payment_method_details"]["card"]["last4"] == number[-4:]
        disputes = ok(raw.get(f"/v1/disputes?charge={charge['id']}"))["data"]
        assert len(disputes) == len(expected), source
        for dispute, seen in zip(disputes, expected, strict=True):
            assert (dispute["status"], dispute["amount"]) == (seen.status, seen.amount)
            assert seen.reason in (..., dispute["reason"])
            assert seen.network_reason_code in (..., dispute["network_reason_code"])
            assert dispute["payment_method_details"]["card"]["case_type"] == seen.case_type
            assert dispute["enhanced_eligibility_types"] == list(seen.eligibility)
        after = ok(raw.get(f"/v1/charges/{charge['id']}"))
        assert (after["status"], after["disputed"]) == ("succeeded", bool(expected))
    assert len({each["id"] for each in ok(raw.get("/v1/disputes"))["data"]}) == len(
        _spellings(token, number)
    ) * len(expected)


@rows("3.4", DECLINES, "token")
def test_a_card_that_declines(raw: Caller, token: str) -> None:
    code, decline_code = DECLINES[token]
    for source in (token, f"tok_visa_{token[4:]}"):
        answer = raw.post("/v1/charges", {"amount": 2000, "currency": "usd", "source": source})
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["code"]) == (402, "card_error", code)
        assert decline_code in (None, error["decline_code"])
        assert ok(raw.get(f"/v1/charges/{error['charge']}"))["status"] == "failed"


@pytest.mark.parametrize("kind", ["chargeback", "inquiry"])
@rows("3.4", TEXTS, "text")
def test_a_text_of_a_submission(raw: Caller, text: str, kind: str) -> None:
    """Only exactly that text has the effect, and only when submitted, not staged. The answer and its Event
    precede the outcome."""
    won, won_events, closed, closed_events = TEXTS[text]
    status, events = (won, won_events) if kind == "chargeback" else (closed, closed_events)
    review = "under_review" if kind == "chargeback" else "warning_under_review"
    token = "tok_createDispute" if kind == "chargeback" else "tok_createDisputeInquiry"
    path = f"/v1/disputes/{raw.dispute(token)['id']}"
    name = "evidence[uncategorized_text]"
    ok(raw.post(path, {name: text, "submit": "false"}))
    before = len(raw.events())
    assert ok(raw.get(path))["evidence_details"]["submission_count"] == 0
    answer = raw.post(path, {"submit": "true"})
    assert ok(answer)["status"] == review
    after = ok(raw.get(path))
    assert after["status"] == status
    submission, *outcome = raw.events()[before:]
    assert submission["type"] == "charge.dispute.updated"
    assert submission["data"]["object"] == answer.json()
    assert submission["request"]["id"] == answer.headers["request-id"]
    assert [event["type"].removeprefix("charge.dispute.") for event in outcome] == events
    for event in outcome:
        assert event["request"] == {"id": None, "idempotency_key": None}
        assert event["data"]["object"] == after
    amounts = [each["amount"] for each in after["balance_transactions"]]
    assert amounts == {"won": [-2000, 2000], "warning_closed": []}.get(status, [-2000])
    for other in (f" {text}", f"{text}.", text.upper(), "anything"):
        path = f"/v1/disputes/{raw.dispute(token)['id']}"
        ok(raw.post(path, {name: other}))
        assert ok(raw.get(path))["status"] == review


@pytest.mark.contract("3.4 in live mode")
def test_in_live_mode_the_tokens_do_not_exist(live: Caller) -> None:
    for token in [*CARDS, *DECLINES, *(number for number, _ in CARDS.values())]:
        assert_refused(
            live.post("/v1/charges", {"amount": 2000, "currency": "usd", "source": token}),
            code="resource_missing",
            param="source",
            message=f"^No such token: '{token}'$",
        )


@pytest.mark.contract("3.4 in live mode")
@pytest.mark.parametrize("kind", ["chargeback", "inquiry"])
def test_in_live_mode_the_texts_have_no_effect(live: Caller, account: Any, registrar: Any, kind: str) -> None:
    _, key = registrar.key(account.id, "rk", livemode=True, scopes=["catalog", "network"])

    def ingest(path: str, **body: Any) -> Any:
        headers = {"authorization": f"Bearer {key}"}
        return ok(live.http.post(f"/internal/v1/{path}", json=body, headers=headers))

    for text in TEXTS:
        charge = ingest("charges", amount=2000, currency="usd")["id"]
        path = f"/v1/disputes/{ingest('disputes', charge=charge, kind=kind)['id']}"
        sent = ok(live.post(path, {"evidence[uncategorized_text]": text}))
        assert ok(live.get(path)) == sent
        assert sent["status"] in ("under_review", "warning_under_review")
