"""Other services' resources: published with PUT and DELETE, read in the Event feed by anyone's SDK."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
import stripe

from ledger.wire.json_values import DEPTH_MAX, OBJECT_BYTES_MAX
from tests.api.service import Account, Caller, Registrar, Service, assert_refused, create_client, ok
from tests.internal.conftest import InternalClient

INVOICE = {"status": "draft", "amount_due": 2000, "metadata": {"order": "1"}, "lines": [1, 2], "paid": False}


def create_resource_id() -> str:
    return f"in_{uuid.uuid4().hex}"


def put(
    operator: InternalClient,
    named: str,
    event_type: str,
    given: Mapping[str, Any] = INVOICE,
    *,
    key: str | None = None,
) -> httpx.Response:
    body = {"event_type": event_type, "object": given}
    headers = None if key is None else {"idempotency-key": key}
    return operator.call("PUT", f"/resources/invoice/{named}", body, headers)


def delete(operator: InternalClient, named: str, body: Any = None) -> httpx.Response:
    return operator.call("DELETE", f"/resources/invoice/{named}", body)


def list_events_of(raw: Caller, named: str) -> list[Any]:
    return [event for event in raw.events() if event["data"]["object"].get("id") == named]


def test_the_answer_is_the_event_that_the_sdk_reads(
    operator: InternalClient, client: stripe.StripeClient
) -> None:
    named = create_resource_id()
    answer = put(operator, named, "invoice.created")
    made = ok(answer)
    assert made["data"] == {"object": {"id": named, "object": "invoice", **INVOICE}}
    assert made["request"] == {"id": answer.headers["request-id"], "idempotency_key": None}
    read = client.v1.events.retrieve(made["id"])
    assert read.data.object["amount_due"] == 2000
    assert json.loads(str(read)) == made
    (listed,) = client.v1.events.list({"type": "invoice.*"}).data
    assert json.loads(str(listed)) == made


def test_the_answer_is_byte_for_byte_the_event_that_is_read(operator: InternalClient, raw: Caller) -> None:
    answer = put(operator, create_resource_id(), "invoice.created", {"total": 1.5, "name": "Zoë “Ada”\u2028"})
    assert answer.text == raw.get(f"/v1/events/{answer.json()['id']}").text


def test_an_update_shows_what_changed(operator: InternalClient, client: stripe.StripeClient) -> None:
    named = create_resource_id()
    ok(put(operator, named, "invoice.created"))
    ok(put(operator, named, "invoice.finalized", INVOICE | {"status": "open"}))
    now = {
        "status": "paid", "amount_due": 2000, "metadata": {"order": "1", "by": "Ada"}, "lines": [1],
        "paid": True, "number": "A-1",
    }  # fmt: skip
    made = ok(put(operator, named, "invoice.updated", now))
    assert made["data"]["previous_attributes"] == {
        "status": "open",
        "metadata": {"by": None},
        "lines": [1, 2],
        "paid": False,
        "number": None,
    }
    events = client.v1.events.list({"type": "invoice.*"}).data
    assert [event.type for event in events] == ["invoice.updated", "invoice.finalized", "invoice.created"]
    assert ["previous_attributes" in event.data for event in events] == [True, False, False]


def test_an_update_of_an_unpublished_resource_shows_no_change(operator: InternalClient) -> None:
    assert ok(put(operator, create_resource_id(), "invoice.updated"))["data"]["previous_attributes"] == {}


def test_an_unchanged_resource_makes_no_event(operator: InternalClient, raw: Caller) -> None:
    named = create_resource_id()
    created = ok(put(operator, named, "invoice.created"))
    again = dict(reversed(INVOICE.items())) | {"id": named}
    assert ok(put(operator, named, "invoice.created", again)) == created
    assert ok(put(operator, named, "invoice.updated", again)) == created
    sent = ok(put(operator, named, "invoice.sent"))
    assert [event["type"] for event in list_events_of(raw, named)] == ["invoice.created", "invoice.sent"]
    assert ok(put(operator, named, "invoice.updated")) == sent
    changed = ok(put(operator, named, "invoice.updated", INVOICE | {"paid": 0}))
    assert changed["type"] == "invoice.updated"
    assert [event["type"] for event in list_events_of(raw, named)][2:] == ["invoice.updated"]


def test_a_deletion_shows_the_last_state_and_a_new_resource_starts_over(
    operator: InternalClient, raw: Caller
) -> None:
    named = create_resource_id()
    assert_refused(
        delete(operator, named), 404, code="resource_missing", param="id", message="No such invoice: 'in_"
    )
    ok(put(operator, named, "invoice.created"))
    gone = ok(delete(operator, named))
    assert (gone["type"], gone["data"]) == (
        "invoice.deleted",
        {"object": {"id": named, "object": "invoice", **INVOICE}},
    )
    assert ok(raw.get(f"/v1/events/{gone['id']}")) == gone
    assert_refused(delete(operator, named), 404, code="resource_missing", param="id")
    again = ok(put(operator, named, "invoice.updated"))
    assert again["data"]["previous_attributes"] == {}
    assert [event["type"] for event in list_events_of(raw, named)] == [
        "invoice.created",
        "invoice.deleted",
        "invoice.updated",
    ]


def test_a_deletion_may_name_its_event_type(operator: InternalClient) -> None:
    """The Event type of a subscription's deletion does not follow from its own type."""
    path = f"/resources/subscription/{create_resource_id()}"
    ok(operator.call("PUT", path, {"event_type": "customer.subscription.created", "object": {}}))
    assert_refused(operator.call("DELETE", path), param="event_type", message="one of|must be an event type")
    assert_refused(
        operator.call("DELETE", path, {"event_type": "customer.subscription.paused"}),
        param="event_type",
        message="must end in '.deleted'",
    )
    ended = ok(operator.call("DELETE", path, {"event_type": "customer.subscription.deleted"}))
    assert ended["data"]["object"]["object"] == "subscription"


