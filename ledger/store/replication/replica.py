"""Reads from a replica that are as new as reads from the primary, for one process.

A read asks the primary for the last position of the log, and the replica for the rest. The replica's answer
counts only if it has all that was in the log by then; otherwise, and when it fails, the caller asks the
primary. A replica that fails or is behind is not asked until a look at it, in the background, finds it in
order. Each look compares its log with the primary's: that of a server that was not rewound after a failover
may end differently.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import psycopg
import structlog
from psycopg.rows import TupleRow

from ledger.background import BackgroundLoop
from ledger.errors import DamagedTree, Unavailable
from ledger.metrics.backlogs import ReplicaStatus
from ledger.postgres.connections import (
    READ_PLANNER_SETTINGS,
    SNAPSHOT_FIRST,
    Conn,
    Pool,
    Query,
    ReconnectingConnection,
    fetch_one,
)
from ledger.postgres.statements import Statement, StatementPool, parse_statement
from ledger.store.batching import BatchQueue, Pending

REPLICA_WAIT_SECONDS = 0.02
"""How long a read waits for a replica that is a moment behind, before the primary answers."""
ANSWER_SECONDS = 2.0
"""How long a read waits for the replica's answer, before the primary is asked for it."""
CONNECT_SECONDS = 0.5
"""How long it waits for a connection to the replica, of that."""
POLL_SECONDS = 0.003
LOOK_SECONDS = 1.0
BEHIND_LOOK_SECONDS = 0.2
HEAD_READS_MAX = 10_000
PAGE_CONNECTIONS_MAX = 8

Outcome = Literal["answered", "behind", "conflict", "failed", "not_asked"]
"""How a read that a replica may answer went: the primary has answered all but the first kind."""
# A replica cancels what stands in the way of its replay, and what the replay would wait for in a circle:
# nothing is wrong with it.
_CONFLICT_SQLSTATES = ("40001", "40P01")

_READ_HEAD = "SELECT position FROM ledger.head"
_HEAD = parse_statement(_READ_HEAD)
# What a record at a position is known by: none of another history has the same.
_RECORD = """
SELECT e.originator_id || ' ' || e.originator_version || ' ' || extract(epoch FROM e.recorded_at)
FROM ledger.events e WHERE e.notification_id = """
_LOOK_AT_REPLICA = parse_statement(f"""
SELECT h.position, ({_RECORD} h.position), ledger.this_database()::text FROM ledger.head h
""")  # noqa: S608 (a constant)
_LOOK_AT_PRIMARY = parse_statement(f"""
SELECT h.position, ({_RECORD} %(position)s), ledger.this_database()::text,
       coalesce(extract(epoch FROM now() - (SELECT e.recorded_at FROM ledger.events e
                                            WHERE e.notification_id = %(position)s + 1)), 0)::float8
FROM ledger.head h
""")  # noqa: S608

# A statement that was prepared on a connection is not there, or another is: the session was another one.
_LENT_SQLSTATES = ("26000", "42P05")
_LENT = (
    "LEDGER_REPLICA_URL leads to a pooler that lends a session for one transaction: let it lend one for a "
    "whole connection, and restart this process"
)
_OTHER_DATABASE = "LEDGER_REPLICA_URL leads to a server that is no streaming replica of this database"
_OTHER_HISTORY = "its log differs from the primary's: make it anew, or rewind it"

Result = TypeVar("Result")

log = structlog.get_logger()


class Answer(NamedTuple):
    """What a replica has answered."""

    result: Any


