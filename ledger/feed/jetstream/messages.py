"""What a message of the stream is, made from an item of the feed. Pure.

Its body is the item, byte for byte. Its subject has what consumers choose by, and its headers what they need
without decoding the body; `Nats-Expected-Last-Sequence` lets the stream take it only at its position.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import msgspec

POSITION_HEADER = "Ledger-Position"
OBJECT_HEADER = "Ledger-Object"
_HEADERS_BEGIN = b"NATS/1.0\r\n"
_NO_TOKEN = re.compile(r"[^0-9A-Za-z_-]")


class Identity(msgspec.Struct, frozen=True, gc=False):
    """What tells one event from all others, whatever a later release adds to items."""

    position: int
    type: str
    object: str
    version: int
    account: str
    livemode: bool
    recorded_at: float


class Message(NamedTuple):
    """A message to be published."""

    position: int
    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def size(self) -> int:
        """Its bytes as NATS counts them: with its headers."""
        lines = sum(len(name.encode()) + len(value.encode()) + 4 for name, value in self.headers.items())
        return len(self.body) + len(_HEADERS_BEGIN) + lines + 2


_decode = msgspec.json.Decoder(Identity).decode


def decode_identity(body: bytes) -> Identity:
    """The identity of an item. Raises msgspec.MsgspecError and UnicodeDecodeError for bytes that are none."""
    return _decode(body)


def make_message(stream: str, prefix: str, body: bytes) -> Message:
    """The message of an item, which only the stream of this name takes, and only at its position."""
    item = _decode(body)
    headers = {
        "Nats-Expected-Stream": stream,
        "Nats-Expected-Last-Sequence": str(item.position - 1),
        POSITION_HEADER: str(item.position),
        OBJECT_HEADER: item.object,
    }
    return Message(item.position, make_subject(prefix, item.account, item.livemode, item.type), headers, body)


@lru_cache(maxsize=4096)
def make_subject(prefix: str, account: str, livemode: bool, event_type: str) -> str:
    """`prefix.account.live|test.type`. The stored type of a record that cannot be read may be any text: what
    cannot be in a subject becomes `_`."""
    parts = (account, "live" if livemode else "test", *event_type.split("."))
    return ".".join((prefix, *(_NO_TOKEN.sub("_", part) or "_" for part in parts)))


def is_same_event(stored: bytes, body: bytes) -> bool:
    """Whether a stored message is of the event whose item is `body` now: the same bytes, or those of another
    release, which may have rendered it otherwise."""
    if stored == body:
        return True
    try:
        return _decode(stored) == _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
