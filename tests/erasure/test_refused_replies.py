"""What is kept of a refused request under its idempotency key: it quotes what was asked for as an id."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest

from tests.api.service import ok
from tests.erasure.stage import Stage

NAME = "Ada-Lovelace-of-Ockham"
PAYMENT = {"amount": 500, "currency": "usd"}
REFUSED: list[tuple[str, Mapping[str, Any]]] = [
    ("/v1/customers", {"source": NAME}),
    ("/v1/charges", {**PAYMENT, "customer": NAME}),
    ("/v1/refunds", {"charge": NAME}),
    ("/v1/file_links", {"file": NAME}),
    (f"/v1/customers/{NAME}", {"name": "x"}),
]


def fetch_reply(stage: Stage, key: str) -> tuple[str | None, bytes]:
    """The columns of the kept reply."""
    query = "SELECT body, compressed FROM ledger.replies WHERE key = %s"
    with psycopg.connect(stage.service.dsn) as conn:
        row = conn.execute(query, (key,)).fetchone()
    assert row is not None
    return row[0], bytes(row[1])


def test_so_is_one_about_an_object_of_which_nothing_personal_was_recorded(stage: Stage) -> None:
    charge = ok(stage.raw.post("/v1/charges", {**PAYMENT, "source": "tok_createDispute"}))["id"]
    dispute = ok(stage.raw.get(f"/v1/disputes?charge={charge}"))["data"][0]["id"]
    key = uuid.uuid4().hex
    refused = stage.raw.post(f"/v1/disputes/{dispute}", {"evidence[receipt]": NAME}, idempotency_key=key)
    assert NAME in refused.text
    body, stored = fetch_reply(stage, key)
    assert (body, stored[0]) == (None, 1)


@pytest.mark.parametrize(("path", "form"), REFUSED, ids=[path for path, _ in REFUSED])
def test_a_refusal_is_kept_sealed_and_given_again(stage: Stage, path: str, form: dict[str, Any]) -> None:
    key = uuid.uuid4().hex
    first = stage.raw.post(path, form, idempotency_key=key)
    assert first.status_code in (400, 404)
    assert NAME in first.text
    body, stored = fetch_reply(stage, key)
    assert body is None
    assert stored[0] == 1
    assert stage.account.id.encode() in stored
    again = stage.raw.post(path, form, idempotency_key=key)
    assert (again.status_code, again.text) == (first.status_code, first.text)
    assert again.headers["idempotent-replayed"] == "true"


def test_the_erasure_of_a_customer_leaves_the_refusals_of_others(stage: Stage) -> None:
    key, customer = uuid.uuid4().hex, stage.raw.customer(name="Grace")["id"]
    first = stage.raw.post("/v1/refunds", {"charge": NAME}, idempotency_key=key)
    stage.erase(customers=[customer])
    assert stage.raw.post("/v1/refunds", {"charge": NAME}, idempotency_key=key).text == first.text
