"""A process that writes: `writer.py DSN NAME WRITERS COMMANDS SHARED`.

Each of WRITERS concurrent writers creates a customer of its own, then gives COMMANDS commands, alternately
to its own customer and to the customer SHARED with other processes; a lost race is decided again. What is
acknowledged is printed at once: position, stream, version.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from ledger.store.journal import VersionConflict
from ledger.store.store import Store
from tests.store.stores import create_customer, open_store, rename_customer


async def write(dsn: str, name: str, writers: int, commands: int, shared: str) -> None:
    async with open_store(dsn) as store:
        print("ready", flush=True)
        await asyncio.gather(*(_write(store, f"cus_{name}_{n}", commands, shared) for n in range(writers)))


async def _write(store: Store, own: str, commands: int, shared: str) -> None:
    _acknowledge(await store.journal.append(create_customer(own)), own, 1)
    for number in range(commands):
        await _rename(store, (own, shared)[number % 2], f"{own} {number}")


async def _rename(store: Store, stream: str, name: str) -> None:
    state = store.streams.get_cached(stream) or await store.streams.read(stream)
    while True:
        assert state is not None
        try:
            position = await store.journal.append(rename_customer(state, name))
        except VersionConflict:
            state = await store.streams.read(stream)
        else:
            _acknowledge(position, stream, state.version + 1)
            return


def _acknowledge(position: int, stream: str, version: int) -> None:
    print(position, stream, version, flush=True)


if __name__ == "__main__":
    uvloop.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
