"""A runner as a process: `python runner_process.py DSN`. Says that it runs; ends by being killed."""

from __future__ import annotations

import asyncio
import sys

from ledger.clock import Clock
from ledger.store.codec import Codec
from ledger.store.notifications import HeadNotifier
from projections.engine.engine import Engine
from tests.projections.histories import KEY


async def run(dsn: str) -> None:
    engine = Engine(dsn, Codec(KEY), Clock(movable=True), HeadNotifier(dsn, "ledger_projector"), poll_ms=20)
    await engine.advance()
    print("ready", flush=True)
    await engine.run()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
