"""The sealer: the tree follows the log, whatever happens in between, and never signs over a damaged one."""

from __future__ import annotations

import asyncio

import pytest

from ledger.postgres.connections import Conn, open_connection
from ledger.store.journal import Append
from ledger.store.store import Store
from ledger.tlog.checkpoints import open_checkpoint
from ledger.tlog.tiles import list_tiles
from ledger.tree import sealer
from ledger.tree.keys import list_keys
from ledger.tree.storage import read_root, read_tile, read_tree_head
from tests.store.stores import CAUSE, create_change, open_store
from tests.tree.sealed import compute_root, make_sealer


def open_reader(dsn: str) -> AbstractAsyncContextManager[Conn]:
    return open_connection(dsn, "ledger_api", name="reader")


async def append_many(store: Store, begin: int, end: int) -> None:
    """In one transaction."""
    await store.journal.append(Append(CAUSE, [create_change(f"cus_{n}") for n in range(begin, end)]))


async def check_tree(conn: Conn, size: int) -> None:
    """The stored tree is that of the first `size` records, and a key of the log signed it."""
    head = await read_tree_head(conn)
    keys = [key.verifier for key in await list_keys(conn)]
    signed = open_checkpoint(head.note, *keys)
    root = await compute_root(conn, size)
    assert (head.size, head.root, head.error) == (size, root, None)
    assert (signed.size, signed.root) == (size, root)
    assert await read_root(conn, size) == root
    for tile in list_tiles(size):
        assert tile.level is not None
        hashes = await read_tile(conn, tile.level, tile.number)
        assert hashes is not None
        assert len(hashes) == tile.width * 32


def test_the_tree_grown_step_by_step_is_the_tree_hashed_from_scratch(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "BATCH_EVENTS_MAX", 300)

    async def main() -> None:
        async with (
            open_store(dsn) as store,
            make_sealer(store) as own,
            open_connection(dsn, "ledger_api", name="t") as conn,
        ):
            assert await own.seal() == (0, 0, False)
            await check_tree(conn, 0)
            size = 0
            for grown in (1, 2, 3, 255, 256, 257, 511, 512, 700, 1500):
                await append_many(store, size, grown)
                size = grown
                while (await own.seal()).remaining:
                    pass
                await check_tree(conn, size)
            for old in (1, 2, 255, 256, 257, 700, 1499):
                assert await read_root(conn, old) == await compute_root(conn, old)

    asyncio.run(main())
