"""A network between the service and Postgres that can lose what passes: a proxy that understands nothing
but the startup message, in which a connection says its name."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

Loss = Literal["request", "answer"]


class Network:
    """Counts what clients send, by application name; `lose` breaks one connection at the next exchange."""

    def __init__(self, dsn: str) -> None:
        self._server = conninfo_to_dict(dsn)
        self.requests: Counter[str] = Counter()
        self.lost: list[tuple[str, Loss]] = []
        self._to_lose: dict[str, Loss] = {}
        self._answering: set[str] = set()

    def lose(self, name: str, what: Loss) -> None:
        """The next request on the connection `name` is not passed on; or the server's answer is not."""
        self._to_lose[name] = what

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = await reader.readexactly(4)
        startup = length + await reader.readexactly(int.from_bytes(length) - 4)
        name = startup.partition(b"application_name\0")[2].partition(b"\0")[0].decode()
        host, port = str(self._server["host"]), str(self._server.get("port", 5432))
        if host.startswith("/"):
            answers, requests = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            answers, requests = await asyncio.open_connection(host, int(port))
        requests.write(startup)
        passing = [
            asyncio.create_task(self._pass_requests(name, reader, requests)),
            asyncio.create_task(self._pass_answers(name, answers, writer)),
        ]
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)
        requests.close()
        writer.close()

    async def _pass_requests(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            self.requests[name] += 1
            if self._to_lose.get(name) == "request":
                self.lost.append((name, self._to_lose.pop(name)))
                return
            if name in self._to_lose:
                self._answering.add(name)
            writer.write(data)

    async def _pass_answers(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            # The server answers an autocommitted statement when it is committed.
            if name in self._answering:
                self._answering.remove(name)
                self.lost.append((name, self._to_lose.pop(name)))
                return
            writer.write(data)


@asynccontextmanager
async def network(dsn: str) -> AsyncIterator[tuple[str, Network]]:
    """A way to the database of `dsn` through a network, and that network."""
    between = Network(dsn)
    with tempfile.TemporaryDirectory(prefix="network-") as directory:
        server = await asyncio.start_unix_server(between.connected, f"{directory}/.s.PGSQL.5432")
        async with server:
            yield make_conninfo(dsn, host=directory, port="5432", sslmode="disable"), between
