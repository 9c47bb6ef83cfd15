"""What opens the sealed records of the log: whose key each needs, and what stays of those that are erased.

A record names its data subject before what is sealed. One that an earlier release stored names none: the key
of its stream, which was derived from the service key then, is in `ledger.stream_keys`, wrapped by the key of
its subject; until the migration of these keys has finished, it may still have to be derived.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ledger.keys.data_keys import Keyring, Source, fetch_from

Record = Sequence[Any]
"""Stream, version, topic and stored state of an event."""
Place = tuple[str, int]
"""Stream and version."""

_SEALED_MEMBER = b'"sealed":"'
_decode = msgspec.json.Decoder().decode

_SELECT_STREAM_KEYS = """
SELECT m.finished_at IS NULL, k.stream, k.subject, k.wrapped
FROM ledger.key_migration m LEFT JOIN ledger.stream_keys k ON k.stream = ANY (%(streams)s::text[])
"""
_SELECT_REMNANTS = """
SELECT r.stream, r.version, r.kept
FROM (SELECT unnest(%(streams)s::text[]) AS stream, unnest(%(versions)s::text[]::integer[]) AS version) w
JOIN ledger.remnants r ON r.stream = w.stream AND r.version = w.version
"""


class StreamKey(NamedTuple):
    """The key of a stream in which an earlier release sealed, wrapped by its subject's key. Without a subject
    it still has to be derived."""

    subject: str
    wrapped: bytes | None


class SealedRecords(NamedTuple):
    """Records with something sealed: by subject, and those that name none by stream."""

    by_subject: dict[str, list[Place]]
    by_stream: dict[str, list[Place]]

    def select(self, keyring: Keyring, stream_keys: Mapping[str, StreamKey]) -> list[Place]:
        """Those of erased subjects."""
        places = [place for subject in keyring.erased for place in self.by_subject.get(subject, ())]
        for stream, key in stream_keys.items():
            if keyring.is_erased(key.subject):
                places += self.by_stream[stream]
        return places


def find_sealed_records(records: Iterable[Record], personal_topics: Collection[str]) -> SealedRecords:
    """Those of the records in which something is sealed; `personal_topics` are those in which it may be."""
    found = SealedRecords({}, {})
    for stream, version, topic, state in records:
        if topic in personal_topics and (subject := find_sealed_subject(state)) is not None:
            by, name = (found.by_subject, subject) if subject else (found.by_stream, stream)
            by.setdefault(name, []).append((stream, version))
    return found


def find_sealed_subject(stored_state: bytes) -> str | None:
    """The data subject of what is sealed in an event: "" if it names none, as in earlier releases; None if
    nothing is sealed. It is found without decoding the event: `sealed` is the last text among its members."""
    start = stored_state.rfind(_SEALED_MEMBER)
    if start < 0:
        return None if b'"sealed"' not in stored_state else _decode_subject(stored_state)
    start += len(_SEALED_MEMBER)
    end = stored_state.find(b'"', start)
    sealed = stored_state[start:end]
    if b"\\" in sealed:
        return _decode_subject(stored_state)
    return sealed.rpartition(b":")[0].decode(errors="replace")


def _decode_subject(stored_state: bytes) -> str | None:
    """The same of an event that is written in another way."""
    try:
        sealed = _decode(stored_state)["sealed"]
    except (ValueError, TypeError, KeyError):
        return None
    return sealed.rpartition(":")[0] if isinstance(sealed, str) else None


async def fetch_stream_keys(source: Source, streams: list[str]) -> tuple[dict[str, StreamKey], bool]:
    """The kept keys of the streams, and whether keys that are not kept may still be derived."""
    rows = await fetch_from(source, _SELECT_STREAM_KEYS, {"streams": streams})
    kept = {row[1]: StreamKey(row[2], row[3]) for row in rows if row[1] is not None}
    return kept, rows[0][0]


async def fetch_remnants(source: Source, places: Sequence[Place]) -> dict[Place, bytes]:
    """What stays of erased events, as JSON, as far as it is stored."""
    bindings = {
        "streams": [stream for stream, _ in places],
        "versions": [str(version) for _, version in places],
    }
    rows = await fetch_from(source, _SELECT_REMNANTS, bindings)
    return {(stream, version): kept for stream, version, kept in rows}
