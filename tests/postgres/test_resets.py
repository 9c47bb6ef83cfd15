"""A server that ends with the client's statement unread, as one does that is killed: its last words and the
reset of the socket come together, and whoever waits for the answer learns of it at once, under uvloop too."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress

import psycopg
import pytest
import uvloop
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.postgres.connections import Conn, connect
from ledger.postgres.pipelines import BoundStatement, run_together
from ledger.postgres.prepared import PreparedConnection

NOTICE = b"SWARNING\0C57P02\0Mterminating connection because of crash of another server process\0\0"
LAST_WORDS = b"N" + struct.pack("!i", len(NOTICE) + 4) + NOTICE
SECONDS_MAX = 5.0
"""Far less than the limit of the answer, and far more than a reset needs."""


class Breaker:
    """Between a client and the server: after `break_off` it leaves the client's next bytes unread, sends the
    last words of a server, and closes the socket."""

    def __init__(self, dsn: str) -> None:
        self._parameters = conninfo_to_dict(dsn)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_broken = threading.Event()
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=str(self._listener.getsockname()[1]))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def break_off(self) -> None:
        """What the client sends next is not read any more."""
        self._is_broken.set()

    def close(self) -> None:
        """Wait for the end of the only connection."""
        self._thread.join(SECONDS_MAX)
        self._listener.close()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self._parameters['host']}/.s.PGSQL.{self._parameters['port']}")
        back = threading.Thread(target=self._copy_answers, args=(server, client), daemon=True)
        back.start()
        while client.recv(1, socket.MSG_PEEK):
            if self._is_broken.is_set():
                client.sendall(LAST_WORDS)
                break
            server.sendall(client.recv(65536))
        client.close()
        server.close()

    def _copy_answers(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):  # closed meanwhile
            while answer := server.recv(65536):
                client.sendall(answer)


@pytest.fixture
def breaker(dsn: str) -> Iterator[Breaker]:
    if not str(conninfo_to_dict(dsn).get("host", "")).startswith("/"):
        pytest.skip("the server does not listen on a Unix socket")
    with closing(Breaker(dsn)) as breaker:
        yield breaker


async def ask_together(conn: Conn) -> None:
    await run_together(conn, [BoundStatement(b"SELECT 1"), BoundStatement(b"SELECT 2")])


async def ask_prepared(conn: Conn) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    await PreparedConnection(conn).run(b"SELECT 1", [], [], deadline=deadline)


@pytest.mark.parametrize("ask", [ask_together, ask_prepared])
def test_a_reset_after_last_words_ends_the_wait_at_once(
    breaker: Breaker, ask: Callable[[Conn], Awaitable[None]]
) -> None:
    async def run() -> None:
        conn = await connect(breaker.dsn, "ledger_api", name="test", prepare_threshold=None)
        breaker.break_off()
        async with asyncio.timeout(SECONDS_MAX):
            with pytest.raises(psycopg.OperationalError):
                await ask(conn)
        await conn.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def test_a_wake_up_for_what_was_read_meanwhile_ends_no_connection(dsn: str) -> None:
    async def run() -> bool:
        connection = PreparedConnection(await connect(dsn, "ledger_api", name="test"))
        deadline = asyncio.get_running_loop().time() + 60
        await connection.run(b"SELECT 1", [], [], deadline=deadline)
        connection._receive()  # as the event loop calls it, once for each time that it saw something to read
        was_closed = connection.closed
        connection.close()
        return was_closed

    assert not asyncio.run(run())
