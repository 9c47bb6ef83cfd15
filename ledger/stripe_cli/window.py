"""Messages that are sent to a listener and not acknowledged yet: bounded, and what they say of its cursor.

No I/O: the caller says what time it is (seconds of any one clock).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

MESSAGES_MAX = 256
BYTES_MAX = 8 * 1024 * 1024
"""A message that is larger is sent alone."""
ACKNOWLEDGED_MAX = 512
"""Messages that are acknowledged before an earlier one of the log is."""
ACK_SECONDS_MAX = 60.0
"""How long a message waits for its acknowledgement, while the listener is connected and answers pings."""
_LOG_KEY = re.compile(r"([0-9]{1,18})\.[0-9]{1,9}\.[a-z]{1,16}")


class _Sent(NamedTuple):
    position: int | None
    size: int
    sent_at: float


class Window:
    """The window of one connection. `position` and `acknowledged` are where the session's cursor is.

    A message has a key. One that belongs to a position of the log holds back the cursor there; any other one
    (its position is None) does not.
    """

    def __init__(self, position: int, acknowledged: Collection[str]) -> None:
        self._read_position = position
        self._acknowledged = {key: parse_position(key) for key in acknowledged}
        self._sent: dict[str, _Sent] = {}
        self._bytes = 0

    @property
    def read_position(self) -> int:
        """All messages up to this position of the log have been added."""
        return self._read_position

    @property
    def has_room(self) -> bool:
        """Whether another message may be sent."""
        if not self._sent:
            return True
        return (
            len(self._sent) < MESSAGES_MAX
            and self._bytes < BYTES_MAX
            and len(self._acknowledged) < ACKNOWLEDGED_MAX
        )

    @property
    def position(self) -> int:
        """Everything up to this position of the log is acknowledged."""
        first = next((sent.position for sent in self._sent.values() if sent.position is not None), None)
        return self._read_position if first is None else first - 1

    @property
    def acknowledged(self) -> list[str]:
        """The keys of messages after `position` that are acknowledged all the same."""
        self._forget_passed()
        return list(self._acknowledged)

    def is_known(self, key: str) -> bool:
        """Whether this connection has sent the message already, or an earlier one and it was acknowledged."""
        return key in self._sent or key in self._acknowledged

    def add(self, key: str, position: int | None, size: int, sent_at: float) -> None:
        """Add a message that is being sent; those of the log in its order."""
        self._sent[key] = _Sent(position, size, sent_at)
        self._bytes += size

    def advance(self, position: int) -> None:
        """All messages up to `position` of the log have been added."""
        self._read_position = max(self._read_position, position)

    def acknowledge(self, key: str) -> bool:
        """Take out an acknowledged message; False if it is not in the window. One of an earlier connection
        may be sent again already, or is still to be."""
        sent = self._sent.pop(key, None)
        if sent is not None:
            self._bytes -= sent.size
        position = parse_position(key) if sent is None else sent.position
        if position is not None and position > self.position:
            if len(self._acknowledged) >= ACKNOWLEDGED_MAX:
                self._forget_passed()
            if sent is not None or len(self._acknowledged) < ACKNOWLEDGED_MAX:
                self._acknowledged[key] = position
        return sent is not None

    def take_overdue(self, now: float) -> list[str]:
        """Take out the messages that were not acknowledged in time; returns their keys. A listener that does
        not acknowledge a message would otherwise get no more after a while."""
        overdue = [key for key, sent in self._sent.items() if now - sent.sent_at > ACK_SECONDS_MAX]
        for key in overdue:
            self._bytes -= self._sent.pop(key).size
        return overdue

    def _forget_passed(self) -> None:
        position = self.position
        self._acknowledged = {key: at for key, at in self._acknowledged.items() if at > position}


def make_key(position: int, ordinal: int, rendering: str) -> str:
    """The key of a message with an Event of the log."""
    return f"{position}.{ordinal}.{rendering}"


def parse_position(key: str) -> int:
    """The position in a key that `make_key` may have made; 0 for any other key."""
    found = _LOG_KEY.fullmatch(key)
    return 0 if found is None else int(found[1])