def test_an_idempotency_key_gets_the_same_bytes(operator: InternalClient, raw: Caller) -> None:
    named, key = create_resource_id(), uuid.uuid4().hex
    first = put(operator, named, "invoice.created", key=key)
    assert ok(first)["request"]["idempotency_key"] == key
    ok(put(operator, named, "invoice.finalized"))
    again = put(operator, named, "invoice.created", key=key)
    assert (again.text, again.headers["idempotent-replayed"]) == (first.text, "true")
    assert again.headers["original-request"] == first.headers["request-id"]
    assert_refused(put(operator, named, "invoice.sent", key=key), kind="idempotency_error")
    assert len(list_events_of(raw, named)) == 2
    key = uuid.uuid4().hex
    first, again = (put(operator, named, "invoice.vanished", key=key) for _ in range(2))
    assert again.text == first.text
    assert_refused(again, param="event_type")


def test_two_concurrent_publications_make_one_event(operator: InternalClient, raw: Caller) -> None:
    named = create_resource_id()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: put(operator, named, "invoice.created").text, range(16)))
    assert len(set(answers)) == 1
    assert len(list_events_of(raw, named)) == 1


def test_a_platform_publishes_on_a_connected_account(
    operator: InternalClient, service: Service, account: Account, registrar: Registrar
) -> None:
    connected = registrar.account(platform=account.id)
    body = {"event_type": "invoice.created", "object": INVOICE, "account": connected.id}
    made = ok(operator.call("PUT", f"/resources/invoice/{create_resource_id()}", body))
    assert made["account"] == connected.id
    seen = create_client(service, account.secret, stripe_account=connected.id).v1.events.retrieve(made["id"])
    assert json.loads(str(seen)) == made
    own = create_client(service, connected.secret).v1.events.retrieve(made["id"])
    assert "account" not in own
    by_header = operator.call(
        "PUT",
        f"/resources/invoice/{made['data']['object']['id']}",
        {"event_type": "invoice.updated", "object": INVOICE},
        {"stripe-account": connected.id},
    )
    assert ok(by_header) == made
    with pytest.raises(stripe.InvalidRequestError):
        create_client(service, account.secret).v1.events.retrieve(made["id"])
    stranger = registrar.account().id
    answer = operator.call("PUT", f"/resources/invoice/{create_resource_id()}", body | {"account": stranger})
    assert_refused(answer, 403, code="account_invalid")
    both = {"stripe-account": connected.id}
    answer = operator.call(
        "PUT", f"/resources/invoice/{create_resource_id()}", body | {"account": account.id}, both
    )
    assert_refused(answer, param="account")


def test_resources_are_separate_by_account_and_mode(
    operator: InternalClient, http: httpx.Client, account: Account, registrar: Registrar
) -> None:
    named, live = create_resource_id(), Caller(http, account.live_secret)
    made = ok(put(operator, named, "invoice.created"))
    in_live = InternalClient(http, registrar.key(account.id, "rk", livemode=True, scopes=["publish"])[1])
    stranger = InternalClient(http, registrar.key(registrar.account().id, "rk", scopes=["publish"])[1])
    for other in (in_live, stranger):
        assert_refused(put(other, named, "invoice.sent"), 409, code="resource_already_exists", param="id")
        assert_refused(delete(other, named), 409, code="resource_already_exists", param="id")
    assert_refused(live.get(f"/v1/events/{made['id']}"), 404, code="resource_missing", param="id")
    lived = ok(put(in_live, create_resource_id(), "invoice.created", {"livemode": True}))
    assert lived["livemode"] is True
    assert [event["id"] for event in live.events()] == [lived["id"]]


