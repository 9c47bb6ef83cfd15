"""An Event that was sent again under an idempotency key: the kept reply shows the object of the Event."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg

from ledger.compression.documents import decompress
from tests.api.service import ok
from tests.erasure.markers import Person
from tests.erasure.stage import Stage


def test_the_reply_is_sealed_for_whom_the_event_is_about(stage: Stage) -> None:
    """A dispute and a refund name a charge, and not the customer whose key seals their Events."""
    ada, raw = Person("Ada"), stage.raw
    text = ada.mark("resent")
    customer = ok(raw.post("/v1/customers", {"source": "tok_visa"}))["id"]
    disputed = _charge(stage, customer, source="tok_createDispute")
    dispute = ok(raw.get(f"/v1/disputes?charge={disputed}"))["data"][0]["id"]
    ok(raw.post(f"/v1/disputes/{dispute}", {"evidence[customer_name]": text, "submit": "false"}))
    ok(raw.post("/v1/refunds", {"charge": _charge(stage, customer), "amount": 5, "metadata[a]": text}))
    ok(stage.operator.post(f"/disputes/{dispute}/facts", {"fact": "lost"}))
    stage.wait_for_projections()
    form = {"webhook_endpoint": ok(raw.get("/v1/webhook_endpoints"))["data"][0]["id"]}
    asked = [
        (f"/v1/events/{event['id']}/retry", uuid4().hex)
        for event in raw.events()
        if text in str(event["data"]["object"])
    ]
    assert len(asked) > 1
    for path, key in asked:
        assert text in str(ok(raw.post(path, form, idempotency_key=key)))
    assert not any(text in body for body in _read_clear_replies(stage))
    stage.erase(customers=[customer])
    for path, key in asked:
        again = raw.post(path, form, idempotency_key=key)
        assert again.headers["idempotent-replayed"] == "true"
        assert text not in str(ok(again))


def _charge(stage: Stage, customer: str, **members: str) -> Any:
    form = {"amount": 2000, "currency": "usd", "customer": customer, **members}
    return ok(stage.raw.post("/v1/charges", form))["id"]


def _read_clear_replies(stage: Stage) -> list[str]:
    with psycopg.connect(stage.service.dsn) as conn:
        rows = conn.execute("SELECT compressed FROM ledger.replies WHERE compressed IS NOT NULL").fetchall()
    return [decompress(bytes(stored)).decode() for (stored,) in rows if bytes(stored)[0] != 1]
