"""One connection that waits for its answers in the event loop, with little work around each statement.

psycopg's own way adds the socket to the event loop and removes it again for each statement, and looks up how
to adapt each value: 60 to 100 µs a statement, 10 to 22 µs here. The socket stays in the loop for the life of
the connection, each statement is prepared once, and values come encoded.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable, Sequence

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from ledger.postgres.connections import Conn, first_line
from ledger.postgres.sessions import LOST, NoAnswer, is_disconnect, is_suspect, note_silence

PREPARED_MAX = 256
"""Statements that a connection keeps prepared: a list has one for each combination of filters."""

_RESULTS = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


def has_input(number: int) -> bool:
    """Whether the socket of this number has something to read, or has ended.

    Who has not read all must ask: uvloop calls a reader no more once the socket has had an error, as it has
    when a server ends with our statement unread, even if its last words came first and hide the end.
    """
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


class PreparedConnection:
    """Runs one statement at a time on `conn`, which it owns.

    It is closed once the connection breaks, or a statement has no answer in time or is given up by its
    caller. What the server says between two statements means that it has ended the connection. `on_close` is
    called once, whatever the cause.
    """

    def __init__(
        self, conn: Conn, on_close: Callable[[PreparedConnection], None] = lambda connection: None
    ) -> None:
        self._pgconn = conn.pgconn
        self._conn = conn  # owns what `_pgconn` uses
        self._on_close = on_close
        self._transformer = Transformer(conn)
        self._prepared: dict[bytes, bytes] = {}
        self._answer: asyncio.Future[PGresult] | None = None
        self._result: PGresult | None = None
        self._rest: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()
        self._socket = self._pgconn.socket
        self._loop.add_reader(self._socket, self._receive)
        self._answered_at = time.monotonic()
        self.closed = False

    @property
    def is_suspect(self) -> bool:
        """Whether its server was silent on another connection since it has answered on this one."""
        return not self.closed and is_suspect(self._pgconn, self._answered_at)

    async def fetch(
        self, text: bytes, values: Sequence[bytes | None], formats: Sequence[int], *, deadline: float
    ) -> list[TupleRow]:
        """The rows of the statement; otherwise as `run`."""
        result = await self.run(text, values, formats, deadline=deadline)
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)

    async def run(
        self, text: bytes, values: Sequence[bytes | None], formats: Sequence[int], *, deadline: float
    ) -> PGresult:
        """The binary result of the statement `text` with these values, each text (0) or binary (1).

        Raises psycopg.Error; NoAnswer when there is none by `deadline`, a time of the event loop.
        """
        if self.closed:
            raise psycopg.OperationalError("the connection is closed")
        timer = self._loop.call_at(deadline, self._give_up, began_at := time.monotonic())
        try:
            name = self._prepared.get(text) or await self._prepare(text)
            self._pgconn.send_query_prepared(name, values, formats, Format.BINARY)
            result = await self._receive_answer()
        except asyncio.CancelledError:
            if not self.closed:
                note_silence(self._pgconn, began_at)
            self.close()
            raise
        except LOST as error:
            if is_disconnect(error) or self._pgconn.status != ConnStatus.OK:
                self.close()
            raise
        finally:
            timer.cancel()
        self._answered_at = time.monotonic()
        self._conn.check_replicated()
        return result

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
        if self._pgconn.flush():
            self._loop.add_writer(self._socket, self._flush)
        self._answer = self._loop.create_future()
        result = await self._answer
        if result.status not in _RESULTS:
            raise error_from_result(result, encoding="utf-8")
        return result

    def _flush(self) -> None:
        """Send what the socket did not take at once, as soon as it takes more."""
        try:
            if not self._pgconn.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.OperationalError as error:
            self._fail(first_line(error))

    def _receive(self) -> None:
        """Called when the socket has something to read."""
        if self._answer is None:
            # Or else it was read meanwhile, by `_receive_rest`.
            if has_input(self._socket):
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
            if self._rest is None and has_input(self._socket):
                self._rest = self._loop.call_soon(self._receive_rest, self._answer)
        except psycopg.OperationalError as error:
            self._fail(first_line(error))

    def _receive_rest(self, answer: asyncio.Future[PGresult]) -> None:
        """Go on, unless the answer has been received meanwhile."""
        self._rest = None
        if answer is self._answer:
            self._receive()

    def _give_up(self, began_at: float) -> None:
        if not self.closed:
            note_silence(self._pgconn, began_at)
        self._fail("no answer in time", NoAnswer)

    def _fail(self, reason: str, kind: type[psycopg.Error] = psycopg.OperationalError) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._pgconn.finish()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(kind(reason))
        self._on_close(self)
