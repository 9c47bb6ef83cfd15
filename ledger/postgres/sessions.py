"""One session with the database: what it begins with (login, settings, role, a look at where the login has
led), how long it waits for answers, and whether it has ended.

Settings and role are set after the login, by one statement: a pooler in front of the server refuses or
ignores what else a login may ask for. A session that would run in another role, or on a standby, is refused.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Literal, NamedTuple, get_args
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn
from psycopg.rows import TupleRow
from psycopg.waiting import wait_async

from ledger.logs import OwnWords

CONNECT_TIMEOUT_SECONDS = 3
"""For each host of the URL: half of a request's time is enough for one that hangs and one that answers."""

SILENCE_SECONDS_MIN = 0.5

Role = Literal["ledger_api", "ledger_projector"]
ROLES: tuple[Role, ...] = get_args(Role)
Settings = Mapping[str, str]
"""Settings of a session, as `SET` takes them."""
LOCAL_COMMITS = {"synchronous_commit": "local"}
"""Of sessions whose commits wait for no standby: a failover may take back the last ones. For bookkeeping that
is done again then, and for what `ledger.store.durability` confirms before anybody is told. While the standbys
are away, each commit that waits for them occupies a session of the server: so few wait."""

# The client notices within 25 s that the server's host is gone (TCP only) …
_CLIENT_TCP_PARAMETERS = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_SETTINGS = {
    # … and the server notices that the client's host is gone; otherwise it would keep the client's locks for
    # hours. Postgres ignores these over a Unix socket.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
    # Overrides the default of the database or user: each statement of ledger.append_many must see what was
    # committed before it got the head lock.
    "default_transaction_isolation": "read committed",
}
# The server also notices a killed client in the middle of a statement. Building an index may take an hour,
# and the backend would keep its locks until then. A server on Windows does not support the setting.
_CHECK_CLIENT = {"client_connection_check_interval": "1s"}

# The function of Postgres whose warning says that a wait for standbys was ended. Its text is translated.
_WAIT_FOR_STANDBYS = "SyncRepWaitForLSN"
_POLL_SECONDS = 0.1
# For a ROLLBACK, when who is cancelled leaves a transaction.
_CANCELLED_SECONDS = 0.5

# The count keeps the subquery, and with it what it sets, in front of the questions.
_BEGIN = """
SELECT done.settings, current_user::text, pg_is_in_recovery(), pg_postmaster_start_time()
FROM (SELECT count(set_config(asked.name, asked.setting, false)) AS settings
      FROM unnest(%s::text[], %s::text[]) AS asked(name, setting)) AS done
"""


class NotConnected(psycopg.OperationalError, OwnWords):
    """The server cannot be reached, or refuses the login. The text is the first line of what libpq says."""


class SessionRefused(psycopg.OperationalError, OwnWords):
    """The server was reached, but does not let the session have its role or settings."""


class StandbyServer(psycopg.OperationalError, OwnWords):
    """The server that was reached is a standby: the primary is elsewhere, or is being changed."""


class NoAnswer(psycopg.OperationalError, OwnWords):
    """The server has not answered in time; the connection was given up, and what was asked may yet happen."""


class NotReplicated(psycopg.OperationalError, OwnWords):
    """What was asked is committed on this server, but somebody ended the wait for its standbys: perhaps none
    has it. Whoever asks again may find it, or may find it gone."""


class ReplicationWarnings:
    """What the server has warned of, for `add_notice_handler`. Not part of the connection, which would refer
    to itself and stay open until it is garbage collected."""

    not_replicated = False

    def add(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        """Take note of a notice."""
        if diagnostic.source_function == _WAIT_FOR_STANDBYS:
            self.not_replicated = True


LOST = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)
"""Errors of which `is_disconnect` may be true."""


def is_disconnect(error: psycopg.Error) -> bool:
    """Whether the error means that the connection or the server is lost, or is not the primary any more; not
    that the server lacks space, time or a lock for the statement."""
    if isinstance(error, NotReplicated | SessionRefused) or not isinstance(error, LOST):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P", "25006"))


