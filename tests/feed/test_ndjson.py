"""The feed as NDJSON."""

from __future__ import annotations

import json

from tests.api.service import Caller, assert_refused
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
