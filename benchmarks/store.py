"""Our store as one process runs it, on the same event loop implementation as the service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from ledger.call import Cause
from ledger.clock import Clock
from ledger.config import load_settings
from ledger.postgres.connections import open_connection
from ledger.store.store import Store
from projections.engine.registration import register_missing
from projections.read_models.catalog import PROJECTIONS

ACCOUNT = "acct_benchmark"
ACTOR = "key_benchmark"
REQUEST = "req_benchmark"
CAUSE = Cause(ACCOUNT, False, ACTOR, REQUEST, None)
SECRET_KEY = b"a key of 32 bytes for benchmarks"


@contextmanager
def open_store(dsn: str, **settings: object) -> Iterator[tuple[asyncio.Runner, Store]]:
    """Start a store. Yields the runner of its event loop and the store; at the end all appends are
    committed."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        store = Store(dsn, SECRET_KEY, load_settings(**settings), Clock())
        runner.run(store.start())
        try:
            yield runner, store
        finally:
            runner.run(store.close())


async def register_projections(dsn: str) -> None:
    """Give each projection its first generation, empty and live."""
    async with open_connection(dsn, "ledger_projector", name="benchmark") as conn:
        await register_missing(conn, PROJECTIONS)
