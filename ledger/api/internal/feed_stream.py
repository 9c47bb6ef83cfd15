"""The answer to a reader of the feed, as long as it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from ledger.api.exchange import CONNECTION_EXTENSION, StreamConnection
from ledger.feed.feed import Feed
from ledger.feed.readers import Reader

CHUNK_BYTES = 65_536
"""What is written at once: for a connection that takes nothing, two of them wait at most."""


class FeedStream(Response):
    """Sends `pieces` as fast as the client takes them, and ends with the reader."""

    def __init__(self, feed: Feed, reader: Reader, pieces: AsyncIterator[bytes], media_type: str) -> None:
        super().__init__(
            media_type=media_type, headers={"cache-control": "no-store", "x-accel-buffering": "no"}
        )
        del self.headers["content-length"]
        self._feed = feed
        self._reader = reader
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: StreamConnection | None = scope.get("extensions", {}).get(CONNECTION_EXTENSION)
        if connection is not None:
            self._reader.abort, self._reader.push = connection.abort, connection.push
        watch = asyncio.create_task(self._watch(receive), name="feed reader")
        try:
            with self._feed.connect(self._reader):
                await send(
                    {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                )
                async for piece in self._pieces:
                    await self._send(piece, send)
                    if self._reader.end_reason in ("disconnected", "stalled"):
                        return
                await send({"type": "http.response.body", "body": b""})
        finally:
            watch.cancel()

    async def _send(self, piece: bytes, send: Send) -> None:
        reader, now = self._reader, asyncio.get_running_loop().time
        for start in range(0, len(piece), CHUNK_BYTES):
            part = piece[start : start + CHUNK_BYTES]  # the same bytes, if that is all
            reader.begin_send(len(part), now())
            await send({"type": "http.response.body", "body": part, "more_body": True})
            reader.end_send()
            if len(piece) > CHUNK_BYTES:
                await asyncio.sleep(0)  # it is written at the end of this turn of the event loop

    async def _watch(self, receive: Receive) -> None:
        """End the reader when its client has gone."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._reader.end("disconnected")
