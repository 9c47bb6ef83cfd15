"""Whatever a text names is found over HTTP: ids, requests, idempotency keys, positions, addresses."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from ledger.accounts import INTERNAL_SCOPES
from ledger.audit.search.lookups import FIND_BY_ID, FIND_OWN_POSITIONS
from tests.api.service import Account, Caller, Registrar, Service, assert_refused, ok
from tests.internal.conftest import InternalClient
from tests.postgres.plans import list_nodes


def find(client: InternalClient, text: str) -> Any:
    return ok(client.get(f"/audit/find?q={quote(text)}"))


def list_hits(client: InternalClient, text: str) -> list[tuple[str, str, str | None, str]]:
    """Kind, id, the object that it leads to, and title of each."""
    return [(hit["kind"], hit["id"], hit["object_id"], hit["title"]) for hit in find(client, text)["data"]]


def test_an_object_an_event_and_a_position_are_found_by_id(operator: InternalClient, raw: Caller) -> None:
    dispute = raw.dispute()
    assert list_hits(operator, dispute["id"]) == [("object", dispute["id"], dispute["id"], "needs_response")]

    entry = ok(operator.get(f"/audit/log?object={dispute['id']}"))["data"][0]
    event = next(each["id"] for each in entry["events"] if each["type"] == "charge.dispute.created")
    thin = event.replace("evt_", "evt_thin_")
    for text, kind in ((event, "event"), (thin, "event"), (str(entry["position"]), "position")):
        (hit,) = find(operator, text)["data"]
        assert hit == {
            "kind": kind,
            "id": text,
            "type": "dispute",
            "title": "dispute.opened",
            "object_id": dispute["id"],
            "position": entry["position"],
            "time": entry["time"],
        }
    assert list_hits(operator, f"position:{entry['position']}") == [
        ("position", str(entry["position"]), dispute["id"], "dispute.opened")
    ]


def test_what_has_no_stream_of_its_own_leads_to_the_object_that_has_it(
    operator: InternalClient, raw: Caller
) -> None:
    customer = raw.customer(email="jenny@example.com", source="tok_visa")
    card = customer["default_source"]
    charge = raw.charge(customer=customer["id"], source=card)
    transaction = charge["balance_transaction"]
    assert [hit[:3] for hit in list_hits(operator, transaction)] == [
        ("balance_transaction", transaction, charge["id"])
    ]
    assert {hit[:3] for hit in list_hits(operator, card)} == {
        ("payment_method", card, customer["id"]),
        ("payment_method", card, charge["id"]),
    }


def test_a_request_and_an_idempotency_key_lead_to_what_they_recorded(
    operator: InternalClient, raw: Caller
) -> None:
    created = raw.post("/v1/customers", {"name": "Jenny"}, idempotency_key="an order / 7")
    customer, request = ok(created)["id"], created.headers["request-id"]
    assert list_hits(operator, request) == [("request", request, customer, "customer.created")]
    assert list_hits(operator, "an order / 7") == [
        ("idempotency_key", "an order / 7", customer, "customer.created")
    ]


def test_published_resources_imported_events_keys_and_accounts_are_found(
    operator: InternalClient, raw: Caller, account: Account, registrar: Registrar
) -> None:
    invoice = f"in_of_{account.id}"
    content = {"event_type": "invoice.paid", "object": {"status": "paid", "name": "A secret name"}}
    ok(operator.call("PUT", f"/resources/invoice/{invoice}", content))
    assert list_hits(operator, invoice) == [("object", invoice, invoice, "A secret name, paid")]

    event = f"evt_of_{account.id}"
    line = {
        "op": "event",
        "id": event,
        "type": "invoice.paid",
        "object": {"id": invoice, "object": "invoice"},
    }
    answer = operator.post("/import", line)
    assert "error" not in answer.text, answer.text
    assert [hit[:3] for hit in list_hits(operator, event)] == [("event", event, event)]

    key, _ = registrar.key(account.id, "rk", scopes=["audit"])
    ((kind, found, object_id, title),) = list_hits(operator, key)
    assert (kind, found, object_id) == ("key", key, None)
    assert re.fullmatch(r"test, rk_test_\*\*\*\w{4}", title)
    connected = registrar.account(platform=account.id).id
    assert list_hits(operator, account.id) == [("account", account.id, None, "A test")]
    assert list_hits(operator, connected) == [("account", connected, None, "A test")]


def test_an_address_is_found_only_with_the_scope_for_personal_data(
    operator: InternalClient, raw: Caller, account: Account, registrar: Registrar
) -> None:
    """Else looking for addresses would tell who is a customer."""
    customer = raw.customer(email="jenny@example.com", name="Jenny")["id"]
    assert list_hits(operator, "jenny@example.com") == [
        ("email", customer, customer, "Jenny, jenny@example.com")
    ]
    assert find(operator, "jenny@example.com")["not_searched"] == []

    auditor = InternalClient(operator.http, registrar.key(account.id, "rk", scopes=["audit"])[1])
    found = find(auditor, "jenny@example.com")
    assert (found["data"], found["has_more"], found["behind_events"]) == ([], False, 0)
    assert found["not_searched"] == [
        {"kind": "delivery", "scope": "webhooks"},
        {"kind": "email", "scope": "personal_data"},
        {"kind": "replay", "scope": "webhooks"},
    ]
    assert list_hits(auditor, customer) == [("object", customer, customer, "")]


def test_more_customers_with_an_address_than_are_shown_are_announced(
    operator: InternalClient, raw: Caller
) -> None:
    ids = [raw.customer(email="all@example.com")["id"] for _ in range(21)]
    found = find(operator, "all@example.com")
    assert [hit["id"] for hit in found["data"]] == ids[:0:-1]
    assert found["has_more"] is True


def test_nothing_of_other_accounts_or_of_the_other_mode_is_found(
    operator: InternalClient, raw: Caller, registrar: Registrar
) -> None:
    other = registrar.account()
    stranger = InternalClient(operator.http, registrar.key(other.id, "rk", scopes=INTERNAL_SCOPES)[1])
    live = InternalClient(
        operator.http, registrar.key(other.id, "rk", livemode=True, scopes=INTERNAL_SCOPES)[1]
    )
    raw_stranger = Caller(raw.http, other.secret)
    created = raw_stranger.post(
        "/v1/customers", {"email": "x@example.com", "source": "tok_visa"}, idempotency_key="theirs"
    )
    customer = ok(created)
    charge = raw_stranger.charge(customer=customer["id"], source=customer["default_source"])
    key, _ = registrar.key(other.id)
    entry = ok(stranger.get(f"/audit/log?object={charge['id']}"))["data"][0]
    texts = [
        customer["id"], customer["default_source"], charge["id"], charge["balance_transaction"], key,
        "x@example.com", "theirs", created.headers["request-id"], entry["events"][0]["id"],
        str(entry["position"]),
    ]  # fmt: skip
    for text in [*texts, other.id]:
        assert find(stranger, text)["data"], text
        assert find(operator, text)["data"] == [], text
    for text in texts:
        assert find(live, text)["data"] == [], text


def test_deleted_and_unknown_texts_are_answered_plainly(operator: InternalClient, raw: Caller) -> None:
    customer = raw.customer(email="gone@example.com")["id"]
    ok(raw.delete(f"/v1/customers/{customer}"))
    assert list_hits(operator, customer) == [("object", customer, customer, "deleted")]
    for text in (
        "gone@example.com",
        "ch_nowhere",
        "0",
        str(2**63),
        "9" * 30,
        "%",
        "' OR 1=1 --",
        "\N{SNOWMAN}",
    ):
        assert find(operator, text)["data"] == [], text
    assert_refused(operator.get("/audit/find"), code="parameter_missing", param="q")
    for wrong in ("", "x" * 513, "a%00b"):
        answer = operator.get(f"/audit/find?q={wrong}")
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == "q"
    assert_refused(operator.get("/audit/find?q=a&limit=3"), code="parameter_unknown", param="limit")


def test_a_key_without_the_scope_is_refused_and_what_was_sought_is_recorded_as_a_digest(
    operator: InternalClient, raw: Caller, account: Account, registrar: Registrar
) -> None:
    find(operator, "sought@example.com")
    accesses = ok(operator.get("/audit/accesses?limit=10"))["data"]
    (sought,) = [access for access in accesses if access["action"] == "GET /internal/v1/audit/find"]
    assert sought["parameters"]["q"].startswith("digest:")
    unaudited = InternalClient(operator.http, registrar.key(account.id, "rk", scopes=["feed"])[1])
    refused = unaudited.get("/audit/find?q=ch_1")
    assert refused.status_code == 403
    assert "audit" in refused.json()["error"]["message"]


def test_the_command_line_finds_the_same(
    service: Service, operator: InternalClient, raw: Caller, account: Account
) -> None:
    customer = raw.customer(email="shell@example.com", name="Jenny")["id"]
    command = ("audit", "find", "shell@example.com", "--account", account.id)
    assert customer not in service.run_command(*command)
    answer = json.loads(service.run_command(*command, "--personal-data", "--json"))
    assert answer["data"] == find(operator, "shell@example.com")["data"]
    assert "customer.created" in service.run_command(
        "audit", "find", str(find_creation(operator, customer)), "--account", account.id
    )


def find_creation(operator: InternalClient, object_id: str) -> int:
    """The position of the object's creation."""
    (hit,) = find(operator, object_id)["data"]
    return int(hit["position"])


@pytest.mark.parametrize(
    ("query", "indexes"),
    [
        (FIND_BY_ID, {"events_stream_version", "events_movement", "api_keys_id", "accounts_id"}),
        (FIND_OWN_POSITIONS, {"events_position"}),
    ],
)
def test_each_look_up_reads_along_an_index(service: Service, query: str, indexes: set[str]) -> None:
    """Requests and idempotency keys: test_search_plans; e-mail addresses and cards: the indexes of their
    lists; deliveries and replays: their primary keys."""
    values = {"text": "ch_1", "account": "acct_1", "livemode": False, "imported": "event.imported"}
    with psycopg.connect(service.dsn, autocommit=True, options="-c enable_seqscan=off") as conn:
        row = conn.execute(f"EXPLAIN (FORMAT JSON) {query}".encode(), {**values, "positions": [1]}).fetchone()
    assert row is not None
    nodes = list(list_nodes(row[0][0]["Plan"]))
    assert not any(node["Node Type"] == "Seq Scan" for node in nodes)
    assert {node["Index Name"] for node in nodes if "Index Name" in node} == indexes
