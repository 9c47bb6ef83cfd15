"""Events as they come, for a command that runs until it is stopped: of one account, and of those connected to
it, in the order of the log.

It reads the live feed behind a position of its own, so it misses none and gives none twice, also after the
database or the service was lost meanwhile; it writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import psycopg

from ledger.cli.events.event_lines import print_notice, to_plain
from ledger.config import Settings
from ledger.errors import LedgerError
from ledger.postgres.connections import SNAPSHOT_FIRST, Conn, fetch_one, first_line, open_connection
from ledger.postgres.deployment import read_running_database
from ledger.queries.events import render_event
from ledger.queries.thin_events import render_event_notification
from ledger.service_key import load_service_keys
from ledger.store.codec import Codec
from ledger.store.notifications import APPLIED_CHANNEL, CHANNEL
from ledger.stripe_cli.feed import ListenerEvent, read_events

POLL_SECONDS = 0.25
"""How long to wait for a notification before looking for what it would announce."""
RETRY_SECONDS = 1.0

_LISTEN = f"LISTEN {CHANNEL}; LISTEN {APPLIED_CHANNEL}"
_HEAD = "SELECT position FROM ledger.head"

Report = Callable[[str], None]
Render = Callable[[ListenerEvent, str], dict[str, Any]]
"""Renders an Event for an account, which may be the platform of the Event's own account."""


class LiveEvents(NamedTuple):
    """Which Events: those of `account` in one mode, and of the accounts connected to it; of these types, or
    of all."""

    settings: Settings
    account: str
    livemode: bool
    types: frozenset[str] | None

    async def read(self, after: int, *, report: Report | None = None) -> AsyncGenerator[ListenerEvent, None]:
        """The Events after the position `after`, without an end. `report` is called with a line for people
        when the database is lost, and when it is back."""
        lost = False
        while True:
            try:
                dsn, configured = read_running_database(self.settings)
                codec = Codec(await load_service_keys(self.settings, dsn, configured))
                async with open_connection(dsn, "ledger_api", name="events", settings=SNAPSHOT_FIRST) as conn:
                    await conn.execute(_LISTEN, prepare=False)
                    while True:
                        batch = await read_events(conn, codec, self.account, self.livemode, after)
                        if lost and report is not None:
                            report("the database is back")
                        lost = False
                        for found in batch.events:
                            if self.types is None or found.event.type in self.types:
                                yield found
                        after = batch.upto
                        if after >= batch.head:
                            await _wait_for_more(conn)
            except (psycopg.Error, LedgerError) as error:
                if not lost and report is not None:
                    report(f"the database is lost, trying again: {_explain(error)}")
                lost = True
            await asyncio.sleep(RETRY_SECONDS)


async def print_live(
    live_events: LiveEvents, after: int, print_event: Callable[[dict[str, Any]], None], render: Render
) -> None:
    """Call `print_event` with each Event after the position `after`, without an end; the loss of the database
    is told on standard error."""
    async with aclosing(live_events.read(after, report=print_notice)) as events:
        async for found in events:
            print_event(to_plain(render(found, live_events.account)))


def render_snapshot(found: ListenerEvent, account: str) -> dict[str, Any]:
    """The Event with its object, as a webhook endpoint of `account` gets it."""
    return render_event(found.event, account=_find_owner(found, account))


def render_thin(found: ListenerEvent, account: str) -> dict[str, Any]:
    """The thin event, as an event destination of `account` gets it."""
    return render_event_notification(found.event, account=_find_owner(found, account))


def _find_owner(found: ListenerEvent, account: str) -> str | None:
    """Whose Event it is, if it is not the account's own."""
    return found.account if found.account != account else None


async def read_head(conn: Conn) -> int:
    """The last position of the log: what comes after it is new. Raises psycopg.Error."""
    row = await fetch_one(conn, _HEAD)
    assert row is not None, "a migrated database has a head"
    return int(row[0])


async def _wait_for_more(conn: Conn) -> None:
    async for _ in conn.notifies(timeout=POLL_SECONDS, stop_after=1):
        pass


def _explain(error: Exception) -> str:
    return first_line(error) if isinstance(error, psycopg.Error) else str(error)
