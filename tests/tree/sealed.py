"""Short ways to a sealed log, and to what the tree must then be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ledger.postgres.connections import Conn
from ledger.store.store import Store
from ledger.tlog.merkle import Frontier
from ledger.tree.keys import Keyring
from ledger.tree.records import derive_leaf_hash
from ledger.tree.sealer import Sealer
from ledger.tree.storage import read_records
from tests.store.stores import KEY, create_customer


@asynccontextmanager
async def make_sealer(store: Store, *, checkpoint_seconds: int = 60) -> AsyncIterator[Sealer]:
    """A sealer that seals when it is called; its connection is closed at the end."""
    sealer = Sealer(store, Keyring(KEY), pause_ms=1, checkpoint_seconds=checkpoint_seconds)
    try:
        yield sealer
    finally:
        await sealer.close()


async def append_customers(store: Store, begin: int, end: int) -> None:
    """One event for each number."""
    for number in range(begin, end):
        await store.journal.append(create_customer(f"cus_{number}"))


async def compute_root(conn: Conn, size: int) -> bytes:
    """The root of the first records, hashed by Python from scratch."""
    frontier = Frontier()
    async for page in read_records(conn, 0, size):
        for record in page:
            frontier.append(derive_leaf_hash(record))
    assert frontier.size == size
    return frontier.root
