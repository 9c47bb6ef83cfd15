"""Events: what emits one, what it shows, how they are read (contract §4.1-§4.3, §7.8)."""

from __future__ import annotations

import time
from typing import Any

import pytest
import stripe

from ledger.wire.versions import LATEST_VERSION
from tests.api.service import Account, Caller, Registrar, Service, assert_refused, ok


@pytest.mark.contract(
    "4.1 id, object, created, livemode",
    "4.1 type",
    "4.1 data.object",
    "4.1 pending_webhooks",
    "4.3 GET /v1/events/{id}",
)
def test_an_event_has_these_members(raw: Caller) -> None:
    customer = raw.customer(name="x")
    (event,) = raw.events()
    assert set(event) == {
        "id", "object", "api_version", "created", "data", "livemode", "pending_webhooks", "request", "type",
    }  # fmt: skip
    assert event["id"].startswith("evt_")
    assert (event["object"], event["api_version"], event["type"]) == (
        "event",
        LATEST_VERSION,
        "customer.created",
    )
    assert (event["livemode"], event["pending_webhooks"]) == (False, 0)
    assert event["data"] == {"object": customer}
    assert 0 <= event["created"] - customer["created"] <= 1
    assert ok(raw.get(f"/v1/events/{event['id']}")) == event


@pytest.mark.contract("4.1 api_version")
def test_the_version_is_that_of_the_account_not_of_the_request(raw: Caller) -> None:
    raw.post("/v1/customers", stripe_version="2020-08-27")
    assert raw.events()[0]["api_version"] == LATEST_VERSION


@pytest.mark.contract("4.2 several of one request")
def test_events_of_one_request_share_it_and_keep_their_order(raw: Caller) -> None:
    answer = raw.post("/v1/charges", "amount=2000&currency=usd&source=tok_createMultipleDisputes")
    charge = ok(answer)["id"]
    events = raw.events()
    assert [event["type"] for event in events] == [
        "charge.succeeded",
        *["charge.dispute.created", "charge.dispute.funds_withdrawn"] * 2,
    ]
    first, *facts = events
    assert first["request"]["id"] == answer.headers["request-id"]
    assert first["data"]["object"]["id"] == charge
    for created, withdrawn in zip(facts[::2], facts[1::2], strict=True):
        assert created["data"] == withdrawn["data"]
        assert len(created["data"]["object"]["balance_transactions"]) == 1


@pytest.mark.contract("4.1 request")
def test_dispute_events_of_a_request_carry_it(raw: Caller) -> None:
    dispute = raw.dispute()["id"]
    answer = raw.post(f"/v1/disputes/{dispute}/close", idempotency_key="k")
    event = raw.events()[-1]
    assert event["type"] == "charge.dispute.closed"
    assert event["request"] == {"id": answer.headers["request-id"], "idempotency_key": "k"}
    assert event["data"] == {"object": ok(answer)}


@pytest.mark.contract("4.1 data.previous_attributes", "4.2 previous_attributes")
def test_previous_attributes_hold_old_values_of_what_changed(raw: Caller) -> None:
    path = (
        f"/v1/customers/{raw.customer(name='a', phone='1', **{'metadata[k]': '1', 'metadata[l]': '2'})['id']}"
    )
    steps: list[tuple[str, Any]] = [
        ("name=b&phone=1", {"name": "a"}),
        ("metadata[k]=2", {"metadata": {"k": "1"}}),
        ("metadata[new]=3", {"metadata": {"new": None}}),
        ("metadata[k]=", {"metadata": {"k": "2"}}),
        ("address[city]=B&address[line1]=L", {"address": None}),
        ("address[city]=C", {"address": {"city": "B"}}),
        ("name=&description=d", {"name": "b", "description": None}),
        ("preferred_locales[]=de", {"preferred_locales": []}),
        ("preferred_locales[]=de&preferred_locales[]=en", {"preferred_locales": ["de"]}),
        ("invoice_settings[footer]=f", {"invoice_settings": {"footer": None}}),
    ]  # fmt: skip
    for form, previous in steps:
        after = ok(raw.post(path, form))
        event = raw.events()[-1]
        assert event["type"] == "customer.updated"
        assert event["data"] == {"object": after, "previous_attributes": previous}


def test_previous_attributes_of_a_dispute(raw: Caller) -> None:
    path = f"/v1/disputes/{raw.dispute()['id']}"
    ok(raw.post(path, "evidence[customer_name]=J&submit=false"))
    assert raw.events()[-1]["data"]["previous_attributes"] == {
        "evidence": {"customer_name": None},
        "evidence_details": {"has_evidence": False},
    }
    ok(raw.post(path, "evidence[customer_name]=K"))
    assert raw.events()[-1]["data"]["previous_attributes"] == {
        "evidence": {"customer_name": "J"},
        "evidence_details": {"submission_count": 0, "submission_method": "not_submitted"},
        "status": "needs_response",
    }


@pytest.mark.contract("4.2 previous_attributes", "4.2 customer")
def test_previous_attributes_are_there_exactly_on_updates(raw: Caller) -> None:
    path = f"/v1/disputes/{raw.dispute()['id']}"
    ok(raw.post(path, "evidence[uncategorized_text]=winning_evidence"))
    customer = raw.customer()["id"]
    ok(raw.post(f"/v1/customers/{customer}", "name=x"))
    ok(raw.delete(f"/v1/customers/{customer}"))
    events = raw.events()
    assert len(events) == 9
    for event in events:
        assert ("previous_attributes" in event["data"]) is event["type"].endswith(".updated")


