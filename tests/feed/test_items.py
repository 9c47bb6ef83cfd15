"""What an item has of a recorded event, for every class and every version that was ever stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.domain.event import DomainEvent
from ledger.feed.items import ItemEncoder
from ledger.wire.aggregates import EVENT_CLASSES
from ledger.wire.public_events import derive_event_id, derive_public_event_types
from tests.domain.histories import HISTORIES
from tests.golden.golden_files import CODEC, GOLDEN_DIRECTORY

RECORDED_AT = 1_795_000_000.123456
EVENTS = [event for history in HISTORIES for event in history]
GOLDEN = sorted(GOLDEN_DIRECTORY.glob("*.json"))


def encode(*stored: tuple[str, int, str, bytes]) -> list[Any]:
    """The items of stored events: stream, version, topic, content."""
    rows = [
        (position, topic, stream, version, "acct_1", False, RECORDED_AT, "req_1", None, state)
        for position, (stream, version, topic, state) in enumerate(stored, 1)
    ]
    buffer = bytearray()
    ends = ItemEncoder(CODEC).encode_into(buffer, rows)
    assert ends[-1] == len(buffer)
    lines = bytes(buffer).split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == len(rows)
    return [json.loads(line) for line in lines]


def list_own_fields(event: DomainEvent) -> dict[str, Any]:
    """The fields that are not personal, as the codec encodes the event again."""
    fields: dict[str, Any] = json.loads(CODEC.encode_event(event)[1])
    fields.pop("sealed", None)
    fields.pop("class_version", None)
    return fields


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TOPIC)
def test_an_item_has_the_fields_and_the_public_events_of_its_event(event: DomainEvent) -> None:
    stored = (event.originator_id, event.originator_version, *CODEC.encode_event(event))
    (item,) = encode(stored)
    assert item == {
        "position": 1,
        "type": event.TOPIC,
        "object": event.originator_id,
        "version": event.originator_version,
        "account": "acct_1",
        "livemode": False,
        "recorded_at": RECORDED_AT,
        "request": "req_1",
        "causation": None,
        "events": [
            {"id": derive_event_id(event, ordinal, RECORDED_AT), "type": event_type}
            for ordinal, event_type in enumerate(derive_public_event_types(event))
        ],
        "data": list_own_fields(event),
    }


def test_every_class_of_event_is_among_the_examples() -> None:
    assert {type(event) for event in EVENTS} == set(EVENT_CLASSES)


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_an_item_of_an_older_version_has_the_fields_of_the_present_one(file: Any) -> None:
    golden = json.loads(file.read_text())
    stored = (
        golden["originator_id"],
        golden["originator_version"],
        golden["topic"],
        golden["state"].encode(),
    )
    (item,) = encode(stored)
    assert "unreadable" not in item
    assert item["data"] == list_own_fields(CODEC.decode_event(*stored))


def test_a_line_has_no_character_at_which_clients_cut_it() -> None:
    event = next(each for each in EVENTS if each.TOPIC == "customer_session.created")
    topic, state = CODEC.encode_event(event)
    text = "a\u2028b\u2029c\u0085d\\\u2028\x0b\x0c\x1c\x1d\x1e\r\n é €"
    fields = json.loads(state) | {"components": {text: text}}
    for indent in (None, 1):  # as stored; and with line breaks, so that it has to be decoded
        stored = json.dumps(fields, ensure_ascii=False, indent=indent)
        row = (1, topic, "cuss_1", 1, "acct_1", False, RECORDED_AT, None, None, stored.encode())
        buffer = bytearray()
        ItemEncoder(CODEC).encode_into(buffer, [row, row])
        lines = buffer.decode().splitlines()
        assert len(lines) == 2
        assert json.loads(lines[1])["data"]["components"] == {text: text}
        assert "é €" in lines[1]


@pytest.mark.parametrize(
    ("topic", "state", "reason"),
    [
        ("charge.captured", b"\xff not json", "not_json"),
        ("charge.captured", b'{"at":1,\n"x":', "not_json"),
        ("charge.captured", b'{"at":1}', "fields_missing"),
        ("nothing.known", b"{}", "unknown_topic"),
        ("dispute.opened", b'{"class_version":99}', "newer_version"),
    ],
)
def test_a_record_that_cannot_be_read_is_an_item_with_the_reason(
    topic: str, state: bytes, reason: str
) -> None:
    before = EVENTS[0]
    good = (before.originator_id, 1, *CODEC.encode_event(before))
    first, item, last = encode(good, ("ch_1", 2, topic, state), good)
    assert (item["position"], item["type"], item["object"]) == (2, topic, "ch_1")
    assert item["unreadable"] == reason
    assert item["events"] is None
    assert "data" not in item
    assert "data" in first
    assert "data" in last