def test_the_id_of_another_kind_of_object_is_refused_without_showing_it(
    operator: InternalClient, raw: Caller
) -> None:
    customer = raw.customer()["id"]
    assert_refused(
        put(operator, customer, "invoice.created"), 409, code="resource_already_exists", param="id"
    )
    named = create_resource_id()
    ok(put(operator, named, "invoice.created"))
    body = {"event_type": "quote.created", "object": {}}
    answer = operator.call("PUT", f"/resources/quote/{named}", body)
    assert_refused(answer, 409, code="resource_already_exists", param="id")
    assert_refused(
        operator.post("/customers", {"id": named}), 409, code="resource_already_exists", param="id"
    )
    for path, param in (("customers", "id"), ("charges", "id"), ("disputes", "dispute"), ("events", "id")):
        assert_refused(raw.get(f"/v1/{path}/{named}"), 404, code="resource_missing", param=param)


def test_a_published_payment_intent_is_what_a_charge_expands_to(
    operator: InternalClient, raw: Caller
) -> None:
    intent, charge = f"pi_{uuid.uuid4().hex}", f"ch_{uuid.uuid4().hex}"
    given = {"id": charge, "amount": 2000, "currency": "usd", "payment_intent": intent}
    ok(operator.post("/charges", given))
    assert ok(raw.get(f"/v1/charges/{charge}?expand[]=payment_intent"))["payment_intent"] == intent
    body = {"event_type": "payment_intent.succeeded", "object": {"status": "succeeded", "customer": None}}
    ok(operator.call("PUT", f"/resources/payment_intent/{intent}", body))
    shown = ok(raw.get(f"/v1/charges/{charge}?expand[]=payment_intent"))["payment_intent"]
    assert shown == {"id": intent, "object": "payment_intent", "status": "succeeded", "customer": None}


@pytest.mark.contract("2.12 GET /v1/payment_intents, /v1/payment_intents/{id}")
def test_published_payment_intents_are_read_beside_the_ledgers_own(
    operator: InternalClient, raw: Caller
) -> None:
    published = f"pi_{uuid.uuid4().hex}"
    path = f"/resources/payment_intent/{published}"
    shown = {"id": published, "object": "payment_intent", "amount": 5, "created": 1_700_000_000}
    ok(operator.call("PUT", path, {"event_type": "payment_intent.created", "object": shown}))
    own = ok(raw.post("/v1/payment_intents", {"amount": 2000, "currency": "usd"}))
    assert ok(raw.get(f"/v1/payment_intents/{published}")) == shown
    assert ok(raw.get("/v1/payment_intents"))["data"] == [own, shown]
    assert ok(raw.get(f"/v1/payment_intents?ending_before={published}"))["data"] == [own]
    assert ok(raw.get(f"/v1/disputes?payment_intent={published}"))["data"] == []
    for verb in ("", "/confirm", "/capture", "/cancel"):
        answer = raw.post(f"/v1/payment_intents/{published}{verb}")
        assert_refused(answer, 404, code="resource_missing", param="intent")
    body = {"event_type": "payment_intent.succeeded", "object": {}}
    answer = operator.call("PUT", f"/resources/payment_intent/{own['id']}", body)
    assert_refused(answer, 409, code="resource_already_exists", param="id")


def test_a_charge_from_elsewhere_cannot_name_an_intent_that_is_charged_here(
    operator: InternalClient, raw: Caller
) -> None:
    own = ok(raw.post("/v1/payment_intents", {"amount": 2000, "currency": "usd"}))
    charge: dict[str, Any] = {"amount": 2000, "currency": "usd", "payment_intent": own["id"]}
    assert_refused(operator.post("/charges", charge), param="payment_intent")
    assert ok(raw.get(f"/v1/charges?payment_intent={own['id']}"))["data"] == []
    elsewhere = f"pi_{uuid.uuid4().hex}"
    report = ok(operator.post("/charges", charge | {"payment_intent": elsewhere}))
    assert ok(raw.get(f"/v1/charges/{report['id']}?expand[]=payment_intent"))["payment_intent"] == elsewhere
    failed = charge | {"payment_intent": elsewhere, "status": "failed"}
    for created in (report["created"] - 5, report["created"]):
        ok(operator.post("/charges", failed | {"created": created}))
    refund = ok(raw.post("/v1/refunds", {"payment_intent": elsewhere}))
    assert refund["charge"] == report["id"]