@pytest.mark.contract("4.2 dispute")
def test_each_change_of_a_dispute_is_one_step_in_the_table(raw: Caller) -> None:
    path = f"/v1/disputes/{raw.dispute('tok_createDisputeInquiry')['id']}"
    ok(raw.post(path, "evidence[uncategorized_text]=escalate_inquiry_evidence"))
    ok(raw.post(path, "evidence[uncategorized_text]=winning_evidence"))
    statuses = [event["data"]["object"]["status"] for event in raw.events("type=charge.dispute.*")]
    steps = [
        status for index, status in enumerate(statuses) if status != (statuses[index - 1] if index else None)
    ]
    assert steps == [
        "warning_needs_response",
        "warning_under_review",
        "needs_response",
        "under_review",
        "won",
    ]


@pytest.mark.contract("4.2 no change, no event")
def test_refusals_and_reads_make_no_event(raw: Caller) -> None:
    customer = raw.customer()["id"]
    raw.post(f"/v1/customers/{customer}", "email=" + "x" * 600)
    raw.post("/v1/charges", "amount=1&currency=usd&source=tok_visa")
    raw.get(f"/v1/customers/{customer}")
    raw.get("/v1/events")
    assert len(raw.events()) == 1


@pytest.mark.contract("4.3 type", "4.3 types", "4.3 delivery_success")
def test_types_filter_exactly_by_group_or_by_list(raw: Caller) -> None:
    raw.dispute()
    raw.customer()
    succeeded, created, withdrawn, customer = raw.events()

    def found(query: str) -> list[Any]:
        return ok(raw.get(f"/v1/events?{query}"))["data"][::-1]

    assert found("type=charge.succeeded") == [succeeded]
    assert found("type=charge.*") == [succeeded, created, withdrawn]
    assert found("type=charge.dispute.*") == [created, withdrawn]
    assert found("type=*") == [succeeded, created, withdrawn, customer]
    assert found("types[]=customer.created&types[]=charge.succeeded") == [succeeded, customer]
    assert found("types[0]=customer.created") == [customer]
    for nothing in (
        "type=charge",
        "type=char*",
        "type=*.created",
        "type=no.such",
        "types[]=charge.*",
        "type=charge.**",
    ):
        assert found(nothing) == []
    assert found("delivery_success=true") == [succeeded, created, withdrawn, customer]
    assert found("delivery_success=false") == []
    assert found(f"type=charge.*&limit=1&ending_before={succeeded['id']}") == [created]
    assert found(f"type=charge.dispute.*&starting_after={withdrawn['id']}") == [created]
    twenty = "&".join(["types[]=customer.created"] * 20)
    assert found(twenty) == [customer]


@pytest.mark.contract("4.3 shared by the account's keys")
def test_only_the_keys_of_the_account_read_its_events(
    raw: Caller, live: Caller, account: Account, registrar: Registrar
) -> None:
    raw.customer()
    (event,) = raw.events()
    other = Caller(raw.http, registrar.key(account.id)[1])
    assert other.events() == [event]
    assert live.events() == []
    stranger = Caller(raw.http, registrar.account().secret)
    assert stranger.events() == []
    assert_refused(stranger.get(f"/v1/events/{event['id']}"), 404, code="resource_missing", param="id")
    assert_refused(
        stranger.get(f"/v1/events?starting_after={event['id']}"),
        code="resource_missing",
        param="starting_after",
    )


@pytest.mark.contract("4.2 immutable")
def test_events_never_change(raw: Caller) -> None:
    customer = raw.customer(name="a", source="tok_visa")["id"]
    (event,) = raw.events()
    ok(raw.post(f"/v1/customers/{customer}", "name=b"))
    ok(raw.delete(f"/v1/customers/{customer}"))
    assert ok(raw.get(f"/v1/events/{event['id']}")) == event
    assert raw.events()[0] == event


@pytest.mark.parametrize("target", ["evt_x", "evt_" + "z" * 22, "cus_x", "%F0%9F%98%80", "evt_" + "0" * 500])
def test_an_unknown_event_is_not_found(raw: Caller, target: str) -> None:
    assert_refused(raw.get(f"/v1/events/{target}"), 404, code="resource_missing", param="id")


@pytest.mark.contract("4.3 order")
def test_250_events_page_both_ways_and_name_their_request(
    client: stripe.StripeClient, service: Service
) -> None:
    """Contract §7.8: in pages of 100, forward and backward."""
    started = int(time.time())
    first = client.v1.customers.create({"name": "0"})
    requests = []
    for number in range(1, 250):
        answer = client.v1.customers.update(first.id, {"name": str(number)})
        assert answer.last_response is not None
        requests.append(answer.last_response.request_id)
    pages = client.v1.events.list({"limit": 100, "created": {"gte": started}})
    assert (len(pages.data), pages.has_more) == (100, True)
    events = list(pages.auto_paging_iter())
    assert len({event.id for event in events}) == 250
    assert [event.data.object["name"] for event in events] == [str(number) for number in range(249, -1, -1)]
    assert [event.request.id for event in events[-2::-1] if event.request] == requests
    backward = client.v1.events.list({"limit": 100, "ending_before": events[-1].id})
    assert [event.id for event in backward.auto_paging_iter()] == [event.id for event in events[:-1][::-1]]

    one = client.v1.events.retrieve(events[0].id)
    assert one.to_dict() == events[0].to_dict()
    assert one.data.previous_attributes is not None
    assert one.data.previous_attributes["name"] == "248"
    assert isinstance(one.data.object, stripe.Customer)
    assert client.v1.events.list({"types": ["customer.updated"], "limit": 1}).data[0].id == one.id
    assert client.v1.events.list({"created": {"lt": started}}).data == []
