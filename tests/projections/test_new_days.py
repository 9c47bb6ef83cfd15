"""A reader whose statement is being planned while the engine makes a day sees the Events of that day, or an
older log: never the checkpoint without the Events, neither then nor afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import psycopg
from psycopg.sql import SQL, Identifier

from ledger.call import Call, Cause
from ledger.metrics.prometheus import Metrics
from ledger.postgres.connections import fetch_one, open_connection
from ledger.queries.events import EVENTS
from ledger.stripe_cli.feed import read_events
from ledger.stripe_cli.listeners import Listeners
from ledger.webhooks.fanout import Fanout
from ledger.wire.versions import LATEST_VERSION
from tests.projections.histories import ACCOUNT, Author, open_engine, run_story
from tests.projections.queries import open_queries
from tests.webhooks.test_fanout import create_endpoint

WAIT_SECONDS = 60
_IS_WAITING = """
SELECT FROM pg_locks
WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

Result = TypeVar("Result")


async def read_across_a_new_day(author: Author, read: Callable[[], Awaitable[Result]]) -> Result:
    """What `read` returns of two charges, the first time that it is asked, if the engine makes the day of the
    second one while the statement is being planned."""
    async with (
        open_engine(author.dsn) as engine,
        open_connection(author.dsn, "ledger_projector", name="test") as conn,
    ):
        await author.create_charge()
        await engine.advance()
        today = Identifier("projections", f"feed_g1_d{datetime.fromtimestamp(author.now, UTC):%Y%m%d}")
        async with conn.transaction():
            # Planning a query of the feed locks each partition. The engine needs none that has rows.
            await conn.execute(SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(today))
            reading = asyncio.ensure_future(read())
            async with asyncio.timeout(WAIT_SECONDS):
                while await fetch_one(conn, _IS_WAITING) is None:  # noqa: ASYNC110  # the server tells nobody
                    await asyncio.sleep(0.01)
            await author.advance_clock(days=7)
            await author.create_charge()
            assert (await engine.advance()).events == 1
            assert not reading.done()
        return await reading


def test_a_list_is_as_new_as_it_says(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_queries(author) as queries:
            call = Call(Cause(ACCOUNT, False, "key_test", "req_test", None), "", {})
            progress, rows = await read_across_a_new_day(
                author, lambda: queries.pages.fetch_whole(call, EVENTS, {})
            )
            assert max(row[-2] for row in rows) == progress.checkpoint
            progress, rows = await queries.pages.fetch_whole(call, EVENTS, {})
            assert max(row[-2] for row in rows) == progress.checkpoint == progress.head

    run_story(dsn, story)


def test_a_listener_misses_no_event(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute(
            "INSERT INTO ledger.accounts (id, name, api_version) VALUES (%s, 'A test', %s)",
            (ACCOUNT, LATEST_VERSION),
        )

    async def story(author: Author) -> None:
        listeners = Listeners(author.store, Metrics())
        async with listeners._tail_connection as conn:
            batch = await read_across_a_new_day(
                author, lambda: read_events(conn, author.store.codec, ACCOUNT, False, 0)
            )
            assert batch.events[-1].position == batch.upto
            later = await read_events(conn, author.store.codec, ACCOUNT, False, batch.upto)
            assert [found.position for found in (*batch.events, *later.events)] == [1, 2]
        await listeners.close()

    run_story(dsn, story)


def test_the_fan_out_passes_no_event_by(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_engine(dsn) as engine:
            await engine.advance()
            await create_endpoint(author)
            await engine.advance()
        fanout = Fanout(author.store)
        while (await fanout.advance()).checkpoint_moved:
            pass
        await fanout.close()  # the next one plans its statements anew
        first = await read_across_a_new_day(author, fanout.advance)
        assert (first.new_deliveries, first.has_more) == (1, False)
        assert (await fanout.advance()).new_deliveries == 1
        await fanout.close()

    run_story(dsn, story)
