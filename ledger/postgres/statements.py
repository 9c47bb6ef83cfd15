"""Run prepared statements on kept connections with little work around each: for reads that many wait for.

A page read along an index costs 60 to 100 µs in this process with psycopg's pool and cursors, and 10 to 22 µs
here, where libpq is called without layers between: the statement's text is prepared once for each connection,
and a kept connection waits in the event loop for its answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from ledger.errors import Unavailable
from ledger.postgres.connections import (
    CONNECT_TIMEOUT_SECONDS,
    IDEMPOTENT_ATTEMPTS_MAX,
    IDEMPOTENT_PAUSE_SECONDS,
    QUERY_TIMEOUT_SECONDS,
    Conn,
    Role,
    connect,
    first_line,
    is_disconnect,
)

PREPARED_MAX = 256
"""Statements that a connection keeps prepared: a list has one for each combination of filters."""

_PARAMETER = re.compile(r"%\((\w+)\)s")
_RESULTS = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


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

    `options` are libpq's. The user closes it.
    """

    def __init__(self, dsn: str, role: Role, *, name: str, options: str, connections_max: int) -> None:
        self._dsn = dsn
        self._role: Role = role
        self._name = name
        self._options = options
        self._idle: list[_Connection] = []  # used last in, first out
        self._slots = asyncio.Semaphore(connections_max)
        self._closing = False

    async def fetch(self, statement: Statement, bindings: Mapping[str, Any]) -> list[TupleRow]:
        """The rows of a statement that only reads: it runs again if its connection breaks. A parameter is
        text, a number, a boolean, or a list of texts.

        Raises Unavailable, and psycopg.Error for a statement that the server refuses.
        """
        for attempts_left in reversed(range(IDEMPOTENT_ATTEMPTS_MAX)):
            await self._take_slot()
            connection: _Connection | None = None
            try:
                connection = self._idle.pop() if self._idle else await self._open()
                return await connection.fetch(statement, bindings)
            except psycopg.OperationalError as error:
                if connection is None or not attempts_left or not is_disconnect(error):
                    raise Unavailable(first_line(error)) from error
            finally:
                if connection is not None:
                    self._keep(connection)
                self._slots.release()
            await asyncio.sleep(IDEMPOTENT_PAUSE_SECONDS)
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """Close the idle connections, and each other one when its user returns it."""
        self._closing = True
        while self._idle:
            self._idle.pop().close()

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await self._slots.acquire()
        except TimeoutError as error:
            raise Unavailable(f"no connection became free in {CONNECT_TIMEOUT_SECONDS} s") from error

    async def _open(self) -> _Connection:
        conn = await connect(self._dsn, self._role, name=self._name, options=self._options)
        return _Connection(conn, self._discard)

    def _keep(self, connection: _Connection) -> None:
        if self._closing:
            connection.close()
        elif not connection.closed:
            self._idle.append(connection)

    def _discard(self, connection: _Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)


class _Connection:
    """One connection for one statement at a time. What it receives in between means that it has ended: it
    closes then, and calls `on_close`."""

    def __init__(self, conn: Conn, on_close: Callable[[_Connection], None]) -> None:
        self._pgconn = conn.pgconn
        self._conn = conn  # owns what `_pgconn` uses
        self._on_close = on_close
        self._transformer = Transformer(conn)
        self._prepared: dict[bytes, bytes] = {}
        self._answer: asyncio.Future[PGresult] | None = None
        self._result: PGresult | None = None
        self._loop = asyncio.get_running_loop()
        self._socket = self._pgconn.socket
        self._loop.add_reader(self._socket, self._receive)
        self.closed = False

    async def fetch(self, statement: Statement, bindings: Mapping[str, Any]) -> list[TupleRow]:
        """The statement's rows. Raises psycopg.Error; OperationalError also when there is no answer in
        QUERY_TIMEOUT_SECONDS. Closes the connection when it is broken, or its user gives up."""
        timer = self._loop.call_later(QUERY_TIMEOUT_SECONDS, self._fail, "no answer in time")
        try:
            name = self._prepared.get(statement.text) or await self._prepare(statement.text)
            values, formats = encode_values(statement.names, bindings)
            self._pgconn.send_query_prepared(name, values, formats, Format.BINARY)
            result = await self._receive_answer()
        except asyncio.CancelledError:
            self.close()
            raise
        except psycopg.OperationalError as error:
            if is_disconnect(error) or self._pgconn.status != ConnStatus.OK:
                self.close()
            raise
        finally:
            timer.cancel()
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)

    def close(self) -> None:
        """Close the connection; whoever waits for its answer gets an error."""
        self._fail("the connection is closed")

    async def _prepare(self, text: bytes) -> bytes:
        if len(self._prepared) >= PREPARED_MAX:
            self._prepared.clear()
            self._pgconn.send_query(b"DEALLOCATE ALL")
            await self._receive_answer()
        name = b"s%d" % len(self._prepared)
        self._pgconn.send_prepare(name, text)
        await self._receive_answer()
        self._prepared[text] = name
        return name

    async def _receive_answer(self) -> PGresult:
        """The result of what was just sent. Raises psycopg.Error."""
        self._result = None
        self._answer = self._loop.create_future()
        self._flush()
        result = await self._answer
        if result.status not in _RESULTS:
            raise error_from_result(result)
        return result

    def _flush(self) -> None:
        """Send what the socket did not take at once, as soon as it takes more."""
        if self._pgconn.flush():
            self._loop.add_writer(self._socket, self._flush)
        else:
            self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        """Called when the socket has something to read."""
        if self._answer is None:
            self._fail("the connection has ended")
            return
        try:
            self._pgconn.consume_input()
            while not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    answer, self._answer = self._answer, None
                    assert self._result is not None
                    if not answer.done():
                        answer.set_result(self._result)
                    return
                self._result = result
        except psycopg.OperationalError as error:
            self._fail(first_line(error))

    def _fail(self, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._pgconn.finish()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(psycopg.OperationalError(reason))
        self._on_close(self)


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
