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


class LossyProxy:
    """Counts what clients send, by application name; `lose` breaks one connection at the next exchange."""

    def __init__(self, dsn: str) -> None:
        self._server = conninfo_to_dict(dsn)
        self.requests: Counter[str] = Counter()
        self.losses: list[tuple[str, Loss]] = []
        self._pending_losses: dict[str, Loss] = {}
        self._answers_to_lose: set[str] = set()

    def lose(self, name: str, what: Loss) -> None:
        """The next request on the connection `name` is not passed on; or the server's answer is not."""
        self._pending_losses[name] = what

    async def handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = await reader.readexactly(4)
        startup = length + await reader.readexactly(int.from_bytes(length) - 4)
        name = startup.partition(b"application_name\0")[2].partition(b"\0")[0].decode()
        host, port = str(self._server["host"]), str(self._server.get("port", 5432))
        if host.startswith("/"):
            answers, requests = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            answers, requests = await asyncio.open_connection(host, int(port))
        requests.write(startup)
        tasks = [
            asyncio.create_task(self._pass_requests(name, reader, requests)),
            asyncio.create_task(self._pass_answers(name, answers, writer)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        requests.close()
        writer.close()

    async def _pass_requests(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            self.requests[name] += 1
            if self._pending_losses.get(name) == "request":
                self.losses.append((name, self._pending_losses.pop(name)))
                return
            if name in self._pending_losses:
                self._answers_to_lose.add(name)
            writer.write(data)

    async def _pass_answers(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            # The server answers an autocommitted statement when it is committed.
            if name in self._answers_to_lose:
                self._answers_to_lose.remove(name)
                self.losses.append((name, self._pending_losses.pop(name)))
                return
            writer.write(data)


@asynccontextmanager
async def open_lossy_proxy(dsn: str) -> AsyncIterator[tuple[str, LossyProxy]]:
    """A way to the database of `dsn` through a network, and that network."""
    proxy = LossyProxy(dsn)
    with tempfile.TemporaryDirectory(prefix="network-") as directory:
        server = await asyncio.start_unix_server(proxy.handle_connection, f"{directory}/.s.PGSQL.5432")
        async with server:
            yield make_conninfo(dsn, host=directory, port="5432", sslmode="disable"), proxy
