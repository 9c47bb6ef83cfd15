"""Disputes of charges that were refunded in part: amounts, balance transactions, Events, and concurrency."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe

from tests.api.service import Caller, assert_refused, ok
from tests.internal.conftest import InternalClient
from tests.internal.test_catalogue import create_id, ingest_charge, ingest_dispute
from tests.internal.test_import import import_lines

FUNDS_RETURNED = ["charge.dispute.funds_reinstated", "charge.dispute.closed"]


def report(operator: InternalClient, dispute_id: str, fact: str, **body: Any) -> Any:
    return operator.post(
        f"/disputes/{dispute_id}/facts", {"fact": fact, "reference": create_id("net"), **body}
    )


def refund(raw: Caller, charge_id: str, amount: int) -> Any:
    return raw.post("/v1/refunds", {"charge": charge_id, "amount": amount})


def moved(dispute: Any) -> list[int]:
    return [each["amount"] for each in dispute["balance_transactions"]]


@pytest.mark.contract("3.3 dispute after a partial refund")
@pytest.mark.parametrize("end", ["lost", "close", "legacy close", "losing_evidence"])
def test_a_loss_after_a_partial_refund_returns_what_was_refunded(
    operator: InternalClient, raw: Caller, client: stripe.StripeClient, end: str
) -> None:
    charge = ingest_charge(operator)["id"]
    ok(refund(raw, charge, 2000))
    opened = ingest_dispute(operator, charge=charge)
    assert (opened["amount"], moved(opened)) == (5000, [-5000])
    path = f"/v1/disputes/{opened['id']}"
    assert_refused(refund(raw, charge, 1), code="charge_disputed")
    match end:
        case "lost":
            ok(report(operator, opened["id"], "lost"))
        case "close":
            ok(raw.post(f"{path}/close"))
        case "legacy close":
            ok(raw.post(f"/v1/charges/{charge}/dispute/close"))
        case _:
            ok(raw.post(path, {"evidence[uncategorized_text]": end}))
    lost = ok(raw.get(path))
    assert (lost["status"], lost["is_charge_refundable"], moved(lost)) == ("lost", False, [-5000, 2000])
    returned = lost["balance_transactions"][1]
    assert (returned["type"], returned["reporting_category"]) == ("adjustment", "dispute_reversal")
    assert (returned["fee"], returned["net"], returned["source"]) == (0, 2000, opened["id"])
    assert ok(raw.get(f"/v1/balance_transactions/{returned['id']}")) == returned
    listed = client.v1.balance_transactions.list({"source": opened["id"]}).data
    assert [each.amount for each in listed] == [2000, -5000]
    events = [event for event in raw.events() if event["data"]["object"]["id"] == opened["id"]]
    assert [event["type"] for event in events[-2:]] == FUNDS_RETURNED
    assert all(event["data"] == {"object": lost} for event in events[-2:])
    assert_refused(refund(raw, charge, 1), code="charge_disputed")


def test_a_win_after_a_partial_refund_returns_everything_and_frees_the_rest(
    operator: InternalClient, raw: Caller
) -> None:
    charge = ingest_charge(operator)["id"]
    ok(refund(raw, charge, 2000))
    opened = ingest_dispute(operator, charge=charge)
    won = ok(report(operator, opened["id"], "won"))
    assert (moved(won), won["is_charge_refundable"]) == ([-5000, 5000], True)
    assert_refused(refund(raw, charge, 3001), param="amount")
    ok(refund(raw, charge, 3000))
    more = {"charge": charge, "kind": "chargeback"}
    answer = operator.post("/disputes", more)
    assert_refused(answer, param="amount", message="fully refunded; nothing of it can be disputed")


@pytest.mark.contract("3.3 escalation after a partial refund")
def test_an_inquiry_is_escalated_by_the_same_rule(operator: InternalClient, raw: Caller) -> None:
    charge = ingest_charge(operator)["id"]
    inquiry = ingest_dispute(operator, charge=charge, kind="inquiry", amount=1000)
    ok(refund(raw, charge, 4500))
    ingest_dispute(operator, charge=charge, kind="prevented", amount=500)
    answer = report(operator, inquiry["id"], "escalated", amount=4501)
    assert_refused(answer, param="amount", message=r"Only \$45\.00 of charge")
    assert_refused(report(operator, inquiry["id"], "inquiry_closed", amount=5), param="amount")
    escalated = ok(report(operator, inquiry["id"], "escalated", amount=4000))
    assert (escalated["amount"], moved(escalated)) == (4000, [-4000])
    (updated,) = [
        event
        for event in raw.events("type=charge.dispute.updated")
        if event["data"]["object"]["id"] == inquiry["id"]
    ]
    assert updated["data"]["previous_attributes"]["amount"] == 1000
    assert_refused(
        operator.post("/disputes", {"charge": charge, "kind": "inquiry", "amount": 501}), param="amount"
    )
    lost = ok(report(operator, inquiry["id"], "lost"))
    assert moved(lost) == [-4000, 3500]


def test_two_disputes_lost_at_once_return_no_more_than_was_captured(
    operator: InternalClient, raw: Caller
) -> None:
    for _ in range(5):
        charge = ingest_charge(operator)["id"]
        ok(refund(raw, charge, 3000))
        disputes = [ingest_dispute(operator, charge=charge, amount=2500)["id"] for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda each: ok(report(operator, each, "lost")), disputes))
        assert sum(sum(moved(answer)) for answer in answers) == -2000


def test_an_import_reports_a_loss_after_a_partial_refund(operator: InternalClient, raw: Caller) -> None:
    name = create_id("x")
    lines = [
        {"op": "charge", "id": f"ch_{name}", "amount": 5000, "currency": "usd", "created": 1_600_000_000},
        {"op": "refund", "id": f"re_{name}", "charge": f"ch_{name}", "amount": 2000},
        {"op": "dispute", "id": f"du_{name}", "charge": f"ch_{name}", "kind": "inquiry", "amount": 100,
         "created": 1_600_000_100},
        {"op": "fact", "dispute": f"du_{name}", "fact": "escalated", "reference": "r1", "amount": 5000,
         "created": 1_600_000_200},
        {"op": "fact", "dispute": f"du_{name}", "fact": "lost", "reference": "r2", "created": 1_600_000_300},
    ]  # fmt: skip
    assert all(result["changed"] for result in import_lines(operator, lines))
    lost = ok(raw.get(f"/v1/disputes/du_{name}"))
    assert (lost["status"], lost["created"], moved(lost)) == ("lost", 1_600_000_100, [-5000, 2000])
    times = [each["created"] for each in lost["balance_transactions"]]
    assert times == [1_600_000_200, 1_600_000_300]
    assert [result["changed"] for result in import_lines(operator, lines)] == [False] * 5


@pytest.mark.contract("3.1 amounts by currency")
@pytest.mark.parametrize(("currency", "step"), [("ugx", 100), ("isk", 100), ("kwd", 10), ("bhd", 10)])
def test_amounts_are_multiples_of_the_step_of_their_currency(
    operator: InternalClient, raw: Caller, currency: str, step: int
) -> None:
    rule = f"amounts in {currency} must be divisible by {step}"
    whole, odd = 50 * step, 10 * step + 1
    form = {"currency": currency, "source": "tok_visa"}
    assert_refused(raw.post("/v1/charges", form | {"amount": odd}), param="amount", message=rule)
    assert_refused(
        operator.post("/charges", {"amount": odd, "currency": currency}), param="amount", message=rule
    )
    charge = ok(raw.post("/v1/charges", form | {"amount": whole, "capture": "false"}))["id"]
    capture = raw.post(f"/v1/charges/{charge}/capture", {"amount": odd})
    assert_refused(capture, param="amount", message=rule)
    ok(raw.post(f"/v1/charges/{charge}/capture", {"amount": 40 * step}))
    assert_refused(refund(raw, charge, odd), param="amount", message=rule)
    ok(refund(raw, charge, 10 * step))
    answer = operator.post("/disputes", {"charge": charge, "kind": "inquiry", "amount": odd})
    assert_refused(answer, param="amount", message=rule)
    inquiry = ingest_dispute(operator, charge=charge, kind="inquiry", amount=10 * step)["id"]
    assert_refused(report(operator, inquiry, "escalated", amount=odd), param="amount", message=rule)
    lines = [
        {"op": "charge", "id": create_id("ch"), "amount": odd, "currency": currency},
        {"op": "refund", "id": create_id("re"), "charge": charge, "amount": odd},
    ]
    assert all(rule in result["error"]["message"] for result in import_lines(operator, lines))
    twice = ok(raw.post("/v1/charges", form | {"source": "tok_createMultipleDisputes", "amount": 51 * step}))
    disputes = ok(raw.get(f"/v1/disputes?charge={twice['id']}"))["data"]
    assert sorted(each["amount"] for each in disputes) == [25 * step, 26 * step]
    amounts = [
        value
        for transaction in ok(raw.get("/v1/balance_transactions?limit=100"))["data"]
        for value in (transaction["amount"], transaction["fee"])
    ]
    assert all(value % step == 0 for value in amounts)


def test_the_smallest_charge_of_a_card_that_is_disputed_twice_is_disputed_once(raw: Caller) -> None:
    form = {"amount": 1, "currency": "krw", "source": "tok_createMultipleDisputes"}
    charge = ok(raw.post("/v1/charges", form))["id"]
    assert [each["amount"] for each in ok(raw.get(f"/v1/disputes?charge={charge}"))["data"]] == [1]
