"""The log as a publisher reads it: up to where it is durable, as items of the feed."""

from __future__ import annotations

from typing import NamedTuple

from ledger.errors import LedgerError
from ledger.feed.jetstream.placeholder import render
from ledger.logs import OwnWords
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, ReconnectingConnection, fetch_one
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.store.durability import WAITS_FOR_STANDBYS
from ledger.store.log import read_log
from ledger.store.store import Store

READ_AT_ONCE = 256

_HEAD = f"""
SELECT h.position, {WAITS_FOR_STANDBYS}, ledger.is_active_database() FROM ledger.head h
"""  # noqa: S608 (a constant)


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
    """Reads the log on a connection of its own. Calls raise psycopg.OperationalError and Unavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection = ReconnectingConnection(
            store.dsn,
            "ledger_api",
            name="feed publisher",
            settings=LOCAL_COMMITS,
            answer_seconds=BACKGROUND_ANSWER_SECONDS,
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.drop()

    async def read_head(self) -> Head:
        """The end of the log now."""
        async with self._connection as conn:
            row = await fetch_one(conn, _HEAD)
        assert row is not None, "the log has a head"
        position, waits_for_standbys, is_active = row
        durable = await self._store.durability.limit(position, waits_for_standbys=waits_for_standbys)
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
        """The items of the positions after `after` up to `upto`, which the log has."""
        async with self._connection as conn:
            return render(await read_log(conn, self._store.codec, after, upto - after))

    async def wait_past(self, position: int, *, timeout_seconds: float) -> None:
        """Wait until the log is known to have a later position, or until the timeout."""
        await self._store.notifier.wait_past(position, timeout_seconds=timeout_seconds)
