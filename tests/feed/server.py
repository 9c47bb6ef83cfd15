"""The service in the process of the test, which may change its limits, and a key that reads its feed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from ledger import accounts
from ledger.api.app import LedgerApp, create_app
from ledger.api.transport import HttpProtocol
from ledger.config import load_settings
from ledger.postgres.connections import connect
from tests.api.service import SERVICE_KEY


@asynccontextmanager
async def run_server(dsn: str) -> AsyncIterator[tuple[LedgerApp, int]]:
    """The service in this process, on a port whose connections have small buffers in the system."""
    app = create_app(load_settings(log_requests="none"), dsn, SERVICE_KEY.encode())
    with socket.create_server(("127.0.0.1", 0), backlog=64) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        config = uvicorn.Config(
            app, http=HttpProtocol, lifespan="on", log_config=None, access_log=False, proxy_headers=False
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.01)
        try:
            yield app, sock.getsockname()[1]
        finally:
            server.should_exit = True
            await task


async def create_reader_key(dsn: str) -> str:
    """A key of a new account, with all scopes."""
    async with await connect(dsn, "ledger_api", name="tests") as conn:
        account = await accounts.create_account(conn, "A test")
        scopes = accounts.INTERNAL_SCOPES
        _, key = await accounts.create_key(conn, account, "rk", livemode=False, name="test", scopes=scopes)
    return key
