"""Lines that only imports have: Events, refunds and files of other systems, under the ids they had there."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import stripe

from ledger.ids import derive_id, new_id
from tests.api.service import Account, Caller, Registrar, Service, create_client, ok
from tests.internal.conftest import InternalClient
from tests.internal.test_import import create_story, import_lines

PDF = b"%PDF-1.4\n" + b"x" * 300_000


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def an_event(name: str, **given: Any) -> dict[str, Any]:
    shown = {"id": f"in_{name}", "object": "invoice", "status": "paid", "number": None}
    return {"op": "event", "id": f"evt_{name}", "type": "invoice.paid", "object": shown, **given}


def a_charge(name: str, **given: Any) -> dict[str, Any]:
    return {"op": "charge", "id": f"ch_{name}", "amount": 2000, "currency": "usd", **given}


def a_refund(name: str, **given: Any) -> dict[str, Any]:
    return {"op": "refund", "id": f"re_{name}", "charge": f"ch_{name}", **given}


def a_file(name: str, content: bytes = PDF, **given: Any) -> dict[str, Any]:
    return {
        "op": "file", "id": f"file_{name}", "purpose": "dispute_evidence", "filename": "receipt.pdf",
        "content": b64encode(content).decode(), **given,
    }  # fmt: skip


def errors(operator: InternalClient, *lines: Any) -> list[tuple[str | None, str | None]]:
    results = import_lines(operator, lines)
    assert all("error" in result for result in results), results
    return [(result["error"].get("code"), result["error"].get("param")) for result in results]


def test_an_imported_event_is_read_by_its_id(
    operator: InternalClient, client: stripe.StripeClient, name: str
) -> None:
    lines = [
        an_event(name),
        an_event(
            name,
            id=f"evt_{name[:13]}",
            type="customer.updated",
            object={"id": "cus_1", "object": "customer", "name": "Ada"},
            previous_attributes={"name": None},
        ),
        an_event(name, id=f"evt_b{name}", type="balance.available", object={"object": "balance"}),
    ]
    results = import_lines(operator, lines)
    last = results[-1]["position"]
    assert results == [
        {"line": number, "position": last - len(lines) + number, "id": line["id"], "changed": True}
        for number, line in enumerate(lines, 1)
    ]
    read = client.v1.events.retrieve(f"evt_{name}")
    assert json.loads(str(read.data)) == {"object": lines[0]["object"]}
    assert (read.type, read.livemode) == ("invoice.paid", False)
    assert read.request is not None
    assert (read.request.id, read.request.idempotency_key) == (None, None)
    updated = client.v1.events.retrieve(f"evt_{name[:13]}")
    assert json.loads(str(updated.data.previous_attributes)) == {"name": None}
    page = client.v1.events.list({"limit": 2})
    assert [event.id for event in page.data] == [f"evt_b{name}", f"evt_{name[:13]}"]
    assert [event.id for event in page.auto_paging_iter()] == [line["id"] for line in lines][::-1]
    newer = client.v1.events.list({"ending_before": f"evt_{name}"}).data
    assert [event.id for event in newer] == [f"evt_b{name}", f"evt_{name[:13]}"]


def test_an_event_whose_id_carries_another_time_is_found(operator: InternalClient, raw: Caller) -> None:
    for made in (0, 1_700_000_000, 4_000_000_000):
        line = an_event(uuid.uuid4().hex, id=new_id("evt", made))
        assert import_lines(operator, [line])[0]["changed"]
        assert ok(raw.get(f"/v1/events/{line['id']}"))["id"] == line["id"]
        assert ok(raw.get(f"/v1/events?starting_after={line['id']}"))["has_more"] is False


def test_an_event_is_imported_once(operator: InternalClient, raw: Caller, name: str) -> None:
    line = an_event(name)
    again = line | {"object": dict(reversed(line["object"].items()))}
    assert [result["changed"] for result in import_lines(operator, [line, again, line])] == [
        True,
        False,
        False,
    ]
    assert [result["changed"] for result in import_lines(operator, [line])] == [False]
    other = [
        an_event(name, type="invoice.sent"),
        an_event(name, object={}),
        an_event(name, previous_attributes={}),
    ]
    assert errors(operator, *other) == [
        ("resource_already_exists", field) for field in ("type", "object", "previous_attributes")
    ]
    assert len(raw.events()) == 1


def test_the_id_of_an_event_of_this_ledger_is_refused(
    operator: InternalClient, raw: Caller, name: str
) -> None:
    raw.customer(name="Ada")
    raw.dispute()
    made = raw.events()
    lines = [
        {"op": "event", "id": event["id"], "type": event["type"], "object": event["data"]["object"]}
        for event in made
    ]
    assert errors(operator, *lines) == [("resource_already_exists", "id")] * len(lines)
    # An Event of another ledger has an id of the same form.
    elsewhere = lines[0] | {"id": derive_id("evt", made[0]["created"], name, 1, 0)}
    assert import_lines(operator, [elsewhere])[0]["changed"]
    assert len(raw.events()) == len(made) + 1


def test_an_event_on_a_connected_account(
    operator: InternalClient, service: Service, account: Account, registrar: Registrar, name: str
) -> None:
    connected, stranger = registrar.account(platform=account.id), registrar.account()
    lines = [
        an_event(name),
        an_event(f"{name}c", account=connected.id),
        an_event(f"{name}s", account=stranger.id),
        an_event(f"{name}o", account=account.id),
        an_event(f"{name}c", account=None),
    ]
    results = import_lines(operator, lines)
    assert [result.get("changed") for result in results] == [True, True, None, True, None]
    assert results[2]["error"]["code"] == "account_invalid"
    assert results[4]["error"]["code"] == "resource_already_exists"
    client = create_client(service, connected.secret)
    assert [event.id for event in client.v1.events.list().data] == [f"evt_{name}c"]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"type": "invoice.vanished"}, "type"),
        ({"object": []}, "object"),
        ({"object": {"a": "\x00"}}, "object"),
        ({"object": {"livemode": True}}, "object[livemode]"),
        ({"previous_attributes": 1}, "previous_attributes"),
        ({"created": 1}, "created"),
        ({"id": "evt 1"}, "id"),
    ],
)
def test_an_invalid_event_is_refused_by_field(
    operator: InternalClient, name: str, given: dict[str, Any], param: str
) -> None:
    assert [refusal[1] for refusal in errors(operator, an_event(name) | given)] == [param]


def test_nan_and_infinity_are_refused(operator: InternalClient, name: str) -> None:
    text = json.dumps(an_event(name, object={"a": float("nan")})).encode()
    told = errors(operator, text, text.replace(b"NaN", b"1e999"), text.replace(b"NaN", b"9" * 20))
    assert [param for _, param in told] == ["object"] * 3


def test_an_imported_refund_moves_the_money(operator: InternalClient, raw: Caller, name: str) -> None:
    made = {"amount": 500, "reason": "duplicate", "metadata": {"a": "b"}, "created": 1_700_000_000}
    lines = [a_charge(name), a_refund(name, **made), a_refund(name, id=f"re_rest{name}")]
    assert [result["id"] for result in import_lines(operator, lines)] == [line["id"] for line in lines]
    refund = ok(raw.get(f"/v1/refunds/re_{name}?expand[]=balance_transaction"))
    assert {field: refund[field] for field in made} == made
    transaction = refund["balance_transaction"]
    assert (transaction["amount"], transaction["created"]) == (-500, 1_700_000_000)
    charge = ok(raw.get(f"/v1/charges/ch_{name}"))
    assert (charge["amount_refunded"], charge["refunded"]) == (2000, True)
    assert ok(raw.get(f"/v1/refunds?charge=ch_{name}"))["data"][0]["id"] == f"re_rest{name}"
    assert {event["type"] for event in raw.events()} == {
        "charge.succeeded", "charge.refunded", "refund.created"
    }  # fmt: skip


def test_a_refund_is_imported_once(operator: InternalClient, raw: Caller, name: str) -> None:
    lines = [a_charge(name), a_refund(name, amount=500), a_refund(name, amount=500), a_refund(name)]
    assert [result["changed"] for result in import_lines(operator, lines)] == [True, True, False, False]
    assert ok(raw.get(f"/v1/charges/ch_{name}"))["amount_refunded"] == 500
    other = a_charge(f"{name}o")
    assert import_lines(operator, [other])[0]["changed"]
    lines = [a_refund(name, charge=other["id"]), a_refund(name, amount=501), a_refund(name, id=other["id"])]
    fields = ("charge", "amount", "id")
    assert errors(operator, *lines) == [("resource_already_exists", field) for field in fields]


def test_a_refund_is_refused_as_the_api_refuses_it(operator: InternalClient, raw: Caller, name: str) -> None:
    customer, charge, dispute, fact = create_story(name)
    lost = fact | {"fact": "lost"}
    lines = [customer, charge, a_charge(f"{name}f", status="failed"), a_charge(f"{name}p")]
    assert all(result["changed"] for result in import_lines(operator, lines))
    lines = [
        a_refund(name, charge="ch_none"),
        a_refund(name, charge=f"ch_{name}f"),
        a_refund(name, amount=2001),
        a_refund(name, amount=0),
        a_refund(name, reason="boredom"),
        a_refund(name, colour="red"),
    ]
    told = errors(operator, *lines)
    assert told == [
        ("resource_missing", "id"),
        ("charge_not_refundable", None),
        (None, "amount"),
        (None, "amount"),
        (None, "reason"),
        ("parameter_unknown", "colour"),
    ]
    for line, (code, param) in zip(lines[:3], told, strict=False):
        form: dict[str, Any] = {field: line[field] for field in ("charge", "amount") if field in line}
        error = raw.post("/v1/refunds", form).json()["error"]
        assert (error.get("code"), error.get("param")) == (code, param)
    # Each line is decided on the charge as the lines before it left it.
    results = import_lines(operator, [dispute, a_refund(name), lost, a_refund(name), a_refund(f"{name}p")])
    assert [result.get("changed") for result in results] == [True, None, True, None, True]
    assert results[1]["error"]["code"] == results[3]["error"]["code"] == "charge_disputed"


def test_an_imported_file_is_like_any_other(
    operator: InternalClient, raw: Caller, client: stripe.StripeClient, name: str
) -> None:
    (result,) = import_lines(operator, [a_file(name, created=1_700_000_000)])
    assert result == {"line": 1, "position": result["position"], "id": f"file_{name}", "changed": True}
    read = client.v1.files.retrieve(f"file_{name}")
    assert (read.size, read.type, read.created) == (len(PDF), "pdf", 1_700_000_000)
    assert (read.filename, read.purpose) == ("receipt.pdf", "dispute_evidence")
    content = raw.get(f"/v1/files/file_{name}/contents").content
    assert hashlib.sha256(content).digest() == hashlib.sha256(PDF).digest()
    assert [file.id for file in client.v1.files.list().data] == [f"file_{name}"]
    dispute = raw.dispute()["id"]
    staged = raw.post(f"/v1/disputes/{dispute}", {"evidence[receipt]": read.id, "submit": "false"})
    assert ok(staged)["evidence"]["receipt"] == read.id


def test_a_file_is_imported_once(operator: InternalClient, raw: Caller, name: str) -> None:
    line = a_file(name)
    assert [result["changed"] for result in import_lines(operator, [line, line])] == [True, False]
    assert [result["changed"] for result in import_lines(operator, [line])] == [False]
    other = [
        a_file(name, PDF + b"x"),
        a_file(name, b""),
        line | {"purpose": "pci_document"},
        line | {"filename": "other.pdf"},
    ]
    fields = ("content", "content", "purpose", "filename")
    assert errors(operator, *other) == [("resource_already_exists", field) for field in fields]
    customer = raw.customer()["id"]
    assert errors(operator, a_file(name, id=customer)) == [("resource_already_exists", "id")]
    assert len(raw.get(f"/v1/files/file_{name}/contents").content) == len(PDF)


def test_an_empty_file_is_a_file(operator: InternalClient, raw: Caller, name: str) -> None:
    line = a_file(name, b"")
    del line["filename"]
    assert [result["changed"] for result in import_lines(operator, [line, line])] == [True, False]
    file = ok(raw.get(f"/v1/files/file_{name}"))
    assert (file["size"], file["type"], file["filename"]) == (0, None, None)


def test_a_file_in_two_concurrent_imports_has_its_contents(
    operator: InternalClient, raw: Caller, name: str
) -> None:
    def told(number: int) -> Any:
        return import_lines(operator, [a_file(name, PDF + bytes([48 + number % 2]))])[0]

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(told, range(8)))
    assert sum(result.get("changed", False) for result in results) == 1
    assert sum("error" in result for result in results) == 4
    content = raw.get(f"/v1/files/file_{name}/contents").content
    winner = next(number for number, result in enumerate(results) if "error" not in result)
    assert content == PDF + bytes([48 + winner % 2])


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"content": "no base64!"}, "content"),
        ({"content": "Zoë"}, "content"),
        ({"content": 5}, "content"),
        ({"content": "YQ"}, "content"),
        ({"purpose": "fun"}, "purpose"),
        ({"filename": "a/b.pdf"}, "filename"),
        ({"filename": "a\nb.pdf"}, "filename"),
        ({"filename": ""}, "filename"),
    ],
)
def test_an_invalid_file_is_refused_by_field(
    operator: InternalClient, raw: Caller, name: str, given: dict[str, Any], param: str
) -> None:
    assert errors(operator, a_file(name) | given) == [(None, param)]
    assert ok(raw.get("/v1/files"))["data"] == []


def test_live_mode_is_separate(
    http: httpx.Client, account: Account, registrar: Registrar, raw: Caller, name: str
) -> None:
    scopes = ["catalog", "network"]
    live = InternalClient(http, registrar.key(account.id, "rk", livemode=True, scopes=scopes)[1])
    test = InternalClient(http, registrar.key(account.id, "rk", scopes=scopes)[1])
    lines = [an_event(name), a_charge(name), a_refund(name), a_file(name)]
    assert all(result["changed"] for result in import_lines(live, lines))
    assert raw.events() == []
    assert errors(test, an_event(name), a_file(name)) == [("resource_already_exists", "id")] * 2


def test_creation_times_are_accepted_unless_in_the_future(
    operator: InternalClient, raw: Caller, name: str
) -> None:
    at, later = 1_600_000_000, int(time.time()) + 1000
    charge = {"op": "charge", "amount": 2000, "currency": "usd"}
    lines: list[dict[str, Any]] = [
        {"op": "customer", "id": f"cus_{name}", "created": at},
        charge | {"id": f"ch_{name}", "created": at},
        {"op": "customer", "id": f"cus_{name}2", "created": later},
        charge | {"id": f"ch_{name}2", "created": later},
        {"op": "refund", "id": f"re_{name}", "charge": f"ch_{name}", "created": later},
        {"op": "file", "id": f"file_{name}", "purpose": "dispute_evidence", "content": "", "created": later},
    ]
    taken, also_taken, *others = import_lines(operator, lines)
    assert (taken["changed"], also_taken["changed"]) == (True, True)
    assert [other["error"]["param"] for other in others] == ["created"] * 4
    assert ok(raw.get(f"/v1/customers/cus_{name}"))["created"] == at