NESTED: Any = {"deepest": True}
for _ in range(DEPTH_MAX):
    NESTED = {"in": NESTED}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"object": {}}, "event_type"),
        ({"event_type": "invoice.created"}, "object"),
        ({"event_type": "invoice.created", "object": []}, "object"),
        ({"event_type": "invoice.created", "object": {}, "previous_attributes": {}}, "previous_attributes"),
        ({"event_type": "invoice.vanished", "object": {}}, "event_type"),
        ({"event_type": "magic", "object": {}}, "event_type"),
        ({"event_type": "customer.updated", "object": {}}, "event_type"),
        ({"event_type": "charge.refund.updated", "object": {}}, "event_type"),
        ({"event_type": "charge.dispute.closed", "object": {}}, "event_type"),
        ({"event_type": "refund.failed", "object": {}}, "event_type"),
        ({"event_type": "invoice.deleted", "object": {}}, "event_type"),
        ({"event_type": "invoice.created", "object": {"id": "in_other"}}, "object[id]"),
        ({"event_type": "invoice.created", "object": {"id": None}}, "object[id]"),
        ({"event_type": "invoice.created", "object": {"object": "quote"}}, "object[object]"),
        ({"event_type": "invoice.created", "object": {"livemode": True}}, "object[livemode]"),
        ({"event_type": "invoice.created", "object": {"livemode": 0}}, "object[livemode]"),
        ({"event_type": "invoice.created", "object": {"a": ["b\x00"]}}, "object"),
        ({"event_type": "invoice.created", "object": {"b\x00": 1}}, "object"),
        ({"event_type": "invoice.created", "object": {"a": 2**63}}, "object"),
        ({"event_type": "invoice.created", "object": {"a": float("nan")}}, "object"),
        ({"event_type": "invoice.created", "object": {"a": float("-inf")}}, "object"),
        ({"event_type": "invoice.created", "object": NESTED}, "object"),
        ({"event_type": "invoice.created", "object": {"a": "x" * OBJECT_BYTES_MAX}}, "object"),
    ],
    ids=lambda given: given if isinstance(given, str) else str(given)[:60],
)
def test_an_invalid_resource_is_refused_by_field(
    operator: InternalClient, raw: Caller, body: Any, param: str
) -> None:
    named = create_resource_id()
    answer = operator.http.put(
        f"/internal/v1/resources/invoice/{named}",
        content=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {operator.key}", "content-type": "application/json"},
    )
    assert (answer.status_code, answer.json()["error"].get("param")) == (400, param), answer.text
    assert len(answer.text) < 3000
    assert list_events_of(raw, named) == []


def test_half_a_surrogate_pair_is_refused(operator: InternalClient) -> None:
    content = b'{"event_type": "invoice.created", "object": {"a": "\\ud800"}}'
    answer = operator.http.put(
        f"/internal/v1/resources/invoice/{create_resource_id()}",
        content=content,
        headers={"authorization": f"Bearer {operator.key}", "content-type": "application/json"},
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith("object")


@pytest.mark.parametrize(
    ("path", "param"),
    [("/resources/Invoice/in_1", "type"), ("/resources/invoice/in%201", "id"),
     ("/resources/customer/cus_none", "type"), ("/resources/file/file_none", "type")],
)  # fmt: skip
def test_invalid_types_invalid_ids_and_types_of_this_ledger_are_refused(
    operator: InternalClient, path: str, param: str
) -> None:
    body = {"event_type": "invoice.created", "object": {}}
    assert operator.call("PUT", path, body).json()["error"]["param"] == param


def test_the_largest_object_is_accepted(operator: InternalClient, raw: Caller) -> None:
    rest = len(json.dumps({"a": ""}, separators=(",", ":")))
    made = ok(put(operator, create_resource_id(), "invoice.created", {"a": "x" * (OBJECT_BYTES_MAX - rest)}))
    assert ok(raw.get(f"/v1/events/{made['id']}")) == made


def test_it_needs_the_scope(http: httpx.Client, account: Account, registrar: Registrar) -> None:
    other = InternalClient(http, registrar.key(account.id, "rk", scopes=["catalog", "network"])[1])
    for answer in (put(other, create_resource_id(), "invoice.created"), delete(other, create_resource_id())):
        assert_refused(answer, 403, code="more_permissions_required", message="'publish'")


def test_the_log_indexes_publications_by_customer(
    operator: InternalClient, raw: Caller, service: Service
) -> None:
    """A value that is not an id does no harm."""
    named, customer = create_resource_id(), raw.customer()["id"]
    ok(put(operator, named, "invoice.created", {"customer": {"id": customer}, "charge": "x" * 10_000}))

    with psycopg.connect(service.dsn) as conn:
        cur = conn.execute("SELECT originator_id FROM ledger.events WHERE customer = %s", (customer,))
        assert (named,) in cur.fetchall()
