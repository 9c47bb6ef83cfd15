"""The shares of a rebuild: each has a worker until it is done.

A worker that died, or stopped because the rebuild was paused for a moment, is replaced as long as there is
progress: what it has filled stays. When the database is lost the workers are stopped, for whoever takes the
rebuild up has others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

LOOK_SECONDS = 1.0
FILL_ATTEMPTS_MAX = 3

Fill = Callable[[int, int], Coroutine[Any, Any, bool]]
"""Fill a share of a rebuild, in a process of its own; whether it is done. Raises FillFailed."""

_LEFT = """
SELECT s.share, s.stream, r.state = 'filling' AND NOT r.paused
FROM projections.shares s JOIN projections.rebuilds r ON r.id = s.rebuild
WHERE s.rebuild = %(rebuild)s AND NOT s.done ORDER BY s.share
"""


class FillFailed(Exception):
    """A worker gave up; `str()` says why, in one line without personal data."""


async def filled(conn: AsyncConnection[TupleRow], rebuild: int, fill: Fill) -> bool:
    """See to it that all shares are filled; False when the rebuild was paused or cancelled and all workers
    have stopped. One share without hope does not stop the others.

    Raises FillFailed, and psycopg.OperationalError when the connection is lost.
    """
    workers: dict[int, asyncio.Task[bool]] = {}
    stood: dict[int, tuple[str, int]] = {}
    given_up: dict[int, BaseException] = {}
    try:
        while True:
            left = await (await conn.execute(_LEFT, {"rebuild": rebuild})).fetchall()
            if not left:
                return True
            for share, stream, goes_on in left:
                worker = workers.get(share)
                if share in given_up or not goes_on or (worker is not None and not worker.done()):
                    continue
                if worker is not None:
                    before, attempts = stood.get(share, (None, 0))
                    stood[share] = stream, attempts + 1 if stream == before else 1
                    failure = worker.exception()
                    hopeless = stood[share][1] == FILL_ATTEMPTS_MAX
                    if hopeless or not isinstance(failure, FillFailed | None):
                        given_up[share] = failure or FillFailed("it stopped before its share was done")
                        continue
                workers[share] = asyncio.create_task(fill(rebuild, share), name=f"share {share}")
            at_work = [worker for worker in workers.values() if not worker.done()]
            if not at_work:
                for failure in given_up.values():
                    raise failure
                return False
            await asyncio.wait(at_work, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for worker in workers.values():
            worker.cancel()
        await asyncio.gather(*workers.values(), return_exceptions=True)
