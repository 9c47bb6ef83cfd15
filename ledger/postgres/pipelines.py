"""Send several statements at once, and receive their results together: one round trip instead of one each.

A process that waits for a statement sleeps and is woken: on a busy machine that takes longer than a small
statement does. The statements are prepared once for each connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import TupleRow

from ledger.postgres.connections import Conn
from ledger.postgres.prepared import has_input
from ledger.postgres.sessions import NoAnswer
from ledger.postgres.statements import Statement, encode_values

_SUCCESSES = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)

# By connection, the names of the statements that are prepared on it.
_prepared_names: WeakKeyDictionary[Conn, dict[bytes, bytes]] = WeakKeyDictionary()


class BoundStatement(NamedTuple):
    """A statement with the values of its parameters, each in its format."""

    text: bytes
    values: Sequence[bytes | None] = ()
    formats: Sequence[int] = ()


_BEGIN, _COMMIT, _ROLLBACK = BoundStatement(b"BEGIN"), BoundStatement(b"COMMIT"), BoundStatement(b"ROLLBACK")


def bind(statement: Statement, bindings: Mapping[str, Any]) -> BoundStatement:
    """The statement with these values: texts, numbers, booleans, lists of texts, or None."""
    return BoundStatement(statement.text, *encode_values(statement.names, bindings))


async def run_together(
    conn: Conn, statements: Sequence[BoundStatement], *, prepare: bool = True
) -> list[PGresult]:
    """The results of the statements, in one round trip. Raises psycopg.Error for the first that fails; those
    after it are not run. Nobody else may use the connection meanwhile. It is abandoned when they have not
    arrived in the connection's `answer_seconds`, and when who waits for them is cancelled.

    With `prepare` the statements are prepared, on a connection on which psycopg prepares none: it forgets all
    of a connection at once.
    """
    pgconn = conn.pgconn
    prepared = _prepared_names.setdefault(conn, {}) if prepare else {}
    # By result: the statement that it prepares, or None.
    prepares: list[bytes | None] = []
    pgconn.enter_pipeline_mode()
    for text, values, formats in statements:
        if not prepare:
            pgconn.send_query_params(text, values, None, formats, Format.BINARY)
        else:
            if text not in prepared:
                prepared[text] = b"together%d" % len(prepared)
                pgconn.send_prepare(prepared[text], text)
                prepares.append(text)
            pgconn.send_query_prepared(prepared[text], values, formats, Format.BINARY)
        prepares.append(None)
    pgconn.pipeline_sync()
    began_at = time.monotonic()
    try:
        results = await _Exchange(pgconn).run(conn.answer_seconds)
    except (asyncio.CancelledError, NoAnswer):
        conn.give_up(began_at)
        raise
    pgconn.exit_pipeline_mode()
    for text_prepared, result in zip(prepares, results, strict=True):
        if text_prepared is not None and result.status not in _SUCCESSES:
            del prepared[text_prepared]
    for result in results:
        if result.status not in _SUCCESSES:
            raise error_from_result(result)
    conn.note_answer()
    return [result for text, result in zip(prepares, results, strict=True) if text is None]


async def fetch_together(conn: Conn, statements: Sequence[BoundStatement]) -> list[list[TupleRow]]:
    """The rows of each of the statements, as from `run_together`."""
    transformer = Transformer(conn)
    rows: list[list[TupleRow]] = []
    for result in await run_together(conn, statements):
        transformer.set_pgresult(result)
        rows.append(transformer.load_rows(0, result.ntuples, tuple))
    return rows


class PipelinedTransaction:
    """A transaction whose statements wait until a result is asked for, or until its end, and are then sent
    together, with its BEGIN and its COMMIT. An exception rolls it back.

    conn  where it runs; after the first result it may also be used directly
    """

    def __init__(self, conn: Conn) -> None:
        self.conn = conn
        self._waiting = [_BEGIN]
        self._committed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if self._committed:
            return
        if error_type is None:
            self.add(_COMMIT)
            await self._send()
        elif issubclass(error_type, Exception) and self._is_open():
            await run_together(self.conn, [_ROLLBACK])

    def add(self, statement: BoundStatement) -> None:
        """Send the statement with what is asked for next, or with the COMMIT."""
        self._waiting.append(statement)

    async def fetch(self, *statements: BoundStatement) -> list[list[TupleRow]]:
        """The rows of each of the statements. Raises psycopg.Error."""
        self._waiting += statements
        return (await self._send())[-len(statements) :]

    async def commit(self, *statements: BoundStatement) -> list[list[TupleRow]]:
        """The rows of each of the statements, which are sent with the COMMIT. Raises psycopg.Error; then
        nothing has changed, unless the connection was lost."""
        *rows, _ = await self.fetch(*statements, _COMMIT)
        self._committed = True
        return rows

    async def _send(self) -> list[list[TupleRow]]:
        statements, self._waiting = self._waiting, []
        try:
            return await fetch_together(self.conn, statements)
        except Exception:
            if self._is_open():
                await run_together(self.conn, [_ROLLBACK])
            raise

    def _is_open(self) -> bool:
        return self.conn.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)


class _Exchange:
    """Sends what is in a connection's buffer, and receives results until the end of the pipeline."""

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn
        self._socket = pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._results: list[PGresult] = []
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._rest: asyncio.Handle | None = None

    async def run(self, seconds: float | None) -> list[PGresult]:
        """The results. Raises NoAnswer after `seconds`, and psycopg.OperationalError when the connection is
        lost."""
        late = NoAnswer(f"no answer in {seconds} s")
        timer = None if seconds is None else self._loop.call_later(seconds, self._fail, late)
        self._loop.add_reader(self._socket, self._guard, self._receive)
        try:
            if self._pgconn.flush():
                self._loop.add_writer(self._socket, self._guard, self._flush)
            await self._ended
        except NoAnswer:
            raise
        except psycopg.OperationalError as error:
            for result in self._results:  # one may say why the server ended the connection
                if result.status == ExecStatus.FATAL_ERROR:
                    raise error_from_result(result) from error
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        return self._results

    def _guard(self, step: Any) -> None:
        try:
            step()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _flush(self) -> None:
        if not self._pgconn.flush():
            self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        if self._ended.done():  # by a call in the same turn of the event loop; libpq has no more results
            return
        self._pgconn.consume_input()
        while not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:  # the end of one statement, or of the connection
                if self._pgconn.status != ConnStatus.OK:
                    raise psycopg.OperationalError("the connection was lost")
                continue
            if result.status == ExecStatus.PIPELINE_SYNC:
                if not self._ended.done():
                    self._ended.set_result(None)
                return
            self._results.append(result)
        if self._rest is None and has_input(self._socket):
            self._rest = self._loop.call_soon(self._guard, self._receive_rest)

    def _receive_rest(self) -> None:
        self._rest = None
        self._receive()
