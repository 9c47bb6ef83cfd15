"""The shares of a rebuild: each has a worker until it is done.

A worker that died, or stopped because the rebuild was paused for a moment, is replaced as long as there is
progress: what it has filled stays. When the database is lost the workers are stopped, for whoever takes the
rebuild up has others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ledger.postgres.connections import Conn, fetch_all

POLL_SECONDS = 1.0
BACKFILL_ATTEMPTS_MAX = 3

BackfillShard = Callable[[int, int], Coroutine[Any, Any, bool]]
"""Fill a share of a rebuild, in a process of its own; whether it is done. Raises BackfillFailed."""

_SELECT_UNFINISHED = """
SELECT s.share, s.stream, r.state = 'filling' AND NOT r.paused
FROM projections.shares s JOIN projections.rebuilds r ON r.id = s.rebuild
WHERE s.rebuild = %(rebuild)s AND NOT s.done ORDER BY s.share
"""


class BackfillFailed(Exception):
    """A worker gave up; `str()` says why, in one line without personal data."""


async def backfill_shards(conn: Conn, rebuild_id: int, backfill_shard: BackfillShard) -> bool:
    """See to it that all shares are filled; False when the rebuild was paused or cancelled and all workers
    have stopped. One share without hope does not stop the others.

    Raises BackfillFailed, and psycopg.OperationalError when the connection is lost.
    """
    tasks: dict[int, asyncio.Task[bool]] = {}
    last_progress: dict[int, tuple[str, int]] = {}
    failures: dict[int, BaseException] = {}
    try:
        while True:
            remaining = await fetch_all(conn, _SELECT_UNFINISHED, {"rebuild": rebuild_id})
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
                        failures[shard] = failure or BackfillFailed("it stopped before its share was done")
                        continue
                tasks[shard] = asyncio.create_task(backfill_shard(rebuild_id, shard), name=f"share {shard}")
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