class Conn(AsyncConnection[TupleRow]):
    """A connection that waits `answer_seconds` at most for each answer; None: without a limit.

    It is abandoned then, and when its user is cancelled during a statement: closed at once, without a request
    to cancel. A server that hangs would not answer that; and one that waits for its standbys would end the
    wait, and show everybody a commit that no standby has.
    """

    def __init__(self, pgconn: PGconn) -> None:
        super().__init__(pgconn)
        self.answer_seconds: float | None = CONNECT_TIMEOUT_SECONDS
        self._answered_at = time.monotonic()
        self._warnings = ReplicationWarnings()
        self.add_notice_handler(self._warnings.add)

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = _POLL_SECONDS,
        timeout: float | None = None,  # noqa: ASYNC109  # the library's interface
    ) -> RV:
        """What `gen`, which talks with the server, returns. `timeout` is for those who wait for what may
        never come, such as notifications: afterwards the connection is as good as before.

        Raises NoAnswer, NotReplicated, and what `gen` raises.
        """
        task = asyncio.current_task()
        is_cancelled = task is not None and task.cancelling() > 0
        seconds = timeout
        if timeout is None:
            seconds = _CANCELLED_SECONDS if is_cancelled else self.answer_seconds
        began_at = time.monotonic()
        try:
            result = await wait_async(gen, self.pgconn.socket, interval=interval, timeout=seconds)
        except psycopg.errors._WaitTimeout:
            if timeout is not None:
                raise
            self.give_up(began_at)
            if is_cancelled:
                raise asyncio.CancelledError from None  # as before this: an error would hide it
            raise NoAnswer(f"no answer in {seconds} s") from None
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.give_up(began_at)
            raise
        self.note_answer()
        return result

    @property
    def has_ended(self) -> bool:
        """Whether the server or the network has ended it while nobody used it, or its server was silent on
        another one. It costs no round trip: on a connection that works there is nothing to read between two
        queries, except notifications."""
        if self.closed or is_suspect(self.pgconn, self._answered_at):
            return True
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        if not poll.poll(0):
            return False
        try:
            self.pgconn.consume_input()
        except psycopg.OperationalError:
            return True
        # A notification is lost here, which costs its receiver one poll interval. Anything else is the
        # message with which the server ends the connection.
        return self.pgconn.notifies() is None

    def abandon(self) -> None:
        """Close the connection at once, whatever the server does."""
        self.pgconn.finish()

    def give_up(self, began_at: float) -> None:
        """Abandon it: what was asked at `began_at`, of the monotonic clock, has no answer."""
        note_silence(self.pgconn, began_at)
        self.abandon()

    def note_answer(self) -> None:
        """An answer has come. Raises NotReplicated as `check_replicated`."""
        self._answered_at = time.monotonic()
        self.check_replicated()

    def end(self) -> None:
        """Let who waits on it find it ended, as if the server had ended it; nobody else may notice."""
        if not self.closed:
            with suppress(OSError), socket.socket(fileno=os.dup(self.pgconn.socket)) as copy:
                copy.shutdown(socket.SHUT_RDWR)

    def check_replicated(self) -> None:
        """Raises NotReplicated if the server has said, since the last call, that a commit is not."""
        if self._warnings.not_replicated:
            self._warnings.not_replicated = False
            raise NotReplicated("committed, but a wait for standbys was ended: perhaps none has it")


class Session(NamedTuple):
    """A session to begin.

    conninfo        the login
    may_be_standby  whether a server that takes no writes will do
    """

    conninfo: str
    role: Role
    settings: Settings
    may_be_standby: bool


