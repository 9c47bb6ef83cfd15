"""The health port of a worker: a small HTTP server in the event loop of the worker, which therefore does not
answer when that loop is blocked.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ledger.api.worker_health import WorkerHealthApp

CONNECTIONS_MAX = 64
CLOSE_SECONDS = 1
REQUEST_SECONDS = 5.0
"""So long a new connection may take to send a request."""

log = structlog.get_logger()


class _Connection(H11Protocol):
    """A connection that is closed if no request comes: idle ones would fill CONNECTIONS_MAX, and what asks
    for the health of the worker would be refused, and start it again."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.loop.call_later(REQUEST_SECONDS, self._close_without_request)

    def _close_without_request(self) -> None:
        if getattr(self, "cycle", None) is None and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """A server that leaves signals to the worker."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@asynccontextmanager
async def serve_health(app: WorkerHealthApp, sock: socket.socket) -> AsyncIterator[None]:
    """Serve `app` on a listening socket until the end of the `async with` block."""
    config = uvicorn.Config(
        app,
        http=_Connection,  # of h11, which limits the length of a request's head
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]), name="health port")
    host, port = sock.getsockname()[:2]
    log.info("health_port_opened", host=host, port=port)
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
