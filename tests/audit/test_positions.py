"""`Ledger-Position`: each write says where it is in the log, also when it is sent again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import psycopg
import pytest

from tests.api.conftest import account, http, raw, registrar, service  # noqa: F401  # fixtures
from tests.api.service import Account, Caller, Registrar, Service, ok
from tests.internal.conftest import InternalClient, operator  # noqa: F401  # fixtures

# ruff: noqa: F811


@pytest.fixture
def log(service: Service, account: Account) -> Iterator[psycopg.Connection]:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        yield conn


# What an event of the request caused in turn has no request of its own, but was appended in the same batch.
_LAST_OF_REQUEST = """
SELECT max(e.notification_id) FROM ledger.events e JOIN ledger.events made USING (account, recorded_at)
WHERE made.request_id = %s
"""


def check_position(log: psycopg.Connection, answer: httpx.Response) -> int:
    """The position in the answer's header: that of the last event which its request recorded."""
    request_id = answer.headers.get("original-request", answer.headers["request-id"])
    (position,) = log.execute(_LAST_OF_REQUEST, (request_id,)).fetchone() or (None,)
    assert answer.headers.get("ledger-position") == str(position), answer.text
    assert "ledger-position" in answer.headers.get("access-control-expose-headers", "ledger-position")
    return int(position)


def test_each_write_answers_its_position_and_a_replay_the_same(log: psycopg.Connection, raw: Caller) -> None:
    created = raw.post("/v1/customers", {"name": "Ada"}, idempotency_key="create")
    position = check_position(log, created)
    customer = created.json()["id"]
    session = raw.post(
        "/v1/customer_sessions", {"customer": customer, "components[buy_button][enabled]": "true"}
    )
    declined = raw.post(
        "/v1/charges", {"amount": 100, "currency": "usd", "source": "tok_chargeDeclined"}
    )  # leaves a failed charge
    upload = raw.http.post(
        "/v1/files",
        data={"purpose": "dispute_evidence"},
        files={"file": ("a.png", b"\x89PNG\r\n\x1a\n", "image/png")},
        headers={"authorization": f"Bearer {raw.key}", "idempotency-key": "upload"},
    )
    disputed = raw.post(
        "/v1/charges", {"amount": 2000, "currency": "usd", "source": "tok_createDispute"}
    )  # one request, several streams
    deleted = raw.delete(f"/v1/customers/{customer}")
    answers = [created, session, declined, upload, disputed, deleted]
    positions = [check_position(log, answer) for answer in answers]
    assert declined.status_code == 402
    assert positions == sorted(positions)
    assert len(set(positions)) == len(positions)
    replay = raw.post("/v1/customers", {"name": "Ada"}, idempotency_key="create")
    assert replay.headers["idempotent-replayed"] == "true"
    assert check_position(log, replay) == position


def test_what_records_nothing_has_no_position(raw: Caller) -> None:
    """Also under a key, whose reply is stored by an append without events."""
    raw.customer()
    refused = {"amount": 100, "currency": "usd", "customer": "cus_unknown"}
    answers = [
        raw.post("/v1/charges", refused, idempotency_key="refused"),
        raw.post("/v1/charges", refused, idempotency_key="refused"),
        raw.post("/v1/charges", refused),
        raw.post("/v1/customers", {"unknown": "1"}),
        raw.get("/v1/customers"),
        raw.get("/v1/charges/ch_unknown"),
    ]
    assert [answer.headers.get("ledger-position") for answer in answers] == [None] * len(answers)


def test_a_reply_of_an_older_release_is_replayed_without_a_position(
    log: psycopg.Connection, raw: Caller
) -> None:
    first = raw.post("/v1/customers", {"name": "Ada"}, idempotency_key="older")
    log.execute("UPDATE ledger.replies SET position = NULL WHERE request_id = %s", (_request(first),))
    replay = raw.post("/v1/customers", {"name": "Ada"}, idempotency_key="older")
    assert (replay.status_code, replay.content) == (200, first.content)
    assert "ledger-position" not in replay.headers


def test_the_internal_api_answers_positions_too(log: psycopg.Connection, operator: InternalClient) -> None:
    created = operator.post("/customers", {"name": "Ada"}, idempotency_key="create")
    position = check_position(log, created)
    replay = operator.post("/customers", {"name": "Ada"}, idempotency_key="create")
    assert check_position(log, replay) == position
    body = {"event_type": "invoice.created", "object": {"id": f"in_{position}", "object": "invoice"}}
    published = operator.call("PUT", f"/resources/invoice/in_{position}", body)
    check_position(log, published)
    key = operator.post("/keys", {"kind": "sk", "name": "no event"}, idempotency_key="key")
    assert "ledger-position" not in key.headers


def test_lines_of_an_import_have_their_positions(log: psycopg.Connection, operator: InternalClient) -> None:
    name = operator.key[-8:]
    lines = [
        f'{{"op": "customer", "id": "cus_{name}"}}',
        '{"op": "customer", "unknown": 1}',
        f'{{"op": "charge", "id": "ch_{name}", "amount": 100, "currency": "usd", "customer": "cus_{name}"}}',
        f'{{"op": "customer", "id": "cus_{name}"}}',
    ]
    answer = operator.http.post(
        "/internal/v1/import",
        content="\n".join(lines),
        headers={"authorization": f"Bearer {operator.key}"},
    )
    query = "SELECT max(notification_id) FROM ledger.events WHERE originator_id = %s"
    rows = [log.execute(query, (f"{kind}_{name}",)).fetchone() for kind in ("cus", "ch")]
    customer, charge = (row[0] for row in rows if row is not None)
    assert answer.status_code == 200, answer.text
    results = [json.loads(line).get("position") for line in answer.text.splitlines()]
    assert results == [customer, None, charge, None]


def test_a_write_of_a_connected_account_has_its_position(
    log: psycopg.Connection, http: httpx.Client, registrar: Registrar, account: Account
) -> None:
    connected = registrar.account(platform=account.id)
    caller = Caller(http, account.secret)
    answer = caller.post("/v1/customers", {"name": "Ada"}, stripe_account=connected.id)
    ok(answer)
    check_position(log, answer)


def _request(answer: httpx.Response) -> str:
    return str(answer.headers["request-id"])
