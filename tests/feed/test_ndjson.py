"""The feed as NDJSON."""

from __future__ import annotations

import json

import httpx

from tests.api.service import Caller, Service, assert_refused
from tests.internal.conftest import InternalClient


def test_a_drain_has_every_position_once(raw: Caller, whole_reader: InternalClient) -> None:
    raw.customer(name="Ada")
    answer = whole_reader.get("/feed")
    assert answer.status_code == 200, answer.text
    *items, progress = (json.loads(line) for line in answer.text.splitlines())
    assert [item["position"] for item in items] == list(range(1, progress["head"] + 1))
    assert progress["progress"] == progress["head"]


def test_a_key_reads_its_own_account(raw: Caller, reader: InternalClient) -> None:
    customer = raw.customer(name="Ada Lovelace")
    answer = reader.get("/feed")
    item, progress = (json.loads(line) for line in answer.text.splitlines())
    assert item["object"] == customer["id"]
    assert item["type"] == "customer.created"
    assert "Ada" not in answer.text
    (event,) = raw.events()
    assert item["events"] == [{"id": event["id"], "type": event["type"]}]
    assert progress["progress"] >= item["position"]


def test_a_position_of_the_future_is_refused(whole_reader: InternalClient) -> None:
    answer = whole_reader.get("/feed?after=1000000000")
    assert_refused(answer, code="position_from_the_future", param="after", message="the last one is")


def test_the_openapi_document_shows_an_answer(
    raw: Caller, whole_reader: InternalClient, service: Service
) -> None:
    raw.customer()
    document = httpx.get(f"{service.url}/openapi.json", timeout=30).json()
    content = document["paths"]["/internal/v1/feed"]["get"]["responses"]["200"]["content"]
    lines = content["application/x-ndjson"]["example"].splitlines()
    answered = whole_reader.get("/feed?limit=1").text.splitlines()
    assert [list(json.loads(line)) for line in lines] == [list(json.loads(line)) for line in answered]
    assert all(f"data: {line}\n\n" in content["text/event-stream"]["example"] for line in lines)
