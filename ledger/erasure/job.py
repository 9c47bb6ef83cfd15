"""Takes erasures through their steps, page by page: what each page does commits with the place after it.

    closure → remnants → replies → keys → rows → answers → files → request_logs → exports → lease → complete
            → certificate → ended

Nothing of the subjects can be opened or sealed since the job was run; only the erasure opens it, until `keys`
has ended. What comes before makes what will be shown instead, and what comes after shows it. A page that is
lost with its process is done again by any other. A step that cannot go on says why, and is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

import psycopg
import structlog

from ledger.erasure.records import (
    WAIT,
    Erasure,
    Page,
    Place,
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


class Reading(Protocol):
    """What a page needs of the database before it is written."""

    @property
    def next_place(self) -> Place | None:
        """Where the next page begins; None: there was nothing to read."""


PageReading = TypeVar("PageReading", bound=Reading)


class ReadStep(Protocol[PageReading]):
    """A step whose pages are read and written separately: what is read of one page does not depend on what is
    written for the page before it. Both methods raise psycopg.Error."""

    async def read_page(self, conn: Conn, erasure: Erasure) -> PageReading:
        """Read the next page."""

    async def write_page(self, conn: Conn, erasure: Erasure, reading: PageReading) -> Page:
        """Do the page that was read, in the caller's transaction."""


class ReadAhead(Generic[PageReading]):
    """Runs the pages of a step, and reads each while the database writes the one before it.

    `connection` is for that alone. What was read ahead is used for the very page that follows, on the same
    connection as the page before: whatever happens in between, the page is read again.
    """

    def __init__(self, step: ReadStep[PageReading], connection: ReconnectingConnection) -> None:
        self._step = step
        self._connection = connection
        self._expected: tuple[Conn, str, Place] | None = None
        self._task: asyncio.Task[PageReading] | None = None

    async def run_page(self, conn: Conn, erasure: Erasure) -> Page:
        """The next page, in the caller's transaction. Raises psycopg.Error."""
        reading = await self._take(conn, erasure)
        if reading is None:
            reading = await self._step.read_page(conn, erasure)
        if reading.next_place is None:
            return Page()
        self._start(conn, erasure._replace(place=reading.next_place))
        try:
            return await self._step.write_page(conn, erasure, reading)
        except BaseException:
            await self.drop()
            raise

    async def drop(self) -> None:
        """Forget what was read ahead, or is being read."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _start(self, conn: Conn, erasure: Erasure) -> None:
        self._expected = (conn, erasure.job, erasure.place)
        self._task = asyncio.create_task(self._read(erasure), name="erasures read-ahead")

    async def _take(self, conn: Conn, erasure: Erasure) -> PageReading | None:
        if self._task is None or self._expected != (conn, erasure.job, erasure.place):
            await self.drop()
            return None
        task, self._task = self._task, None
        try:
            return await task
        except Exception:  # whatever it is: it happens again to the page itself, or is gone
            return None

    async def _read(self, erasure: Erasure) -> PageReading:
        async with self._connection as conn:
            return await self._step.read_page(conn, erasure)


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
