"""A network between a publisher and NATS that loses what passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.jetstream.nats_server import NatsServer


class NatsProxy:
    """Passes bytes on, until it is told to lose answers or to cut all connections."""

    def __init__(self, server: NatsServer) -> None:
        self._server = server
        self._writers: set[asyncio.StreamWriter] = set()
        self._loses_answers = False
        self.port = 0

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End all connections now; what is under way is lost."""
        for writer in self._writers:
            writer.transport.abort()

    async def lose_answers(self, seconds: float) -> None:
        """Pass on what the publisher sends, and nothing of what it is answered; then cut."""
        self._loses_answers = True
        await asyncio.sleep(seconds)
        self.cut()
        self._loses_answers = False

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, requests = await asyncio.open_connection("127.0.0.1", self._server.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, requests}
        passes = [self._pass(reader, requests), self._pass(answers, writer, are_answers=True)]
        tasks = [asyncio.create_task(each) for each in passes]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in (writer, requests):
            each.transport.abort()
            self._writers.discard(each)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, are_answers: bool = False
    ) -> None:
        while data := await reader.read(4096):
            if not (are_answers and self._loses_answers):
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def open_nats_proxy(server: NatsServer) -> AsyncIterator[NatsProxy]:
    proxy = NatsProxy(server)
    listener = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        proxy.cut()
