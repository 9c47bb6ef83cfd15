"""The fields of stored events as they are stored are those that decoding gives, or decoding has to tell."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.event import DomainEvent
from ledger.errors import UnreadableRecord
from ledger.store.codec import Codec
from tests.domain.histories import HISTORIES
from tests.golden.golden_files import CODEC, GOLDEN_DIRECTORY

EVENTS = [event for history in HISTORIES for event in history]
GOLDEN = [json.loads(file.read_text()) for file in sorted(GOLDEN_DIRECTORY.glob("*.json"))]
Stored = tuple[str, int, str, bytes]
STORED: list[Stored] = [
    *((each.originator_id, each.originator_version, *CODEC.encode_event(each)) for each in EVENTS),
    *(
        (each["originator_id"], each["originator_version"], each["topic"], each["state"].encode())
        for each in GOLDEN
    ),
]


def decode(stored: Stored) -> dict[str, Any]:
    """The fields that are not personal, by decoding all of them."""
    event: DomainEvent = CODEC.without_personal_data().decode_event(*stored)
    left_out = {"originator_id", "originator_version"} | event.PERSONAL
    return {name: value for name, value in vars(event).items() if name not in left_out}


def read(stored: Stored) -> dict[str, Any] | None:
    """The same by reading what is stored."""
    members = CODEC.read_members(stored[2], stored[3])
    return None if members is None else json.loads(msgspec.json.encode(members))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TOPIC)
def test_fields_as_stored_are_those_of_the_decoded_event(event: DomainEvent) -> None:
    stored = (event.originator_id, event.originator_version, *CODEC.encode_event(event))
    assert read(stored) == decode(stored)


def test_fields_of_every_version_that_was_ever_stored_are_read_or_decoded() -> None:
    for stored in STORED:
        assert read(stored) in (None, decode(stored))


def test_members_of_a_field_may_have_the_names_that_the_store_uses() -> None:
    event = next(each for each in EVENTS if each.TOPIC == "customer_session.created")
    state = json.loads(CODEC.encode_event(event)[1])
    state["components"] = {"sealed": "a", "class_version": "b", "é": "ß"}
    stored = (event.originator_id, 1, event.TOPIC, json.dumps(state, ensure_ascii=False).encode())
    fields = read(stored)
    assert fields is not None
    assert fields == decode(stored)
    assert fields["components"] == {"sealed": "a", "class_version": "b", "é": "ß"}


@given(st.sampled_from(STORED), st.integers(0, 3000), st.integers(0, 255))
def test_a_damaged_record_is_never_read_otherwise_than_it_is_decoded(
    stored: Stored, place: int, byte: int
) -> None:
    stream, version, topic, state = stored
    damaged = bytearray(state)
    damaged[place % len(state)] = byte
    changed = (stream, version, topic, bytes(damaged))
    if (fields := read(changed)) is not None:
        assert fields == decode(changed)


@pytest.mark.parametrize("change", [{"class_version": 99}, {"at": None}], ids=["later version", "less"])
def test_a_record_of_another_shape_has_to_be_decoded(change: dict[str, Any]) -> None:
    event = next(each for each in EVENTS if each.TOPIC == "dispute.opened")
    topic, state = CODEC.encode_event(event)
    fields = json.loads(state) | change
    fields = {name: value for name, value in fields.items() if value is not None or name != "at"}
    assert CODEC.read_members(topic, json.dumps(fields).encode()) is None


@pytest.mark.parametrize("space", ["\n", "\r", " \r\n"])
def test_a_record_with_line_breaks_between_its_members_has_to_be_decoded(space: str) -> None:
    event = next(each for each in EVENTS if each.TOPIC == "charge.captured")
    topic, state = CODEC.encode_event(event)
    broken = state.replace(b",", b"," + space.encode(), 1)
    assert CODEC.read_members(topic, state) is not None
    assert CODEC.read_members(topic, broken) is None
    assert decode(("ch_1", 2, topic, broken)) == decode(("ch_1", 2, topic, state))


def test_a_record_of_an_unknown_topic_has_to_be_decoded() -> None:
    codec = Codec(b"a key of 32 bytes for the tests.", ())
    assert codec.read_members("charge.succeeded", b'{"at":1}') is None
    with pytest.raises(UnreadableRecord):
        codec.decode_event("ch_1", 1, "charge.succeeded", b'{"at":1}')
