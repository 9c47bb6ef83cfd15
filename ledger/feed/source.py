"""The log as publishers and commands read it: up to where it is durable, as items of the feed."""

from __future__ import annotations

from typing import NamedTuple

from ledger.errors import LedgerError
from ledger.feed.blocks import Block
from ledger.feed.history import BlockReader
from ledger.logs import OwnWords
from ledger.postgres.statements import StatementPool, parse_statement
from ledger.store.durability import WAITS_FOR_STANDBYS
from ledger.store.log import PLANNER_SETTINGS
from ledger.store.store import Store

NAME = "feed source"
READ_AT_ONCE = 256

_HEAD = parse_statement(f"""
SELECT h.position, {WAITS_FOR_STANDBYS}, ledger.is_active_database() FROM ledger.head h
""")  # noqa: S608 (a constant)


class Head(NamedTuple):
    """The end of the log.

    position   the last one
    durable    the last one that the standbys are known to have
    is_active  whether this database is the one that acts, and no copy
    """

    position: int
    durable: int
    is_active: bool


class CopyOfLedger(LedgerError, OwnWords):
    """The database is a copy of the one that acts: its log may go on otherwise, and nobody is to see that."""


class LogSource:
    """Reads the log on connections of its own. Calls raise Unavailable."""

    def __init__(self, store: Store) -> None:
        self._durability = store.durability
        self._notifier = store.notifier
        self._blocks = BlockReader(store.dsn, store.codec, name=NAME, connections_max=1)
        self._heads = StatementPool(
            store.dsn, "ledger_api", name=NAME, settings=PLANNER_SETTINGS, connections_max=1
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._blocks.close()
        await self._heads.close()

    async def read_head(self) -> Head:
        """The end of the log now."""
        ((position, waits_for_standbys, is_active),) = await self._heads.fetch(_HEAD, {})
        durable = await self._durability.limit(position, waits_for_standbys=waits_for_standbys)
        return Head(position, durable, is_active)

    async def read_durable(self) -> int:
        """The last position that may be published now. Raises CopyOfLedger."""
        head = await self.read_head()
        if not head.is_active:
            raise CopyOfLedger(
                "this database is a copy, from which nothing is published; to make it the one that acts: "
                "ledger webhooks resume"
            )
        return head.durable

    async def read(self, after: int, upto: int) -> list[bytes]:
        """The items of the positions after `after` up to `upto`, which the log has, without line feeds."""
        block = await self.read_block(after, upto)
        return [block.get_line(position)[:-1] for position in range(after + 1, upto + 1)]

    async def read_block(self, after: int, upto: int) -> Block:
        """The same as a block."""
        return await self._blocks.read(after, upto)

    async def wait_past(self, position: int, *, timeout_seconds: float) -> None:
        """Wait until the log is known to have a later position, or until the timeout."""
        await self._notifier.wait_past(position, timeout_seconds=timeout_seconds)
