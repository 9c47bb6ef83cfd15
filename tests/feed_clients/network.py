"""A network between a consumer and the service that cuts connections in the middle of answers: a proxy that
understands nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator

BYTES_MAX = 12_000
"""A connection is cut before it has carried so many bytes of answers."""


class CuttingProxy:
    """Passes bytes on to `port`, and cuts `cuts` connections after a random number of bytes of answers, by
    turns with a reset and with an end that looks like a regular one."""

    def __init__(self, port: int, cuts: int, seed: int) -> None:
        self.port = port
        self.cuts_left = cuts
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, requests = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:  # the service is away
            writer.close()
            return
        passing = [
            asyncio.create_task(self._pass_requests(reader, requests)),
            asyncio.create_task(self._pass_answers(answers, writer)),
        ]
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)
        requests.close()
        writer.close()

    async def _pass_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    async def _pass_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bytes_left = self._random.randrange(BYTES_MAX)
        while data := await reader.read(65536):
            if self.cuts_left == 0:
                writer.write(data)
                continue
            writer.write(data[:bytes_left])
            bytes_left -= len(data)
            if bytes_left <= 0:
                self.cuts_left -= 1
                await writer.drain()
                if self.cuts_left % 2:
                    writer.transport.abort()
                return


@contextlib.contextmanager
def open_cutting_proxy(port: int, cuts: int, seed: int) -> Iterator[tuple[str, CuttingProxy]]:
    """The proxy's address, and the proxy, which runs in a thread of its own."""
    proxy = CuttingProxy(port, cuts, seed)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(
        asyncio.start_server(proxy.handle, "127.0.0.1", 0), loop
    ).result()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", proxy
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
