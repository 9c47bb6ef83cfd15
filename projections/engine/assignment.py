"""Divides the projections among the runners: any number of processes that run the engine on one database.

This decides who works first, never who may write. The lock on a checkpoint decides that (README, invariant
5): with two runners on one projection, one writes and the other finds nothing to do. A mistake here
costs time, never rows. docs/operations.md, "How workers share the projections", is for operators.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from ledger.postgres.connections import Conn, fetch_all, fetch_one
from projections.engine.batch import GenerationKey

REFRESH_SECONDS = 0.5
TAKEOVER_SECONDS = 2.0

# The lowest slot that is free. Of two runners that try the same one, the second gets the next.
_ACQUIRE_SLOT = """
SELECT number FROM generate_series(0, 999) AS number
WHERE pg_try_advisory_lock(hashtext(%(lock)s), number) LIMIT 1
"""
_HELD_SLOTS = """
SELECT objid::integer FROM pg_locks
WHERE locktype = 'advisory' AND classid = (hashtext(%(lock)s)::bigint & 4294967295)::oid
AND objsubid = 2 AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1
"""
# A runner's connection holds no other advisory lock of two numbers (objsubid 2) than its slot.
_OTHER_RELEASES = """
SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
AND a.datname = current_database() AND a.application_name = 'ledger projections'
AND l.classid <> (hashtext(%(lock)s)::bigint & 4294967295)::oid LIMIT 1
"""


class WorkAssignment:
    """The projections of one runner, recomputed from the runners that are connected.

    Model. Every runner holds one slot: a numbered advisory lock, the lowest that was free when it connected.
    The slots held, in order, rank the runners 0 … n-1. Projection i of the sorted names belongs to the
    runner of rank i mod n, so the numbers that two runners have differ by at most one. Each runner reads
    the slots itself every REFRESH_SECONDS; nobody coordinates. Runners of one release share slots, those
    of another have their own: an earlier release leaves alone what a later one has built.

    States of a runner:
        no slot    just connected, or a thousand others run: every projection is its own
        slot held  its own are those of its rank, and any that has not moved for TAKEOVER_SECONDS while behind
        gone       the server released its slot with its connection; the others take over its projections

    Failure windows, from the failure until others apply its projections' events:
        killed, or its connection lost       REFRESH_SECONDS
        stopped or hung between two batches  TAKEOVER_SECONDS for each batch, until the server ends its
                                             connection (idle_session_timeout, 3 s); then as if killed
        stopped or hung within a batch       4 s (idle_in_transaction_session_timeout): its checkpoints are
                                             locked until then
        its host vanished                    about 30 s: TCP keepalives
        a runner joined or was closed        none; for REFRESH_SECONDS two may try the same projection
    """

    def __init__(self, shapes: Mapping[str, int]) -> None:
        """`shapes` of this release's projections, by name: they tell releases apart."""
        self._lock_parameters = {"lock": _lock_name(shapes)}
        self._slot: int | None = None
        self._backend_pid: int | None = None
        self._held_slots: list[int] = []
        self._refresh_at = 0.0
        self._last_progress: dict[GenerationKey, tuple[int, float]] = {}

    async def select_assigned(
        self,
        conn: Conn,
        projection_names: Iterable[str],
        lagging: Mapping[GenerationKey, int],
    ) -> dict[GenerationKey, int]:
        """Those of the generations that lag, each with its position, that this runner is to work on.

        `conn` is the runner's own and holds its slot. Raises psycopg.Error.
        """
        now = time.monotonic()
        if self._backend_pid != conn.info.backend_pid:
            self._slot, self._backend_pid, self._refresh_at = None, conn.info.backend_pid, 0.0
        if now >= self._refresh_at:
            await self._refresh(conn)
            self._refresh_at = now + REFRESH_SECONDS
        self._last_progress = {
            key: progress
            if (progress := self._last_progress.get(key)) and progress[0] == position
            else (position, now)
            for key, position in lagging.items()
        }
        if self._slot not in self._held_slots:
            return dict(lagging)
        rank = self._held_slots.index(self._slot)
        own_projections = set(sorted(projection_names)[rank :: len(self._held_slots)])
        return {
            key: position
            for key, position in lagging.items()
            if key.projection in own_projections or now - self._last_progress[key][1] > TAKEOVER_SECONDS
        }

    async def _refresh(self, conn: Conn) -> None:
        if self._slot is None:
            row = await fetch_one(conn, _ACQUIRE_SLOT, self._lock_parameters)
            self._slot = None if row is None else row[0]
        self._held_slots = [row[0] for row in await fetch_all(conn, _HELD_SLOTS, self._lock_parameters)]


async def count_runners(conn: Conn, shapes: Mapping[str, int]) -> int:
    """How many runners are connected whose projections' shapes are these. Raises psycopg.Error."""
    return len(await fetch_all(conn, _HELD_SLOTS, {"lock": _lock_name(shapes)}))


async def is_other_release_running(conn: Conn, shapes: Mapping[str, int]) -> bool:
    """Whether a runner is connected whose projections' shapes are not these. Raises psycopg.Error."""
    return (await conn.execute(_OTHER_RELEASES, {"lock": _lock_name(shapes)})).rowcount > 0


def _lock_name(shapes: Mapping[str, int]) -> str:
    """Hashed to the locks' first number, by every release alike: the text must never change."""
    return f"projections.seats {sorted(shapes.items())}"
