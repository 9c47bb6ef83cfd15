"""The aggregates that a batch of events is applied to: from a cache, else folded from the log.

An aggregate that cannot be folded costs its own stream: the failure is returned for that stream, to park it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import psycopg

from ledger.domain.aggregate import State
from ledger.errors import LedgerError
from ledger.logs import describe_error
from ledger.lru import LruCache
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec
from ledger.store.log import read_states_at


class UnreadableStream(LedgerError):
    """Stored events that this release cannot decode or fold. `str()` says why, without personal data."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(describe_error(cause))
        self.cause = cause


@contextmanager
def detect_unreadable() -> Iterator[None]:
    """Raises UnreadableStream instead of what reading a stream raises, unless the database failed."""
    try:
        yield
    except psycopg.Error:
        raise
    except Exception as error:
        raise UnreadableStream(error) from error


class AggregateCache:
    """The aggregates used most recently, at most `entries_max`.

    An aggregate of version n is what event n + 1 of its stream is applied to, whoever folded it and when:
    so an entry of the right version is always right.
    """

    def __init__(self, entries_max: int) -> None:
        self._states: LruCache[str, State] = LruCache(entries_max)

    def get(self, stream: str, version: int) -> State | None:
        """The aggregate at exactly this version; None when the cache has another one, or none."""
        state = self._states.get(stream)
        return state if state is not None and state.version == version else None

    def put(self, states: Mapping[str, State]) -> None:
        """Cache the aggregates, by stream, after a batch."""
        for stream, state in states.items():
            self._states.put(stream, state)


async def load_states(
    conn: Conn, codec: Codec, cache: AggregateCache, versions: Mapping[str, int], position: int
) -> tuple[dict[str, State], dict[str, Exception]]:
    """The aggregates as of `position`, and the errors of streams that cannot be folded; both by stream.

    `versions` holds, by stream, the version that the aggregate has at `position`; 0 for a stream that has no
    event by then, which is skipped. Raises psycopg.Error.
    """
    states: dict[str, State] = {}
    uncached: list[str] = []
    for stream, version in versions.items():
        if version:
            state = cache.get(stream, version)
            if state is None:
                uncached.append(stream)
            else:
                states[stream] = state
    if not uncached:
        return states, {}
    try:
        with detect_unreadable():
            return states | await read_states_at(conn, codec, uncached, position), {}
    except UnreadableStream:
        folded, errors = await _load_one_by_one(conn, codec, uncached, position)
        return states | folded, errors


async def _load_one_by_one(
    conn: Conn, codec: Codec, streams: Iterable[str], position: int
) -> tuple[dict[str, State], dict[str, Exception]]:
    states: dict[str, State] = {}
    errors: dict[str, Exception] = {}
    for stream in streams:
        try:
            with detect_unreadable():
                states |= await read_states_at(conn, codec, [stream], position)
        except UnreadableStream as error:
            errors[stream] = error.cause
    return states, errors
