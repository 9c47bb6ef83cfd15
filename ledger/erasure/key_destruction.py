"""Destroys data keys, so that no page, no free space and no old snapshot of a table keeps a wrap.

A row that is deleted or updated stays in its page until something else takes its place. So a partition with
keys of an erasure is written anew, in one transaction: read, truncated, and copied back without their wraps.
The copy is frozen: transactions that began before see it too, and find the keys destroyed, not missing.
"""

from __future__ import annotations

import time

import psycopg
from psycopg.sql import SQL, Identifier

from ledger.erasure.records import WAIT, Erasure, Page, Place
from ledger.postgres.connections import Conn, fetch_one

LOCK_TIMEOUT_MS_MIN, LOCK_TIMEOUT_MS_MAX = 500, 2000
REST_FACTOR = 20
"""After an attempt that a reader stood in the way of, a process rests for so many times as long as that took.
Whoever needs a key waits behind an attempt, appends too; and a reader may be a backup, which takes hours."""

_OF_ERASURE = """
(k.subject = ANY (%(subjects)s::text[])
 OR (SELECT true FROM ledger.erasure_streams s WHERE s.job = %(job)s AND s.stream = k.subject))
"""
_NEXT_PARTITION = f"""
SELECT c.relname, count(*), count(k.wrapped)
FROM ledger.data_keys k JOIN pg_class c ON c.oid = k.tableoid
WHERE k.erasing_since IS NOT NULL AND k.destroyed_at IS NULL AND {_OF_ERASURE}
GROUP BY c.relname ORDER BY c.relname LIMIT 1
"""  # noqa: S608 (a constant)
# Two that have both read all partitions, and then each lock one, would wait for each other.
_LOCK_OUT_OTHERS = "SELECT pg_try_advisory_xact_lock(hashtext('ledger.erasures'), hashtext('keys'))"
_SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %(timeout)s, true)"
_LOCK = "LOCK TABLE {partition} IN ACCESS EXCLUSIVE MODE"
_MARK = f"""
UPDATE ledger.data_keys k SET wrapped = NULL, wrapped_by = NULL, destroyed_at = clock_timestamp()
WHERE k.erasing_since IS NOT NULL AND k.destroyed_at IS NULL AND k.tableoid = %(partition)s::regclass
AND {_OF_ERASURE}
"""  # noqa: S608 (a constant)
_READ = "COPY {partition} TO STDOUT (FORMAT BINARY)"
_TRUNCATE = "TRUNCATE {partition}"
_WRITE = "COPY {partition} FROM STDIN (FORMAT BINARY, FREEZE)"
# Their rows stay: they alone say whom an event that an earlier release has sealed belongs to.
_EMPTY_STREAM_KEYS = f"""
UPDATE ledger.stream_keys s SET wrapped = NULL FROM ledger.data_keys k
WHERE k.subject = s.subject AND ledger.key_group(k.subject) = ledger.key_group(s.subject)
AND k.destroyed_at IS NOT NULL AND s.wrapped IS NOT NULL AND {_OF_ERASURE}
"""  # noqa: S608 (a constant)
_RAISE_EPOCH = "SELECT ledger.begin_erasing('{}')"


class KeyDestruction:
    """Destroys the data keys of erasures."""

    def __init__(self, *, cache_seconds: float) -> None:
        self._cache_seconds = cache_seconds
        self._lock_timeout_ms = LOCK_TIMEOUT_MS_MIN
        self._rests_until = 0.0  # by the monotonic clock

    async def run_page(self, conn: Conn, erasure: Erasure) -> Page:
        """Destroy the keys in one partition, in the caller's transaction. After the last one every process
        forgets what it has decoded without remnants. Raises psycopg.Error, LockNotAvailable if a reader holds
        the partition."""
        if time.monotonic() < self._rests_until:
            return WAIT
        row = await fetch_one(conn, _LOCK_OUT_OTHERS)
        if row is None or not row[0]:
            return WAIT
        parameters = {"job": erasure.job, "subjects": erasure.subjects}
        row = await fetch_one(conn, _NEXT_PARTITION, parameters)
        if row is None:
            await conn.execute(_EMPTY_STREAM_KEYS, parameters)
            await conn.execute(_RAISE_EPOCH)
            return Page(cache_seconds=self._cache_seconds)
        name, subjects, wraps = row
        partition = Identifier("ledger", name)
        await self._lock(conn, partition)
        await conn.execute(_MARK, {**parameters, "partition": f"ledger.{name}"})
        await _write_anew(conn, partition)
        return Page(Place(name), {"data_keys": wraps, "subjects": subjects})

    async def _lock(self, conn: Conn, partition: Identifier) -> None:
        timeout_ms = self._lock_timeout_ms
        await conn.execute(_SET_LOCK_TIMEOUT, {"timeout": f"{timeout_ms}ms"})
        try:
            await conn.execute(SQL(_LOCK).format(partition=partition))
        except psycopg.errors.LockNotAvailable:
            self._rests_until = time.monotonic() + REST_FACTOR * timeout_ms / 1000
            self._lock_timeout_ms = min(2 * timeout_ms, LOCK_TIMEOUT_MS_MAX)
            raise
        self._lock_timeout_ms = LOCK_TIMEOUT_MS_MIN


async def _write_anew(conn: Conn, partition: Identifier) -> None:
    """Write a table anew that the transaction has locked: a file with what is in it, and nothing else. It is
    in memory meanwhile, some hundred bytes a subject of the partition."""
    async with conn.cursor() as cur:
        async with cur.copy(SQL(_READ).format(partition=partition)) as copy:
            pieces = [bytes(piece) async for piece in copy]
        await cur.execute(SQL(_TRUNCATE).format(partition=partition))
        async with cur.copy(SQL(_WRITE).format(partition=partition)) as copy:
            for piece in pieces:
                await copy.write(piece)