class Replica:
    """The replica of one process, which `url` leads to, whichever of several servers that is. It is asked
    after `start`, once a look at it has found it in order.

    on_read  is called with the outcome of each read
    """

    def __init__(self, url: str, dsn: str) -> None:
        self.on_read: Callable[[Outcome], None] = lambda outcome: None
        self._status = ReplicaStatus()
        self._pages = StatementPool(
            url,
            "ledger_api",
            name="replica pages",
            settings=READ_PLANNER_SETTINGS | SNAPSHOT_FIRST,
            connections_max=PAGE_CONNECTIONS_MAX,
            may_be_standby=True,
        )
        self._pool = Pool(url, name="replica reads", may_be_standby=True)
        self._looks = StatementPool(
            url,
            "ledger_api",
            name="replica look",
            settings=READ_PLANNER_SETTINGS,
            connections_max=1,
            may_be_standby=True,
        )
        self._primary = StatementPool(
            dsn, "ledger_api", name="replica head", settings=READ_PLANNER_SETTINGS, connections_max=2
        )
        self._heads: BatchQueue[None, int] = BatchQueue(
            self._read_head, batch_max=HEAD_READS_MAX, queue_max=HEAD_READS_MAX
        )
        self._loop = BackgroundLoop("replica", self._look, close_timeout_seconds=0)
        self._looked = asyncio.Event()
        self._needed_position = 0
        self._is_lent = False
        self._logged: str | None = None

    async def start(self) -> None:
        """Begin to look at the replica. Needs neither server."""
        self._heads.start("replica heads")
        await self._pool.open()
        await self._loop.start()

    async def wait_looked(self) -> None:
        """Wait for the first look: for a command, which has no time to wait for the next one."""
        await self._looked.wait()

    async def close(self) -> None:
        """End, and close all connections."""
        await self._loop.close()
        await self._heads.close()
        await self._pool.close()
        for statements in (self._pages, self._looks, self._primary):
            await statements.close()

    @property
    def is_used(self) -> bool:
        """Whether the replica was in order when it was last asked or looked at."""
        return self._status.is_used

    def get_status(self) -> ReplicaStatus:
        """How it was at the last look; it is not asked any more once a read of it has failed."""
        return self._status

    def read_head(self) -> asyncio.Future[int]:
        """The last position that the log on the primary has now: who asks together shares one statement.
        Raises Unavailable."""
        return self._heads.submit(None)

    async def fetch(self, statement: Statement, bindings: Mapping[str, Any]) -> list[TupleRow] | None:
        """The rows of a statement that only reads; None when the replica has failed, which is counted. Only
        the caller can tell whether they are new enough."""
        try:
            return await self._pages.fetch(statement, bindings, once_seconds=ANSWER_SECONDS)
        except Unavailable as error:
            self._count_failure(error.__cause__)
        except psycopg.Error as error:  # such as of a migration that it does not have yet
            self._count_failure(error)
        return None

    async def run(self, query: Query[Result]) -> Answer | None:
        """What `query`, which only reads, returns on the replica; None when the primary has to be asked. The
        replica had all that was in the log on the primary when this began, and what it showed is committed
        there by now.

        Raises what `query` raises apart from psycopg.Error and DamagedTree: a replica may lack tiles that the
        primary has.
        """
        if not self.is_used:
            self.on_read("not_asked")
            return None
        try:
            head = await self.read_head()
            async with asyncio.timeout(ANSWER_SECONDS), self._pool.connection(CONNECT_SECONDS) as conn:
                if not await self._wait_for(conn, head):
                    self.note_behind(head)
                    return None
                result = await query(conn)
                last = await _fetch_head(conn)
            is_shown = last <= await self.read_head()
        except Unavailable:  # whoever asks the primary waits for it for as long as the request may take
            self.on_read("not_asked")
            return None
        except (psycopg.Error, DamagedTree, TimeoutError) as error:
            self._count_failure(error)
            return None
        if not is_shown:
            self.on_read("behind")  # the primary is: what was read here may not be acknowledged yet
            return None
        self.on_read("answered")
        return Answer(result)

    def note_behind(self, head: int) -> None:
        """Count a read that needed the log up to `head`, which the replica did not have in time. It is asked
        again once it has that."""
        self.on_read("behind")
        self._needed_position = max(self._needed_position, head)
        self._stop_asking()

    async def _wait_for(self, conn: Conn, head: int) -> bool:
        """Whether the replica has the log up to `head`, in time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + REPLICA_WAIT_SECONDS
        while await _fetch_head(conn) < head:
            if loop.time() > until:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    async def _read_head(self, batch: list[Pending[None, int]]) -> None:
        try:
            rows = await self._primary.fetch(_HEAD, {})
        except BaseException:
            self._stop_asking()  # perhaps there is another primary, whose log the replica may not continue
            raise
        for pending in batch:
            if not pending.future.done():
                pending.future.set_result(rows[0][0])

    def _count_failure(self, cause: BaseException | None) -> None:
        sqlstate = cause.sqlstate if isinstance(cause, psycopg.Error) else None
        if sqlstate in _CONFLICT_SQLSTATES:
            self.on_read("conflict")
            return
        self._is_lent = self._is_lent or sqlstate in _LENT_SQLSTATES
        self.on_read("failed")
        self._stop_asking()

    def _stop_asking(self) -> None:
        self._status = self._status._replace(is_used=False)
        self._loop.wake()

    async def _look(self) -> float:
        """Find out whether the replica may be asked, and how far behind it is."""
        try:
            reason, self._status = await self._compare()
        except BaseException:
            self._status = ReplicaStatus()
            raise
        finally:
            self._looked.set()
        kind = reason and reason.partition(":")[0]  # of several servers, each has its own reason
        if kind != self._logged:
            self._logged = kind
            if reason is None:
                log.info("replica_used_again")
            else:
                log.warning("replica_not_used", reason=reason)
        return LOOK_SECONDS if self._status.is_used or reason is not None else BEHIND_LOOK_SECONDS

    async def _compare(self) -> tuple[str | None, ReplicaStatus]:
        """Why the replica must not be asked, if so, and how it is. Raises Unavailable when the primary cannot
        be reached."""
        try:
            found = await self._looks.fetch(_LOOK_AT_REPLICA, {}, once_seconds=ANSWER_SECONDS)
        except Unavailable as error:
            # The first line of an error of a connection names the server, and quotes nothing.
            return f"cannot be reached: {error}", ReplicaStatus()
        except psycopg.Error as error:
            self._is_lent = self._is_lent or error.sqlstate in _LENT_SQLSTATES
            return _LENT if self._is_lent else _OTHER_DATABASE, ReplicaStatus()
        if self._is_lent:
            return _LENT, ReplicaStatus()
        ((position, record, database),) = found
        ((head, same_record, same_database, lag_seconds),) = await self._primary.fetch(
            _LOOK_AT_PRIMARY, {"position": position}
        )
        if database != same_database:
            return _OTHER_DATABASE, ReplicaStatus()
        if position <= head and record != same_record:
            return _OTHER_HISTORY, ReplicaStatus()
        is_used = self._needed_position <= position <= head
        return None, ReplicaStatus(is_used, max(head - position, 0), max(lag_seconds, 0))


async def _fetch_head(conn: Conn) -> int:
    row = await fetch_one(conn, _READ_HEAD.encode())
    assert row is not None, "a migrated database has a head"
    return int(row[0])


class Reads:
    """Connections for reads of what does not change any more, as history does: to the replica, if there is
    one that answers as well, and else to the primary."""

    def __init__(self, primary: Pool | ReconnectingConnection, replica: Replica | None) -> None:
        self._primary = primary
        self._replica = replica

    async def run_idempotent(self, query: Query[Result]) -> Result:
        """As `Pool.run_idempotent`: the result is never older than the primary's was at the call."""
        answer = None if self._replica is None else await self._replica.run(query)
        if answer is not None:
            result: Result = answer.result
            return result
        return await self._primary.run_idempotent(query)
