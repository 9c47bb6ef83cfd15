"""Thin events over HTTP: what one shows, how they are listed and retrieved (contract §10.3, §10.4)."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
import stripe

from tests.api.service import Account, Caller, Registrar, Service, assert_refused, create_client, ok
from tests.v2.conftest import EVENTS, assert_refused_v2


def list_all(caller: Caller, query: str = "limit=100") -> Any:
    return ok(caller.get(f"{EVENTS}?{query}"))["data"]


@pytest.mark.contract("10.4 members", "10.4 related_object", "10.4 reason", "10.4 twins")
def test_a_thin_event_is_its_snapshot_without_the_object(raw: Caller) -> None:
    answer = raw.post("/v1/customers", "name=Ada", idempotency_key="k")
    customer = ok(answer)["id"]
    (snapshot,) = raw.events()
    (thin,) = list_all(raw)
    assert thin == {
        "id": f"evt_thin_{snapshot['id'].removeprefix('evt_')}",
        "object": "v2.core.event",
        "context": None,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(snapshot["created"])),
        "livemode": False,
        "reason": {
            "type": "request",
            "request": {"id": answer.headers["request-id"], "idempotency_key": "k"},
        },
        "related_object": {"id": customer, "type": "customer", "url": f"/v1/customers/{customer}"},
        "type": "v1.customer.created",
        "changes": None,
        "snapshot_event": snapshot["id"],
    }
    assert ok(raw.get(f"{EVENTS}/{thin['id']}")) == thin
    assert ok(raw.get(thin["related_object"]["url"])) == ok(answer)


@pytest.mark.contract("10.4 changes")
def test_an_update_shows_the_values_before_and_after(raw: Caller) -> None:
    customer = raw.customer(name="Ada", **{"metadata[a]": "1", "metadata[b]": "2"})["id"]
    ok(raw.post(f"/v1/customers/{customer}", "name=Grace&phone=1&metadata[a]=3&metadata[b]="))
    updated, created = list_all(raw)
    assert created["changes"] is None
    assert updated["changes"] == {
        "before": {"name": "Ada", "phone": None, "metadata": {"a": "1", "b": "2"}},
        "after": {"name": "Grace", "phone": "1", "metadata": {"a": "3", "b": None}},
    }
    assert updated["changes"]["before"] == raw.events()[1]["data"]["previous_attributes"]


@pytest.mark.contract("10.4 reason")
def test_what_no_request_caused_has_no_reason(operator: Caller, raw: Caller) -> None:
    body = {"id": "ch_thin_1", "amount": 500, "currency": "eur"}
    headers = {"authorization": f"Bearer {operator.key}"}
    charge = ok(operator.http.post("/internal/v1/charges", json=body, headers=headers))
    body = {"charge": charge["id"], "kind": "chargeback", "reason": "fraudulent", "reference": "r"}
    ok(operator.http.post("/internal/v1/disputes", json=body, headers=headers))
    for thin in list_all(raw, "types[0]=v1.charge.dispute.created"):
        assert thin["reason"] is None
        assert thin["related_object"]["url"].startswith("/v1/disputes/")


@pytest.mark.contract("10.4 object_id", "10.4 types", "10.4 created", "10.4 order")
def test_lists_are_filtered_by_object_types_and_time(raw: Caller) -> None:
    customer = raw.customer(name="Ada")["id"]
    charge = raw.charge("tok_createDispute")["id"]
    ok(raw.post(f"/v1/customers/{customer}", "name=Grace"))
    snapshots = [f"v1.{event['type']}" for event in raw.events()][::-1]
    assert [each["type"] for each in list_all(raw)] == snapshots
    assert len(snapshots) == 5

    def names(query: str) -> list[str]:
        return [each["type"].removeprefix("v1.") for each in list_all(raw, query)]

    assert names(f"object_id={customer}") == ["customer.updated", "customer.created"]
    assert names(f"object_id={charge}") == ["charge.succeeded"]
    assert names("object_id=cus_none") == []
    assert names("types[0]=v1.charge.succeeded") == ["charge.succeeded"]
    both = "types[0]=v1.charge.succeeded&types[1]=v1.customer.created"
    assert names(both) == ["charge.succeeded", "customer.created"]
    assert names(f"{both}&object_id={customer}") == ["customer.created"]
    first = list_all(raw)[-1]["created"]
    assert len(names(f"created[gte]={first}")) == 5
    assert names(f"created[lt]={first}") == []
    assert "customer.created" not in names(f"created[gt]={first}")
    assert "customer.created" in names(f"created[lte]={first}")
    seconds = raw.events()[-1]["created"]
    assert len(names(f"created[gte]={seconds}")) == 5
    assert names(f"created[lt]={seconds}") == []
    within = first.replace(".000Z", ".500Z")
    assert "customer.created" in names(f"created[lt]={within}")
    assert "customer.created" not in names(f"created[gte]={within}")
    assert names("created[gt]=2020-01-01T00:00:00%2B05:30&created[lt]=2020-01-02T00:00:00Z") == []


@pytest.mark.contract("10.3 next_page_url", "10.3 previous_page_url", "10.3 limit")
def test_pages_lead_to_both_ends_and_back(raw: Caller) -> None:
    customers = [raw.customer(name=str(number))["id"] for number in range(7)]
    raw.charge()
    query = "types[0]=v1.customer.created&types[1]=v1.customer.updated&limit=3"
    page = ok(raw.get(f"{EVENTS}?{query}"))
    assert page["previous_page_url"] is None
    pages = [page]
    while pages[-1]["next_page_url"] is not None:
        pages.append(ok(raw.get(pages[-1]["next_page_url"])))
    seen = [event["related_object"]["id"] for page in pages for event in page["data"]]
    assert seen == customers[::-1]
    assert [len(page["data"]) for page in pages] == [3, 3, 1]
    back = [pages[-1]]
    while back[-1]["previous_page_url"] is not None:
        back.append(ok(raw.get(back[-1]["previous_page_url"])))
    assert [page["data"] for page in back] == [page["data"] for page in pages[::-1]]
    raw.customer(name="later")  # what is newer than the first page does not move the others
    assert ok(raw.get(pages[0]["next_page_url"])) == pages[1]
    two = ok(raw.get(f"{pages[0]['next_page_url']}&limit=2"))
    assert two["data"] == pages[1]["data"][:2]


@pytest.mark.contract("10.3 page")
def test_a_page_is_one_of_a_list_with_its_filters_of_one_account_and_mode(
    raw: Caller, live: Caller, http: httpx.Client, registrar: Registrar
) -> None:
    for number in range(3):
        raw.customer(name=str(number))
    url = ok(raw.get(f"{EVENTS}?limit=1&types[0]=v1.customer.created"))["next_page_url"]
    assert url.startswith(f"{EVENTS}?page=page_")
    assert ok(raw.get(f"{url}&types[0]=v1.customer.created")) == ok(raw.get(url))
    for other in ("types[0]=v1.charge.captured", "object_id=cus_1", "created[gt]=2026-01-01T00:00:00Z"):
        name = other.partition("[")[0].partition("=")[0]
        answer = raw.get(f"{url}&{other}")
        assert_refused_v2(answer, param="page", message=f"another '{name}'")
    stranger = Caller(http, registrar.account().secret)
    for caller in (stranger, live):
        assert_refused_v2(caller.get(url), param="page", message="must be that of a next_page_url")
    token = url.partition("=page_")[2]
    for wrong in ("x", "page_", "page_x", f"page_{token[:-2]}", f"page_{token}A", token):
        assert_refused_v2(raw.get(f"{EVENTS}?page={wrong}"), param="page")
    assert_refused_v2(raw.get(f"{EVENTS}?page="), param="page")


@pytest.mark.contract("10.4 types", "10.3 limit", "10.2 unknown parameter")
@pytest.mark.parametrize(
    ("query", "param", "message"),
    [
        ("types[0]=v1.charge.suceeded", "types[0]", "one of v1.charge.succeeded, "),
        ("types[0]=charge.succeeded", "types[0]", "one of v1.charge.succeeded, "),
        ("types[0]=v1.customer.created&types[1]=v1.*", "types[1]", "must be one of"),
        ("&".join(f"types[{n}]=v1.charge.updated" for n in range(21)), "types", "at most 20 items"),
        ("limit=0", "limit", "greater than or equal to 1"),
        ("limit=101", "limit", "less than or equal to 100"),
        ("limit=1.5", "limit", "Invalid integer"),
        ("created[gt]=yesterday", "created[gt]", "RFC 3339, such as"),
        ("created=2026-11-28T16:32:09Z", "created", "Invalid object"),
        ("created[eq]=2026-11-28T16:32:09Z", "created[eq]", "unknown parameter"),
        ("starting_after=evt_1", "starting_after", "unknown parameter"),
        ("object=cus_1", "object", r"Did you mean object_id\?"),
        ("expand[0]=data", "expand[0]", "unknown parameter"),
    ],
)
def test_a_list_is_refused_by_the_name_of_what_is_wrong(
    raw: Caller, query: str, param: str, message: str
) -> None:
    assert_refused_v2(raw.get(f"{EVENTS}?{query}"), param=param, message=message)


@pytest.mark.contract("10.4 retrieve")
def test_what_is_no_thin_event_of_the_account_and_mode_is_not_found(
    raw: Caller, live: Caller, http: httpx.Client, registrar: Registrar
) -> None:
    raw.customer(name="Ada")
    (thin,) = list_all(raw)
    snapshot = thin["snapshot_event"]
    assert list_all(live) == []

    def assert_not_found(caller: Caller, event_id: str, message: str) -> None:
        answer = caller.get(f"{EVENTS}/{event_id}")
        assert_refused_v2(answer, 404, code="not_found", param="id", message=message)

    assert_not_found(live, thin["id"], "a similar object exists in test mode")
    assert_not_found(Caller(http, registrar.account().secret), thin["id"], f"'{thin['id']}'$")
    assert_not_found(raw, snapshot, f"at /v1/events/{snapshot}$")
    assert_not_found(raw, f"evt_thin_{'0' * 22}", "No such thin event")
    assert_not_found(raw, "evt_thin_", "No such thin event")
    assert_not_found(raw, "thin_1", "begins with evt_thin_")
    assert_not_found(raw, f"evt_thin_~{snapshot}", "begins with evt_thin_$")
    assert_refused(
        raw.get(f"/v1/events/{thin['id']}"),
        404,
        code="resource_missing",
        param="id",
        message=f"; a thin event is retrieved at {EVENTS}/{thin['id']}$",
    )


@pytest.mark.contract("10.4 published")
def test_events_of_other_services_refer_to_their_objects(operator: Caller, raw: Caller) -> None:
    headers = {"authorization": f"Bearer {operator.key}"}
    body = {"event_type": "invoice.paid", "object": {"id": "in_thin_1", "object": "invoice", "total": 1}}
    ok(operator.http.put("/internal/v1/resources/invoice/in_thin_1", json=body, headers=headers))
    body = {"event_type": "balance.available", "object": {"object": "balance", "pending": []}}
    ok(operator.http.put("/internal/v1/resources/balance/balance_1", json=body, headers=headers))
    balance, invoice = list_all(raw)
    assert invoice["related_object"] == {
        "id": "in_thin_1",
        "type": "invoice",
        "url": "/v1/invoices/in_thin_1",
    }
    assert ok(raw.get(invoice["related_object"]["url"]))["total"] == 1
    assert balance["related_object"] == {"type": "balance", "url": "/v1/balance"}


@pytest.mark.contract("10.4 imported")
def test_an_imported_event_of_any_id_is_retrieved(operator: Caller, raw: Caller) -> None:
    lines = "".join(
        f'{{"op": "event", "id": "{event_id}", "type": "charge.captured", '
        f'"object": {{"id": "ch_of_old", "object": "charge"}}}}\n'
        for event_id in ("evt_of_old", "foreign.event-1")
    )
    headers = {"authorization": f"Bearer {operator.key}", "content-type": "application/x-ndjson"}
    imported = operator.http.post("/internal/v1/import", content=lines, headers=headers)
    assert imported.status_code == 200, imported.text
    foreign, old = list_all(raw)
    assert (old["id"], old["snapshot_event"]) == ("evt_thin_of_old", "evt_of_old")
    assert (foreign["id"], foreign["snapshot_event"]) == ("evt_thin_~foreign.event-1", "foreign.event-1")
    for thin in (foreign, old):
        assert ok(raw.get(f"{EVENTS}/{thin['id']}")) == thin


@pytest.mark.contract("10.4 context")
def test_a_platform_sees_whose_event_it_is(
    http: httpx.Client, account: Account, registrar: Registrar, service: Service
) -> None:
    connected = registrar.account(platform=account.id)
    Caller(http, connected.secret).customer(name="Ada")
    platform = Caller(http, account.secret)
    assert list_all(platform) == []
    for header in ("stripe-context", "stripe-account"):
        answer = platform.call("GET", EVENTS, headers={header: connected.id})
        (thin,) = ok(answer)["data"]
        assert thin["context"] == connected.id
        assert answer.headers[header] == connected.id
    assert list_all(Caller(http, connected.secret))[0]["context"] is None
    sdk = create_client(service, account.secret)
    event = sdk.v2.core.events.retrieve(thin["id"], options={"stripe_context": connected.id})
    assert event.context == connected.id
    with pytest.raises(stripe.PermissionError):
        sdk.v2.core.events.list(options={"stripe_context": registrar.account().id})


@pytest.mark.contract("10.1 keys")
def test_a_key_needs_the_permission_to_read_events(
    http: httpx.Client, account: Account, registrar: Registrar
) -> None:
    def get(kind: Any, *scopes: str) -> httpx.Response:
        return Caller(http, registrar.key(account.id, kind, scopes=scopes)[1]).get(EVENTS)

    ok(get("rk", "rak_event_read"))
    refused = get("rk", "rak_charge_read")
    assert_refused_v2(refused, 403, code="more_permissions_required", message="'rak_event_read'")
    assert_refused_v2(get("pk"), 403, code="secret_key_required")


@pytest.mark.contract("10.3 SDKs")
def test_the_sdk_pages_through_all_of_a_list(client: stripe.StripeClient) -> None:
    made = [client.v1.customers.create({"name": str(number)}).id for number in range(5)]
    client.v1.charges.create({"amount": 500, "currency": "usd", "source": "tok_visa"})
    params: Any = {"limit": 2, "types": ["v1.customer.created"], "created": {"gte": "2020-01-01T00:00:00Z"}}
    events = list(client.v2.core.events.list(params).auto_paging_iter())
    assert [event.related_object.id for event in events] == made[::-1]  # type: ignore[attr-defined]
    assert {type(event).__name__ for event in events} == {"V1CustomerCreatedEvent"}


@pytest.mark.contract("10.3 as new as /v1")
def test_a_list_has_what_was_answered_before_it(raw: Caller) -> None:
    for number in range(20):
        customer = raw.customer(name=str(number))["id"]
        assert list_all(raw, "limit=1")[0]["related_object"]["id"] == customer
