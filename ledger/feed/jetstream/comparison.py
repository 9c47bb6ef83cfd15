"""Compare a stream with the log: its rules, its end, its messages.

Who publishes at a position has found the message before it to be the log's, and so did all before: so of a
stream that only publishers write to, the messages under way at one time are the only ones that can be wrong.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ledger.errors import SettingError
from ledger.feed.jetstream.connection import NatsUnavailable
from ledger.feed.jetstream.messages import is_same_event
from ledger.feed.jetstream.stream import Stream, StreamInfo
from ledger.feed.jetstream.window import IN_FLIGHT_MAX
from ledger.feed.source import LogSource
from ledger.logs import OwnWords

COMPARED_AT_ONCE = 256

# What would let a message stand at another sequence than its position, or let one vanish between others.
_RULES = {
    "retention": "limits",
    "max_msgs_per_subject": -1,
    "no_ack": False,
    "sealed": False,
    "deny_delete": True,
    "deny_purge": True,
    "allow_rollup_hdrs": False,
    "mirror": None,
    "sources": None,
    "subject_transform": None,
}
_UNSET: dict[str, Any] = {
    "max_msgs_per_subject": -1,
    "mirror": None,
    "sources": None,
    "subject_transform": None,
}


class StreamConflict(SettingError, OwnWords):
    """The stream is not what the log says, and no publisher can change that: an operator decides."""


class Difference(NamedTuple):
    """The first message that is not what the log has at its position, or is not there."""

    position: int
    is_missing: bool


def make_config(prefix: str, replicas: int) -> dict[str, Any]:
    """The configuration of a new stream. Operators may set limits of age and size later."""
    return {
        "description": "The feed of the ledger: the sequence of a message is its position in the log.",
        "subjects": [f"{prefix}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": replicas,
        "max_msgs_per_subject": -1,
        "deny_delete": True,
        "deny_purge": True,
    }


def check_config(name: str, config: dict[str, Any], prefix: str) -> None:
    """Raises StreamConflict for a configuration with which a sequence may not be a position."""
    subjects = config.get("subjects") or []
    if subjects != [f"{prefix}.>"]:
        raise StreamConflict(
            f"stream {name} has the subjects {', '.join(subjects) or '(none)'}; it must have {prefix}.> alone"
        )
    for setting, wanted in _RULES.items():
        value = config.get(setting, _UNSET.get(setting, False))
        if value != wanted:
            raise StreamConflict(
                f"stream {name} has the setting {setting} {_show(value)}; it must be {_show(wanted)}, so "
                "that every message keeps the sequence that is its position"
            )


async def find_place(stream: Stream, source: LogSource, prefix: str) -> int:
    """The last position that the stream has, once its end is known to be the log's. Raises NatsUnavailable
    and StreamConflict."""
    info = await read_checked(stream, prefix)
    last = info.state.last_seq
    head = (await source.read_head()).position
    if last > head:
        raise StreamConflict(
            f"stream {stream.name} has position {last}, and the log ends at {head}: the log was restored "
            "from a backup, or is another one. To make the stream again: ledger feed repair"
        )
    first = max(info.state.begins_at, last - IN_FLIGHT_MAX + 1)
    difference = await find_difference(stream, source, first, last)
    if difference is not None:
        raise StreamConflict(describe_difference(stream.name, difference))
    return last


async def read_checked(stream: Stream, prefix: str) -> StreamInfo:
    """The stream, whose configuration is right and from which nothing was deleted. Raises as `find_place`."""
    info = await stream.read()
    if info is None:
        raise NatsUnavailable(f"there is no stream {stream.name}; ledger feed publish makes it")
    check_config(stream.name, info.config, prefix)
    if info.state.num_deleted:
        raise StreamConflict(
            f"{info.state.num_deleted} messages were deleted from stream {stream.name}. To make it again: "
            "ledger feed repair"
        )
    return info


async def find_difference(stream: Stream, source: LogSource, first: int, last: int) -> Difference | None:
    """The first message from `first` to `last` that is not the log's; None when all are. What retention has
    dropped meanwhile is not missing. Raises NatsUnavailable."""
    for after in range(first - 1, last, COMPARED_AT_ONCE):
        upto = min(last, after + COMPARED_AT_ONCE)
        bodies = await source.read(after, upto)
        stored = await stream.read_messages(after + 1, upto)
        for position, (message, body) in enumerate(zip(stored, bodies, strict=True), start=after + 1):
            if message is None:
                info = await stream.read()
                if info is None or position >= info.state.begins_at:
                    return Difference(position, is_missing=True)
            elif not is_same_event(message.data, body):
                return Difference(position, is_missing=False)
    return None


def describe_difference(name: str, difference: Difference) -> str:
    """One line that names the position and what can be done."""
    what = (
        "is missing"
        if difference.is_missing
        else "is not this ledger's event at that position: something else has published it, or the log was "
        "restored from a backup since"
    )
    return (
        f"message {difference.position} of stream {name} {what}. To make the stream again: ledger feed repair"
    )


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "unset" if value is None else str(value)