def plan_session(
    dsn: str, role: Role, *, name: str, settings: Settings | None = None, may_be_standby: bool = False
) -> Session:
    """A session in `role`, shown as `ledger {name}` in pg_stat_activity."""
    # A string for one of the roles stands for both: each connection logs in as its role, and no statement
    # can leave that. Any other user only sets the role, and could reset it.
    login = {"user": role} if conninfo_to_dict(dsn).get("user") in ROLES else {}
    conninfo = make_conninfo(
        dsn,
        **login,
        application_name=f"ledger {name}",
        client_encoding="UTF8",  # the journal encodes texts itself
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        **_CLIENT_TCP_PARAMETERS,
    )
    return Session(conninfo, role, _SETTINGS | dict(settings or {}), may_be_standby)


def name_primary(dsn: str) -> str:
    """The connection string, which of several hosts takes the primary unless it says otherwise itself. Raises
    psycopg.ProgrammingError for what is no connection string."""
    parameters = conninfo_to_dict(dsn)
    hosts = str(parameters.get("host") or parameters.get("hostaddr") or "")
    if "," not in hosts or "target_session_attrs" in parameters:
        return dsn
    return make_conninfo(dsn, target_session_attrs="primary")


async def begin_session(conn: Conn, session: Session) -> None:
    """Set the settings and the role on a connection that has just logged in: one round trip.

    The primary that is reached may be another than before, and the former one may hang: then the connections
    to that one end, with whatever waits on them.

    Raises SessionRefused, StandbyServer, NoAnswer, and psycopg.OperationalError when the connection is lost.
    """
    try:
        try:
            await _set(conn, session, _CHECK_CLIENT)
        except psycopg.errors.InvalidParameterValue:
            await _set(conn, session, {})
    except NoAnswer as error:
        raise NoAnswer(
            f"a connection was accepted, but nothing was answered on it in {CONNECT_TIMEOUT_SECONDS} s: the "
            "server hangs, or a pooler in front of it has no free connection to it"
        ) from error
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue) as error:
        reason = str(error).partition("\n")[0]
        raise SessionRefused(f"the session cannot run in the role {session.role}: {reason}") from error


async def _set(conn: Conn, session: Session, more: Settings) -> None:
    asked = {**session.settings, **more, "role": session.role}
    cur = await conn.execute(_BEGIN, (list(asked), list(asked.values())), prepare=False)
    row = await cur.fetchone()
    assert row is not None
    _, user, is_standby, started_at = row
    if user != session.role:
        raise SessionRefused(f"the session runs as {user}, not in the role {session.role}")
    if is_standby and not session.may_be_standby:
        raise StandbyServer("the server is a standby, which takes no writes")
    if not session.may_be_standby:
        _end_others(conn, session.conninfo, started_at)


# By address: the connections to the primary there, each with the start of its server.
_connections: dict[str, WeakKeyDictionary[Conn, datetime]] = {}


def _end_others(conn: Conn, conninfo: str, started_at: datetime) -> None:
    """End the connections to the address of `conn` that lead to another server than it does, which started
    at `started_at`. That one is the primary no more, and if it hangs, nothing else ends a long wait soon."""
    parameters = conninfo_to_dict(conninfo)
    address = repr([parameters.get(name) for name in ("service", "host", "hostaddr", "port")])
    connections = _connections.setdefault(address, WeakKeyDictionary())
    for other in [other for other, of_other in connections.items() if of_other != started_at]:
        del connections[other]
        other.end()
    connections[conn] = started_at


# By server: when the last question was asked that it did not answer in time.
_silent_since: dict[str, float] = {}


def note_silence(pgconn: PGconn, since: float) -> None:
    """What was asked of the server at `since` (seconds of the monotonic clock) was given up without an
    answer, unless there was no time for one."""
    if time.monotonic() - since >= SILENCE_SECONDS_MIN:
        server = _name_server(pgconn)
        _silent_since[server] = max(since, _silent_since.get(server, since))


def is_suspect(pgconn: PGconn, answered_at: float) -> bool:
    """Whether the server was silent on some connection after it has last answered on this one. It hangs then,
    or another has taken its address: a new connection tells, without another wait."""
    return answered_at < _silent_since.get(_name_server(pgconn), answered_at) if _silent_since else False


def _name_server(pgconn: PGconn) -> str:
    return f"{pgconn.host!r}:{pgconn.port!r}"
