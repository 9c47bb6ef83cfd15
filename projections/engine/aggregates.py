"""The aggregates that a batch of events is applied to: from a cache, else folded from the log.

An aggregate that cannot be folded costs its own stream: the failure is returned for that stream, to park it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger.domain.aggregate import State
from ledger.errors import UnreadableRecord
from ledger.lru import LruCache
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec
from ledger.store.log import read_states_at


class AggregateCache:
    """The aggregates used most recently, at most `entries_max`. `forget_all` is for a log that has lost some
    of what they were folded from.

    An aggregate of version n is what event n + 1 of its stream is applied to, whoever folded it and when:
    so an entry of the right version is always right.
    """

    def __init__(self, entries_max: int) -> None:
        self._states: LruCache[str, State] = LruCache(entries_max)
        self._erasures = 0
        self.forget_all = self._states.clear

    def enter(self, erasures: int) -> None:
        """Forget the aggregates of an earlier erasure epoch than `erasures`."""
        if erasures > self._erasures:
            self._erasures = erasures
            self._states.clear()

    def get(self, stream: str, version: int) -> State | None:
        """The aggregate at exactly this version; None when the cache has another one, or none."""
        state = self._states.get(stream)
        return state if state is not None and state.version == version else None

    def put(self, states: Mapping[str, State], erasures: int) -> None:
        """Cache the aggregates, by stream, after a batch whose events were those of the epoch `erasures`."""
        if erasures != self._erasures:
            return
        for stream, state in states.items():
            self._states.put(stream, state)


async def load_states(
    conn: Conn, codec: Codec, cache: AggregateCache, versions: Mapping[str, int], position: int
) -> tuple[dict[str, State], dict[str, UnreadableRecord]]:
    """The aggregates as of `position`, and why others cannot be read; both by stream.

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
    folded, failures = await read_states_at(conn, codec, uncached, position)
    return states | folded, failures
