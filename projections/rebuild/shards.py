"""The shards of a rebuild: one backfill process for each, until every shard is done.

A process that died, or stopped because the rebuild was paused for a moment, is started again as long as there
is progress: the pages it committed stay. When the database connection is lost all processes are stopped: the
next driver starts its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ledger.postgres.connections import Conn, fetch_all
from projections.rebuild.states import RebuildState

POLL_SECONDS = 1.0
BACKFILL_ATTEMPTS_MAX = 3

BackfillShard = Callable[[int, int], Coroutine[Any, Any, bool]]
"""Backfill a shard (rebuild number, shard number) in a process of its own; False when it stopped before the
shard was done. Raises BackfillFailed."""

_SELECT_UNFINISHED = """
SELECT s.share, s.stream, r.state = %(backfilling)s AND NOT r.paused
FROM projections.shares s JOIN projections.rebuilds r ON r.id = s.rebuild
WHERE s.rebuild = %(rebuild)s AND NOT s.done ORDER BY s.share
"""


_STOPPED_EARLY = "the backfill process stopped before its shard was done"


class BackfillFailed(Exception):
    """A backfill process failed; `str()` says why, in one line without personal data."""


async def backfill_shards(conn: Conn, rebuild_id: int, backfill_shard: BackfillShard) -> bool:
    """Run a backfill process for each shard until all are done; False when the rebuild was paused or
    cancelled and all processes have stopped. A shard that keeps failing does not stop the others.

    Raises BackfillFailed, and psycopg.OperationalError when the connection is lost.
    """
    parameters = {"rebuild": rebuild_id, "backfilling": RebuildState.BACKFILLING}
    tasks: dict[int, asyncio.Task[bool]] = {}
    last_progress: dict[int, tuple[str, int]] = {}
    failures: dict[int, BaseException] = {}
    try:
        while True:
            remaining = await fetch_all(conn, _SELECT_UNFINISHED, parameters)
            if not remaining:
                return True
            for shard, stream, is_running in remaining:
                task = tasks.get(shard)
                if shard in failures or not is_running or (task is not None and not task.done()):
                    continue
                if task is not None:
                    last_stream, attempts = last_progress.get(shard, (None, 0))
                    last_progress[shard] = stream, attempts + 1 if stream == last_stream else 1
                    failure = task.exception()
                    out_of_attempts = last_progress[shard][1] == BACKFILL_ATTEMPTS_MAX
                    if out_of_attempts or not isinstance(failure, BackfillFailed | None):
                        failures[shard] = failure or BackfillFailed(_STOPPED_EARLY)
                        continue
                tasks[shard] = asyncio.create_task(backfill_shard(rebuild_id, shard), name=f"shard {shard}")
            running_tasks = [task for task in tasks.values() if not task.done()]
            if not running_tasks:
                for failure in failures.values():
                    raise failure
                return False
            await asyncio.wait(running_tasks, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
