"""Our store as one process runs it, on the event loop that the service runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from ledger.call import Cause
from ledger.clock import Clock
from ledger.config import load_settings
from ledger.store.store import Store

ACCOUNT = "acct_benchmark"
ACTOR = "key_benchmark"
REQUEST = "req_benchmark"
CAUSE = Cause(ACCOUNT, False, ACTOR, REQUEST, None)
SECRET_KEY = b"a key of 32 bytes for benchmarks"


@contextmanager
def open_store(dsn: str, **settings: object) -> Iterator[tuple[asyncio.Runner, Store]]:
    """A started store and the runner of its loop; everything appended is committed at the end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        store = Store(dsn, SECRET_KEY, load_settings(**settings), Clock())

        async def start() -> None:
            store.start()

        runner.run(start())
        try:
            yield runner, store
        finally:
            runner.run(store.close())
