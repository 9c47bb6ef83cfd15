"""What redacted objects look like, what they refuse, and what is still recorded of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.api.service import SERVICE_KEY, assert_refused, ok
from tests.audit.test_object_exports import Ledger
from tests.conftest import Cluster
from tests.erasure.stage import PREVIEW, Stage
from tests.serving.process import run_ledger
from tests.webhooks.receiver import wait_until

REDACTED = "[redacted]"
ADDRESS = {"line1": "Steinweg 8", "city": "Quedlinburg", "country": "DE"}
REDACTED_ADDRESS = {
    "city": REDACTED, "country": "DE", "line1": REDACTED, "line2": None, "postal_code": None, "state": None
}  # fmt: skip
LINES: list[dict[str, Any]] = [
    {"op": "customer", "id": "cus_far", "name": "Ada", "email": "ada@example.com", "metadata": {"a": "Ada"}},
    {
        "op": "charge",
        "id": "ch_far",
        "amount": 900,
        "currency": "usd",
        "customer": "cus_far",
        "billing_details": {"name": "Ada"},
        "payment_method_details": {"type": "card", "card": {"brand": "visa", "last4": "4242", "name": "Ada"}},
    },
    {"op": "refund", "id": "re_far", "charge": "ch_far", "amount": 100, "metadata": {"of": "Ada"}},
    {
        "op": "event",
        "id": "evt_far",
        "type": "invoice.paid",
        "object": {"id": "in_far", "object": "invoice", "customer": "cus_far", "customer_name": "Ada"},
    },
    {
        "op": "resource",
        "type": "invoice",
        "id": "in_far2",
        "event_type": "invoice.created",
        "object": {"customer": "cus_far", "customer_name": "Ada", "total": 900, "status": "open"},
    },
    {
        "op": "resource",
        "type": "issuing.cardholder",
        "id": "ich_far",
        "event_type": "issuing_cardholder.created",
        "object": {"customer": "cus_far", "name": "Ada", "email": "ada@example.com"},
    },
]


class Redacted(NamedTuple):
    """Objects of a customer who was erased."""

    stage: Stage
    customer: str
    charge: str
    intent: str
    open_intent: str
    refund: str
    dispute: str
    file: str
    link: str


def flat(name: str, members: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}[{key}]": value for key, value in members.items()}


@pytest.fixture(scope="module")
def redacted(stage: Stage) -> Redacted:
    raw = stage.raw
    customer = raw.customer(
        name="Ada", email="ada@example.com", source="tok_visa", **flat("address", ADDRESS),
        **{"metadata[a]": "Ada", "invoice_settings[footer]": "Ada"},
    )["id"]  # fmt: skip
    ok(raw.post(f"/v1/customers/{customer}", {"name": "Ada L.", "balance": 5, "metadata[a]": "Ada L."}))
    of_customer = {"customer": customer, "amount": 2000, "currency": "usd", "description": "Ada's hat"}
    charge = ok(raw.post("/v1/charges", {**of_customer, "receipt_email": "ada@example.com"}))["id"]
    intent_form = {**of_customer, "payment_method": "pm_card_visa"}
    intent = ok(raw.post("/v1/payment_intents", {**intent_form, "confirm": "true"}))["id"]
    open_intent = ok(raw.post("/v1/payment_intents", intent_form))["id"]
    ok(raw.post(f"/v1/payment_intents/{open_intent}/cancel"))
    refund = raw.refund(charge=charge, amount=100, **{"metadata[of]": "Ada"})["id"]
    upload = {"file": ("ada.pdf", b"%PDF-1.4 of Ada", "application/pdf")}
    headers = {"authorization": f"Bearer {stage.account.secret}"}
    form = {"purpose": "dispute_evidence"}
    file = ok(stage.http.post("/v1/files", data=form, files=upload, headers=headers))["id"]
    link = ok(raw.post("/v1/file_links", {"file": file, "metadata[of]": "Ada"}))["id"]
    disputed = ok(raw.post("/v1/charges", {**of_customer, "source": "tok_createDispute"}))
    dispute = ok(raw.get(f"/v1/disputes?charge={disputed['id']}"))["data"][0]["id"]
    evidence = {"customer_name": "Ada", "uncategorized_text": "losing_evidence", "receipt": file}
    ok(raw.post(f"/v1/disputes/{dispute}", {**flat("evidence", evidence), "metadata[of]": "Ada"}))
    import_lines(stage, LINES)
    stage.wait_for_projections()
    stage.erase(customers=[customer, "cus_far"])
    stage.wait_for_projections()
    return Redacted(stage, customer, charge, intent, open_intent, refund, dispute, file, link)


def import_lines(stage: Stage, lines: list[dict[str, Any]]) -> list[Any]:
    """The answers to the lines of an import."""
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    headers = {
        "authorization": f"Bearer {stage.operator.key}",
        "content-type": "application/x-ndjson",
    }
    response = stage.http.post("/internal/v1/import", content=body, headers=headers)
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def show(redacted: Redacted, path: str) -> Any:
    return ok(redacted.stage.raw.get(path))


def preview(redacted: Redacted, path: str) -> Any:
    return ok(redacted.stage.raw.call("GET", path, None, PREVIEW))


def test_nobody_is_found_by_what_stands_in_the_place_of_an_address(redacted: Redacted) -> None:
    cardholder = show(redacted, "/v1/issuing/cardholders/ich_far")
    assert (cardholder["name"], cardholder["email"]) == (REDACTED, REDACTED)
    for path in ("/v1/customers", "/v1/issuing/cardholders"):
        assert ok(redacted.stage.raw.call("GET", path, {"email": REDACTED}))["data"] == []


@pytest.mark.contract("2.15 redacted values")
def test_a_customer_keeps_its_country_and_what_tells_its_card(redacted: Redacted) -> None:
    shown = show(redacted, f"/v1/customers/{redacted.customer}?expand[]=sources")
    assert (shown["name"], shown["email"], shown["phone"]) == (REDACTED, REDACTED, None)
    assert (shown["address"], shown["metadata"], shown["balance"]) == (REDACTED_ADDRESS, {}, 5)
    assert shown["invoice_settings"]["footer"] == REDACTED
    (card,) = shown["sources"]["data"]
    assert (card["brand"], card["last4"], card["exp_year"], card["fingerprint"]) == (
        "Visa", "4242", 2034, REDACTED
    )  # fmt: skip
    assert "redaction" not in shown


def test_payments_keep_their_amounts(redacted: Redacted) -> None:
    charge = show(redacted, f"/v1/charges/{redacted.charge}?expand[]=balance_transaction")
    assert (charge["amount"], charge["amount_refunded"], charge["customer"]) == (2000, 100, redacted.customer)
    assert (charge["description"], charge["receipt_email"]) == (REDACTED, REDACTED)
    assert charge["balance_transaction"]["description"] == REDACTED
    assert charge["payment_method_details"]["card"]["last4"] == "4242"
    intent = show(redacted, f"/v1/payment_intents/{redacted.intent}?expand[]=latest_charge.customer")
    assert (intent["status"], intent["description"]) == ("succeeded", REDACTED)
    assert intent["latest_charge"]["customer"]["name"] == REDACTED
    refund = show(redacted, f"/v1/refunds/{redacted.refund}?expand[]=balance_transaction")
    assert (refund["amount"], refund["metadata"]) == (100, {})
    assert refund["balance_transaction"]["description"] == f"REFUND FOR CHARGE ({REDACTED})"


def test_a_dispute_keeps_which_evidence_there_was(redacted: Redacted) -> None:
    shown = show(redacted, f"/v1/disputes/{redacted.dispute}?expand[]=evidence.receipt")
    evidence = shown["evidence"]
    assert (shown["status"], shown["metadata"]) == ("lost", {})
    assert (evidence["customer_name"], evidence["uncategorized_text"]) == (REDACTED, REDACTED)
    assert (evidence["receipt"]["id"], evidence["receipt"]["filename"]) == (redacted.file, REDACTED)
    assert evidence["service_date"] is None


@pytest.mark.contract("2.15 redaction")
def test_only_preview_versions_show_the_member_redaction(redacted: Redacted) -> None:
    for path in (
        f"/v1/customers/{redacted.customer}",
        f"/v1/charges/{redacted.charge}",
        f"/v1/payment_intents/{redacted.intent}",
    ):
        assert preview(redacted, path)["redaction"] == {"status": "redacted"}
        assert "redaction" not in show(redacted, path)
    another = redacted.stage.raw.customer(name="Ben")["id"]
    redacted.stage.wait_for_projections()
    listed = {each["id"]: each["redaction"] for each in preview(redacted, "/v1/customers")["data"]}
    assert (listed[redacted.customer], listed[another]) == ({"status": "redacted"}, None)
    assert all("redaction" not in each for each in show(redacted, "/v1/customers")["data"])


def test_lists_do_not_find_it_by_what_it_had(redacted: Redacted) -> None:
    assert show(redacted, "/v1/customers?email=ada@example.com")["data"] == []
    assert [each["id"] for each in show(redacted, f"/v1/refunds?charge={redacted.charge}")["data"]] == [
        redacted.refund
    ]


@pytest.mark.contract("2.15 inoperable")
def test_a_redacted_object_cannot_be_changed(redacted: Redacted) -> None:
    raw = redacted.stage.raw
    metadata = {"metadata[a]": "b"}
    for path, form in (
        (f"/v1/customers/{redacted.customer}", {"name": "Ben"}),
        (f"/v1/charges/{redacted.charge}", metadata),
        (f"/v1/charges/{redacted.charge}/capture", {}),
        (f"/v1/payment_intents/{redacted.intent}", metadata),
        (f"/v1/payment_intents/{redacted.intent}/capture", {}),
        (f"/v1/payment_intents/{redacted.open_intent}/confirm", {}),
        (f"/v1/payment_intents/{redacted.open_intent}/cancel", {}),
        (f"/v1/refunds/{redacted.refund}", metadata),
        (f"/v1/disputes/{redacted.dispute}", metadata),
        (f"/v1/file_links/{redacted.link}", metadata),
    ):
        before = ok(raw.get(path.removesuffix("/capture").removesuffix("/confirm").removesuffix("/cancel")))
        assert_refused(raw.post(path, form), message="has been redacted")
        after = ok(raw.get(path.removesuffix("/capture").removesuffix("/confirm").removesuffix("/cancel")))
        assert after == before
    assert_refused(raw.delete(f"/v1/customers/{redacted.customer}"), message="has been redacted")


def test_a_redacted_object_cannot_be_used(redacted: Redacted) -> None:
    raw, customer = redacted.stage.raw, redacted.customer
    money = {"amount": 500, "currency": "usd"}
    other = raw.charge()["id"]
    session = {"customer": customer, "components[payment_element][enabled]": "true"}
    for path, form, param in (
        ("/v1/charges", {**money, "customer": customer}, "customer"),
        (f"/v1/charges/{other}", {"customer": customer}, "customer"),
        ("/v1/payment_intents", {**money, "customer": customer}, "customer"),
        ("/v1/customer_sessions", session, "customer"),
        ("/v1/refunds", {"charge": redacted.charge}, "charge"),
        ("/v1/refunds", {"payment_intent": redacted.intent}, "payment_intent"),
        ("/v1/file_links", {"file": redacted.file}, "file"),
    ):
        assert_refused(raw.post(path, form), param=param, message="has been redacted")
    dispute = raw.dispute()["id"]
    evidence = {"evidence[receipt]": redacted.file}
    assert_refused(
        raw.post(f"/v1/disputes/{dispute}", evidence), param="evidence[receipt]", message="has been redacted"
    )


def test_an_import_compares_what_stayed(redacted: Redacted) -> None:
    answers = import_lines(redacted.stage, LINES)
    assert [each.get("changed") for each in answers] == [False] * len(LINES), answers
    for change in (
        {"op": "customer", "id": "cus_far", "name": "Ada", "email": None, "metadata": {"a": "Ada"}},
        {**LINES[1], "billing_details": {}},
        {**LINES[2], "amount": 101},
        {**LINES[3], "object": {**LINES[3]["object"], "customer": "cus_other"}},
        {**LINES[4], "object": {**LINES[4]["object"], "total": 901}},
    ):
        (answer,) = import_lines(redacted.stage, [change])
        assert answer["error"]["type"] == "invalid_request_error", answer


def test_a_refund_that_was_made_elsewhere_is_recorded_without_metadata(redacted: Redacted) -> None:
    line = {"op": "refund", "id": "re_far2", "charge": "ch_far", "amount": 50}
    (answer,) = import_lines(redacted.stage, [{**line, "metadata": {"of": "Ada"}}])
    assert answer["error"]["param"] == "metadata"
    (answer,) = import_lines(redacted.stage, [line])
    assert answer["changed"] is True
    assert show(redacted, "/v1/charges/ch_far")["amount_refunded"] == 150


def test_an_export_of_what_stays_can_be_imported_elsewhere(
    redacted: Redacted, cluster: Cluster, tmp_path: Path
) -> None:
    """Without placeholders, and without the evidence and the files that are gone; what then exports the copy
    is the same."""
    stage = redacted.stage
    lines, said = Ledger(stage.service.dsn, stage.account.id, tmp_path).export("--unseal")
    by_op = [(json.loads(line)["op"], line) for line in lines.splitlines()]
    assert {op for op, line in by_op if REDACTED in line} == {"event", "resource"}
    assert "erased" in said
    with cluster.create_database() as dsn:
        settings = {"database_url": dsn, "secret_key": SERVICE_KEY}
        account = run_ledger(tmp_path / "data", "accounts", "create", "Copy", **settings).stdout.strip()
        copy = Ledger(dsn, account, tmp_path)
        assert "0 refused" in copy.take(lines)
        assert copy.export("--unseal")[0] == lines


def test_the_audit_says_what_is_redacted(redacted: Redacted) -> None:
    stage, path = redacted.stage, f"/audit/objects/{redacted.customer}"
    found = ok(stage.operator.get(path))
    assert found["redaction"] == "redacted"
    assert found["object"]["name"] == REDACTED
    created, updated = ok(stage.operator.get(f"{path}/history"))["data"]
    changes = {each["path"]: each for each in updated["changes"]}
    assert changes["balance"] == {"path": "balance", "before": 0, "after": 5}
    assert changes["name"] == {"path": "name", "before": REDACTED, "after": REDACTED, "redacted": True}
    assert changes["metadata"]["redacted"] is True
    made = {each["path"]: each for each in created["changes"]}
    assert made["email"] == {"path": "email", "before": None, "after": REDACTED, "redacted": True}
    assert "redaction[status]" not in made
    then = ok(stage.operator.get(f"{path}?at=position:{created['position']}"))
    assert (then["redaction"], then["object"]["balance"]) == ("redacted", 0)
    between = f"{path}/diff?from=position:{created['position']}&to=position:{updated['position']}"
    assert [each["path"] for each in ok(stage.operator.get(between))["changes"]] == ["balance"]
    record = ok(stage.operator.get(f"/audit/log/{created['position']}"))
    assert (record["redaction"], record["data"]["name"]) == ("redacted", REDACTED)
    assert "redaction" not in record["data"]


def test_its_events_are_redacted_too(redacted: Redacted) -> None:
    events = show(redacted, "/v1/events?type=customer.updated")["data"]
    (event,) = [each for each in events if each["data"]["object"]["id"] == redacted.customer]
    assert (event["data"]["object"]["name"], event["data"]["previous_attributes"]) == (
        REDACTED,
        {"balance": 0},
    )


@pytest.mark.contract("2.15 facts")
def test_a_dispute_of_a_redacted_charge_is_recorded_and_takes_no_evidence(redacted: Redacted) -> None:
    """Nothing can be said against it, so it is lost: here by the network, else when it is due."""
    stage = redacted.stage
    opening = {"charge": redacted.charge, "kind": "chargeback", "reason": "fraudulent"}
    opened = ok(stage.operator.post("/disputes", opening))
    assert (opened["status"], opened["amount"]) == ("needs_response", 2000)
    path = f"/v1/disputes/{opened['id']}"
    for form in ({"evidence[customer_name]": "Ada"}, {"submit": "true"}, {"metadata[of]": "Ada"}):
        assert_refused(stage.raw.post(path, form), message="has been redacted")
    ok(stage.operator.post("/clock", {"advance_seconds": 90 * 86400}))
    wait_until(lambda: ok(stage.raw.get(path))["status"] == "lost")
    assert ok(stage.raw.get(path))["evidence"]["customer_name"] is None
