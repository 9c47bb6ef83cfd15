"""What a process knows of erasures: how many there were, and until when it may rely on knowing.

Every erasure raises the epoch, a number in the database. A process that sees it rise forgets what may have
been erased. It uses what it has cached for LEASE_SECONDS after it last saw the epoch, and no longer: so who
has waited for so long after an erasure knows that no process uses anything of before it, not even one that
was stopped, or cut off from the database. Batches and appends compare the epoch in their transaction.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import TypeVar

from ledger.background import BackgroundLoop
from ledger.lru import Key, LruCache
from ledger.postgres.connections import Conn, fetch_all
from ledger.postgres.pipelines import BoundStatement
from ledger.postgres.statements import StatementPool, parse_statement

LEASE_SECONDS = 2.0
POLL_SECONDS = 0.5
CHANNEL = "ledger_erasures"
"""Each erasure is announced here, with the epoch; a process that does not listen polls."""

SEALED_BY_SUBJECT_SINCE_EPOCH = 1
"""From this epoch on events are sealed under the keys of their subjects; before, in the older form."""

_SELECT_EPOCH = "SELECT epoch FROM ledger.erasure_epoch"
_LOCK_IN_BATCH = "SELECT pg_advisory_xact_lock_shared(hashtext('ledger.erasure'))::text"
_LOCK_AFTER_BATCHES = "SELECT pg_advisory_xact_lock(hashtext('ledger.erasure'))::text"

Value = TypeVar("Value")


class ErasureWatch:
    """The erasure epoch that one process has seen. `on_erasure` are called when it rises: to forget what may
    have been erased, or to go on with the erasure."""

    def __init__(self) -> None:
        self.epoch = 0
        self.is_known = False
        self._resets = 0
        self.on_erasure: list[Callable[[], None]] = []
        self._held_until = 0.0
        self._source: StatementPool | None = None
        self._has_looked = asyncio.Event()
        self._loop = BackgroundLoop("erasures", self._poll, close_timeout_seconds=0)

    @property
    def is_held(self) -> bool:
        """Whether this process may use what it has cached: it has seen the epoch a moment ago."""
        return time.monotonic() < self._held_until

    @property
    def seals_by_subject(self) -> bool:
        """Whether every release that may run reads events sealed under the keys of subjects."""
        return self.epoch >= SEALED_BY_SUBJECT_SINCE_EPOCH

    async def start(self, source: StatementPool) -> None:
        """Begin to poll. Returns after the first look: the epoch is known then, or the database cannot be
        used for now. `wake` makes it look at once."""
        self._source = source
        await self._loop.start()
        await self._has_looked.wait()

    async def close(self) -> None:
        """Stop polling. The source remains the caller's."""
        await self._loop.close()

    def wake(self) -> None:
        """Look at the epoch now: an erasure was announced."""
        self._loop.wake()

    def observe(self, epoch: int, *, asked_at: float) -> None:
        """Note the epoch as it was on the primary, or was still, when it was asked for: `asked_at` by the
        monotonic clock. A higher one than before makes the process forget."""
        self.note(epoch)
        if epoch == self.epoch:
            self._held_until = max(self._held_until, asked_at + LEASE_SECONDS)

    def note(self, epoch: int) -> None:
        """Note an epoch that there was, wherever it was seen: on a standby, in an older snapshot."""
        if epoch > self.epoch or not self.is_known:
            self.epoch, self.is_known = max(epoch, self.epoch), True
            for act in self.on_erasure:
                act()

    def forget(self) -> None:
        """Begin anew: another server is the primary now, and may lack the last erasures."""
        self.epoch, self.is_known, self._held_until = 0, False, 0.0
        self._resets += 1
        for act in self.on_erasure:
            act()

    def track_resets(self) -> Callable[[], bool]:
        """Says, when called, whether another server became the primary after this: what was cached or read
        before may never have been in its database."""
        before = self._resets
        return lambda: self._resets != before

    async def look(self, source: Conn | StatementPool) -> int:
        """The epoch as it is now. On a standby it may be an earlier one. Raises what reading raises."""
        asked_at = time.monotonic()
        if isinstance(source, StatementPool):
            rows = await source.fetch(parse_statement(_SELECT_EPOCH), {}, once_seconds=LEASE_SECONDS)
        else:
            rows = await fetch_all(source, _SELECT_EPOCH)
        self.observe(rows[0][0], asked_at=asked_at)
        return self.epoch

    async def hold(self, conn: Conn) -> int:
        """The epoch that the transaction under way goes by, as with HOLD_EPOCH. Raises psycopg.Error."""
        await conn.execute(_LOCK_IN_BATCH)
        return await self.look(conn)

    async def _poll(self) -> float:
        assert self._source is not None
        try:
            await self.look(self._source)
        finally:
            self._has_looked.set()
        return POLL_SECONDS


class LeasedCache(LruCache[Key, Value]):
    """An LruCache of what an erasure may concern: it is cleared when the epoch rises, and gives nothing while
    its process may have missed that."""

    __slots__ = ("_watch",)

    def __init__(self, entries_max: int, watch: ErasureWatch) -> None:
        super().__init__(entries_max)
        self._watch = watch
        watch.on_erasure.append(self.clear)

    def get(self, key: Key) -> Value | None:
        """The value cached under `key`; None when there is none, or the process may have missed an
        erasure."""
        return super().get(key) if self._watch.is_held else None

    def get_all(self, keys: Collection[Key]) -> dict[Key, Value] | None:
        """The values cached under all these keys; None when one is missing, as `get` would say."""
        if not self._watch.is_held:
            return None
        values: dict[Key, Value] = {}
        get = super().get
        for key in keys:
            value = get(key)
            if value is None:
                return None
            values[key] = value
        return values


SELECT_EPOCH = BoundStatement(_SELECT_EPOCH.encode())
HOLD_EPOCH = (BoundStatement(_LOCK_IN_BATCH.encode()), SELECT_EPOCH)
"""The first statements of a transaction that writes what it decodes. It goes by the epoch in the row of the
second, and erasures that begin later wait for its end. Two statements: the second sees what the first has
waited for."""


async def wait_for_batches(conn: Conn) -> None:
    """Wait until every transaction that goes by an earlier epoch has ended. In a transaction of its own.
    Raises psycopg.Error."""
    async with conn.transaction():
        await conn.execute(_LOCK_AFTER_BATCHES)
