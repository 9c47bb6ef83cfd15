"""The feed by position of one process: the log as items, up to what is durable."""

from __future__ import annotations

from ledger.feed.history import BlockReader, History
from ledger.postgres.statements import StatementPool, parse_statement
from ledger.store.durability import WAITS_FOR_STANDBYS
from ledger.store.log import PLANNER_SETTINGS
from ledger.store.store import Store

_HEAD = parse_statement(f"SELECT position, {WAITS_FOR_STANDBYS} FROM ledger.head")  # noqa: S608


class Feed:
    """What the readers of one process share."""

    def __init__(self, store: Store) -> None:
        self._durability = store.durability
        self._heads = StatementPool(
            store.dsn, "ledger_api", name="feed", settings=PLANNER_SETTINGS, connections_max=1
        )
        self.history = History(BlockReader(store.dsn, store.codec, name="feed history"))

    async def start(self) -> None:
        """Nothing yet: connections are opened when they are needed."""

    async def close(self) -> None:
        """Close all connections."""
        await self.history.close()
        await self._heads.close()

    async def read_head(self) -> tuple[int, int]:
        """The last position of the log that is durable, and the last one that there is. Raises
        Unavailable."""
        ((head, waits_for_standbys),) = await self._heads.fetch(_HEAD, {})
        return await self._durability.limit(head, waits_for_standbys=waits_for_standbys), head
