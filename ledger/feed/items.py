"""One recorded event as an item of the feed: a line of JSON, the same for every reader.

`data` has the fields of the event as this release reads them, of the present version of its class, without
those that hold personal data: they are stored sealed, and nothing is opened here. A record that cannot be
read is an item too, with the reason, so that no position is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ledger.errors import UnreadableRecord, printable_topic
from ledger.store.codec import Codec
from ledger.wire.aggregates import EVENT_CLASSES
from ledger.wire.public_events import (
    FIXED_EVENT_TYPES,
    derive_event_id,
    derive_ledger_event_id,
    derive_public_event_types,
)

# What of an event is no field of its own, or personal; by class.
_LEFT_OUT = {
    event_class: frozenset({"originator_id", "originator_version"}) | event_class.PERSONAL
    for event_class in EVENT_CLASSES
}

_LINE_ENDS = tuple((chr(code).encode(), b"\\u%04x" % code) for code in (0x85, 0x2028, 0x2029))

ITEM_COLUMNS = """
e.notification_id, e.topic, e.originator_id, e.originator_version, e.account, e.livemode,
extract(epoch FROM e.recorded_at)::float8, e.request_id, e.causation, e.state
"""
"""The columns of `ledger.events e` that make an item, in the order of `ItemEncoder.encode`."""


class PublicEventRef(msgspec.Struct, frozen=True, gc=False):
    """A public Event that the recorded event made."""

    id: str
    type: str


class Item(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One item, in the order of its members.

    object       id of the object that the event happened to
    version      of the object, after the event
    recorded_at  unix seconds
    request      id of the request that caused the event, if one did
    causation    what caused it besides: see `Change.causation`
    events       the public Events that it made; None when that cannot be read
    data         see the module; absent from an item with `unreadable`, the code of the reason
    """

    position: int
    type: str
    object: str
    version: int
    account: str
    livemode: bool
    recorded_at: float
    request: str | None
    causation: str | None
    events: list[PublicEventRef] | None
    data: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    unreadable: str | msgspec.UnsetType = msgspec.UNSET


def encode_sse_item(position: int, line: bytes) -> bytes:
    """The item at a position, whose line ends with a line feed, as a server-sent event."""
    return b"id: %d\ndata: %b\n" % (position, line)


def _escape_line_ends(line: bytes) -> bytes:
    """JSON without the three characters at which some clients end a line besides the line feed. They can
    only be in its strings."""
    for character, escape in _LINE_ENDS:
        line = line.replace(character, escape)
    return line


class ItemEncoder:
    """Encodes the items of one process. `codec` is the store's."""

    def __init__(self, codec: Codec) -> None:
        self._decode = codec.without_personal_data().decode_event
        self._read_members = codec.read_members
        self._encoder = msgspec.json.Encoder()

    def encode_into(self, buffer: bytearray, rows: Iterable[tuple[Any, ...]]) -> list[int]:
        """Append the items of rows of ITEM_COLUMNS to `buffer`, one line each. Returns where each line ends
        in it."""
        ends = []
        encode = self._encoder.encode
        for row in rows:
            line = encode(self._make_item(*row))
            buffer += line if line.isascii() else _escape_line_ends(line)
            buffer += b"\n"
            ends.append(len(buffer))
        return ends

    def _make_item(
        self,
        position: int,
        topic: str,
        stream: str,
        version: int,
        account: str,
        livemode: bool,
        recorded_at: float,
        request: str | None,
        causation: str | None,
        state: bytes,
    ) -> Item:
        unreadable: str | msgspec.UnsetType = msgspec.UNSET
        data: dict[str, Any] | msgspec.UnsetType
        events: list[PublicEventRef] | None
        try:
            events, data = self._read_content(topic, stream, version, recorded_at, state)
        except UnreadableRecord as error:
            unreadable, topic, events, data = error.reason.value, printable_topic(topic), None, msgspec.UNSET
        return Item(
            position, topic, stream, version, account, livemode, recorded_at, request, causation, events,
            data, unreadable,
        )  # fmt: skip

    def _read_content(
        self, topic: str, stream: str, version: int, recorded_at: float, state: bytes
    ) -> tuple[list[PublicEventRef], dict[str, Any]]:
        """The public Events of a record, and its data. Raises UnreadableRecord."""
        types = FIXED_EVENT_TYPES.get(topic)
        # As it is stored, where that says everything: to decode it would take half of the time of an item.
        if types is not None and (members := self._read_members(topic, state)) is not None:
            return [
                PublicEventRef(derive_ledger_event_id(stream, version, ordinal, recorded_at), event_type)
                for ordinal, event_type in enumerate(types)
            ], members
        event = self._decode(stream, version, topic, state)
        left_out = _LEFT_OUT[type(event)]
        return [
            PublicEventRef(derive_event_id(event, ordinal, recorded_at), event_type)
            for ordinal, event_type in enumerate(derive_public_event_types(event))
        ], {name: value for name, value in vars(event).items() if name not in left_out}
