"""A runner for a process of its own.

It prints `ready` once it runs, and runs until it is killed. At `stop_position` (0: nowhere) it stops itself
within a batch, as SIGSTOP from outside would.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import Sequence

from ledger.domain.aggregate import State
from ledger.store.log import Recorded
from projections.projection import Projection, Row
from projections.read_models.catalog import PROJECTIONS
from projections.read_models.lists import CUSTOMERS
from tests.projections.histories import open_engine


def create_stopping_projections(position: int) -> list[Projection]:
    """All projections; that of customers stops this process at the event at `position`."""

    def apply(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
        if recorded.position == position:
            os.kill(os.getpid(), signal.SIGSTOP)
        return CUSTOMERS.apply(before, recorded, after)

    return [
        dataclasses.replace(CUSTOMERS, apply=apply) if each is CUSTOMERS else each for each in PROJECTIONS
    ]


def run(dsn: str, stop_position: int) -> None:
    """Run in this process, for ever."""
    asyncio.run(_run(dsn, stop_position))


async def _run(dsn: str, stop_position: int) -> None:
    async with open_engine(dsn, projections=create_stopping_projections(stop_position)) as engine:
        await engine.start()
        print("ready", flush=True)
        await asyncio.Event().wait()
