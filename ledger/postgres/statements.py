"""Run statements on kept connections (`ledger.postgres.prepared`): for reads that many wait for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg.pq import Format
from psycopg.rows import TupleRow

from ledger.errors import Unavailable
from ledger.postgres.connections import QUERY_TIMEOUT_SECONDS, connect, first_line
from ledger.postgres.prepared import PreparedConnection
from ledger.postgres.sessions import LOST, NoAnswer, Role, Settings, is_disconnect
from ledger.time_limits import Attempts, get_deadline, get_request_deadline

_PARAMETER = re.compile(r"%\((\w+)\)s")


class Statement(NamedTuple):
    """SQL with numbered parameters, and the names of their values in that order."""

    text: bytes
    names: tuple[str, ...]


@lru_cache(maxsize=1024)
def parse_statement(query: str) -> Statement:
    """The statement of SQL with parameters such as `%(limit)s`. Their types follow from where they stand."""
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${numbers.setdefault(match[1], len(numbers) + 1)}"

    text = _PARAMETER.sub(number, query).replace("%%", "%")
    return Statement(text.encode(), tuple(numbers))


class StatementPool:
    """At most `connections_max` connections, opened when they are needed and replaced when they have ended.

    `settings` and `may_be_standby` are as for `connect`. The user closes it.
    """

    def __init__(
        self,
        dsn: str,
        role: Role,
        *,
        name: str,
        settings: Settings,
        connections_max: int,
        may_be_standby: bool = False,
    ) -> None:
        self._dsn = dsn
        self._role: Role = role
        self._name = name
        self._settings = settings
        self._may_be_standby = may_be_standby
        self._idle: list[PreparedConnection] = []  # used last in, first out
        self._slots = asyncio.Semaphore(connections_max)
        self._closing = False
        self._opened_count = 0

    @property
    def opened_count(self) -> int:
        """How many connections it has opened so far: another one may be to another server."""
        return self._opened_count

    async def fetch(
        self,
        statement: Statement,
        bindings: Mapping[str, Any],
        *,
        once_seconds: float | None = None,
    ) -> list[TupleRow]:
        """The rows of a statement that only reads: while the server is lost, it runs again and again; with
        `once_seconds` it runs once, for so long at most. A parameter is text, a number, a boolean, or a list
        of texts.

        Raises Unavailable at the end of the request, outside of one after QUERY_TIMEOUT_SECONDS, and
        psycopg.Error for a statement that the server refuses.
        """
        attempts = Attempts(get_request_deadline(QUERY_TIMEOUT_SECONDS))
        values, formats = encode_values(statement.names, bindings)
        failure: psycopg.Error | None = None
        while True:
            deadline = attempts.deadline if once_seconds is None else get_deadline(once_seconds)
            await self._take_slot(deadline)
            connection: PreparedConnection | None = None
            try:
                deadline = attempts.begin() if once_seconds is None else deadline
                connection = self._pop_idle() or await self._open(deadline)
                return await connection.fetch(statement.text, values, formats, deadline=deadline)
            except LOST as error:
                failure = error
            except TimeoutError:  # what an earlier attempt met says more
                failure = failure or NoAnswer("no connection in time")
            finally:
                if connection is not None:
                    self._keep(connection)
                self._slots.release()
            may_ask_again = once_seconds is None and is_disconnect(failure)
            if not (may_ask_again and await attempts.pause(failure)):
                raise Unavailable(first_line(failure)) from failure

    async def close(self) -> None:
        """Close the idle connections, and each other one when its user returns it."""
        self._closing = True
        while self._idle:
            self._idle.pop().close()

    async def _take_slot(self, deadline: float) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError as error:
            raise Unavailable("no connection became free in time") from error

    async def _open(self, deadline: float) -> PreparedConnection:
        async with asyncio.timeout_at(deadline):
            conn = await connect(
                self._dsn,
                self._role,
                name=self._name,
                settings=self._settings,
                may_be_standby=self._may_be_standby,
            )
        self._opened_count += 1
        return PreparedConnection(conn, self._discard)

    def _pop_idle(self) -> PreparedConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_suspect:
                return connection
            connection.close()
        return None

    def _keep(self, connection: PreparedConnection) -> None:
        if self._closing:
            connection.close()
        elif not connection.closed:
            self._idle.append(connection)

    def _discard(self, connection: PreparedConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)


def encode_values(
    names: tuple[str, ...], bindings: Mapping[str, Any]
) -> tuple[list[bytes | None], list[int]]:
    """The values of the parameters of these names as Postgres reads them, and the format of each. A value is
    a text, a number, a boolean, a list of texts, or None."""
    values: list[bytes | None] = []
    formats: list[int] = []
    for name in names:
        value = bindings[name]
        if isinstance(value, str):
            values.append(value.encode())
            formats.append(Format.BINARY)  # of any length: a NUL in it is refused, and ends nothing early
            continue
        formats.append(Format.TEXT)
        if value is None:
            values.append(None)
        elif isinstance(value, bool):
            values.append(b"t" if value else b"f")
        elif isinstance(value, int | float):
            values.append(b"%r" % value)
        else:
            values.append(_encode_array(value))
    return values, formats


def _encode_array(texts: list[str]) -> bytes:
    quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    if any("\0" in text for text in quoted):
        raise psycopg.DataError("a text cannot contain NUL")
    return ("{" + ",".join(f'"{text}"' for text in quoted) + "}").encode()
