"""Takes erasures through their steps, page by page: what each page does commits with the place after it.

    closure → remnants → replies → keys → rows → answers → files → request_logs → exports → lease → complete
            → certificate → ended

Nothing of the subjects can be opened or sealed since the job was run; only the erasure opens it, until `keys`
has ended. What comes before makes what will be shown instead, and what comes after shows it. A page that is
lost with its process is done again by any other. A step that cannot go on says why, and is tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import psycopg
import structlog

from ledger.erasure.records import (
    WAIT,
    Erasure,
    Page,
    Step,
    list_unended,
    lock_erasure,
    note_obstacle,
    save_page,
)
from ledger.logs import describe_error
from ledger.postgres.connections import Conn, ReconnectingConnection, first_line
from ledger.postgres.sessions import Role

RunPage = Callable[[Conn, Erasure], Awaitable[Page]]
"""Does the next page of a step in the caller's transaction. Raises psycopg.Error; then nothing was done."""

log = structlog.get_logger()


class StepWork(NamedTuple):
    """How a step is done, and the role of the connection that it needs."""

    run_page: RunPage
    role: Role = "ledger_api"


class ErasureJob:
    """Does the work of erasures for one process. `connections` are by role, and used by nobody else."""

    def __init__(
        self, steps: Mapping[Step, StepWork], connections: Mapping[Role, ReconnectingConnection]
    ) -> None:
        self._steps = steps
        self._connections = connections

    async def advance(self, should_end: Callable[[], bool]) -> bool:
        """Do what there is to do of all erasures, until `should_end`. Returns whether any has not ended.
        Raises what the first that failed has raised, after the others; what was committed stays."""
        async with self._connections["ledger_api"] as conn:
            erasures = await list_unended(conn)
        failure: Exception | None = None
        for erasure in erasures:
            step: Step | None = erasure.step
            try:
                while step is not None and step is not Step.ENDED and not should_end():
                    step = await self._run_page(erasure.job, step)
            except Exception as error:
                failure = failure or error
                await self._note_obstacle(erasure.job, f"it failed: {describe_error(error)}")
        if failure is not None:
            raise failure
        return bool(erasures)

    async def _run_page(self, job: str, step: Step) -> Step | None:
        """One page of the step. Returns the step to go on with; None when it has to wait, or another process
        is at work."""
        work = self._steps[step]
        async with self._connections[work.role] as conn:
            try:
                async with conn.transaction():
                    erasure = await lock_erasure(conn, job, step)
                    if erasure is None:
                        return None
                    page = await work.run_page(conn, erasure)
                    if page is WAIT:
                        return None
                    next_step = await save_page(conn, erasure, page)
            except psycopg.errors.LockNotAvailable as error:
                page = Page(obstacle=f"another session holds a lock: {first_line(error)}")
        if page.obstacle is not None:
            await self._note_obstacle(job, page.obstacle)
            return None
        if next_step is not step:
            log.info("erasure_step_done", job=job, step=step)
        return next_step

    async def _note_obstacle(self, job: str, obstacle: str) -> None:
        """Say why it does not move, for operators: once for each reason."""
        async with self._connections["ledger_api"] as conn:
            if await note_obstacle(conn, job, obstacle):
                log.warning("erasure_waits", job=job, reason=obstacle)
