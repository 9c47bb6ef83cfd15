"""What a session with the database begins with: its login, its settings and its role, and a look at where the
login has led.

Settings and role are set after the login, by one statement: a pooler in front of the server refuses or
ignores what else a login may ask for. A session that would run in another role, or on a standby, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

CONNECT_TIMEOUT_SECONDS = 5

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

# The count keeps the subquery, and with it what it sets, in front of the questions.
_BEGIN = """
SELECT done.settings, current_user::text, pg_is_in_recovery()
FROM (SELECT count(set_config(asked.name, asked.setting, false)) AS settings
      FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS asked(name, setting, ordinal)) AS done
"""


class SessionRefused(psycopg.OperationalError):
    """The server was reached, but does not let the session have its role or settings."""


class StandbyServer(psycopg.OperationalError):
    """The server that was reached is a standby: the primary is elsewhere, or is being changed."""


class NoAnswer(psycopg.OperationalError):
    """The server has not answered in time; the connection was given up, and what was asked may yet happen."""


class NotReplicated(psycopg.OperationalError):
    """What was asked is committed on this server, but somebody ended the wait for its standbys: perhaps none
    has it. Whoever asks again may find it, or may find it gone."""


LOST = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)
"""Errors of which `is_disconnect` may be true."""


def is_disconnect(error: psycopg.Error) -> bool:
    """Whether the error means that the connection or the server is lost, or is not the primary any more; not
    that the server lacks space, time or a lock for the statement."""
    if isinstance(error, NotReplicated | SessionRefused) or not isinstance(error, LOST):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P", "25006"))


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


async def begin_session(conn: AsyncConnection[TupleRow], session: Session) -> None:
    """Set the settings and the role on a connection that has just logged in: one round trip.

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


async def _set(conn: AsyncConnection[TupleRow], session: Session, more: Settings) -> None:
    asked = {**session.settings, **more, "role": session.role}
    cur = await conn.execute(_BEGIN, (list(asked), list(asked.values())), prepare=False)
    row = await cur.fetchone()
    assert row is not None
    _, user, is_standby = row
    if user != session.role:
        raise SessionRefused(f"the session runs as {user}, not in the role {session.role}")
    if is_standby and not session.may_be_standby:
        raise StandbyServer("the server is a standby, which takes no writes")
