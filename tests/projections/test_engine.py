"""The engine under failure and competition: rows and checkpoints move together or not at all."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.metrics import Metrics
from ledger.postgres.connections import connected
from projections.engine import registry
from projections.engine.assignment import LOOK_SECONDS
from projections.engine.engine import Engine
from projections.engine.registry import PROJECTIONS
from projections.projection import Column, Projection
from projections.read_models.feed import FEED
from tests.projections.histories import Author, catch_up, engine, fresh_generation, rows, running


async def caught_up(conn: AsyncConnection[TupleRow]) -> None:
    async with asyncio.timeout(10):
        while True:
            found = await registry.status(conn, now=0.0)
            if found and not any(status.lag.events for status in found):
                return
            await asyncio.sleep(0.01)


async def rebuilt_equals_live(conn: AsyncConnection[TupleRow], dsn: str) -> None:
    generation = await fresh_generation(conn)
    await catch_up(dsn)
    assert await rows(conn, generation) == await rows(conn, 1)


def with_feed(**other: Any) -> list[Projection]:
    """All projections, the feed's being another one."""
    return [dataclasses.replace(FEED, **other) if each is FEED else each for each in PROJECTIONS]


async def deadly_after_writing(dsn: str, *, times: int) -> None:
    """`public.die()` ends the connection that calls it, the first `times` times."""
    async with await AsyncConnection.connect(dsn, autocommit=True) as owner:
        await owner.execute(
            "CREATE SEQUENCE public.deaths; CREATE FUNCTION public.die() RETURNS void LANGUAGE sql"
            " SECURITY DEFINER AS $$ SELECT pg_terminate_backend(pg_backend_pid())"
            f" WHERE nextval('public.deaths') <= {times} $$"
        )


def test_a_crash_before_commit_changes_nothing_and_the_batch_is_applied_once(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.charge()
        await deadly_after_writing(dsn, times=1000)
        broken = with_feed(checked="SELECT public.die()")
        async with connected(dsn, "ledger_projector", name="test") as conn:
            with pytest.raises(psycopg.OperationalError):
                await catch_up(dsn, projections=broken)
            assert not any((await rows(conn, 1)).values())
            assert {status.lag.position for status in await registry.status(conn, now=0.0)} == {0}
            await catch_up(dsn)
            await catch_up(dsn)
            written = {table: len(found) for table, found in (await rows(conn, 1)).items() if found}
            assert written == {"charges": 1, "postings": 3, "balance_transactions": 1, "feed": 1}

    running(dsn, story)


def test_a_connection_killed_in_a_batch_is_survived(dsn: str) -> None:
    async def story(author: Author) -> None:
        for _ in range(5):
            await author.charge()
        await deadly_after_writing(dsn, times=2)
        async with (
            connected(dsn, "ledger_projector", name="test") as conn,
            engine(dsn, projections=with_feed(checked="SELECT public.die()")) as each,
        ):
            task = asyncio.create_task(each.run())
            await caught_up(conn)
            assert each.stats.failures == 2
            assert not each.stats.failing
            await author.charge()
            await caught_up(conn)
            await each.close()
            await task
            assert len((await rows(conn, 1))["feed"]) == 6
            await rebuilt_equals_live(conn, dsn)

    running(dsn, story)


def test_two_engines_on_one_database_write_every_row_once(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with (
            connected(dsn, "ledger_projector", name="test") as conn,
            engine(dsn, batch_max=3, poll_ms=1) as one,
            engine(dsn, batch_max=2, poll_ms=1) as other,
        ):
            tasks = [asyncio.create_task(each.run()) for each in (one, other)]
            await asyncio.sleep(2 * LOOK_SECONDS)  # each knows of the other: alone, one may do it all
            for number in range(60):
                await author.act("create_charge", number, number)
                await author.act("update_charge", number, number)
            await caught_up(conn)
            for each in (one, other):
                assert each.stats.failures == 0
                await each.close()
            await asyncio.gather(*tasks)
            assert one.stats.events > 0
            assert other.stats.events > 0
            await rebuilt_equals_live(conn, dsn)

    running(dsn, story)


def test_many_processes_begin_at_once(dsn: str) -> None:
    async def begin() -> None:
        async with connected(dsn, "ledger_projector", name="test") as conn:
            await registry.ensure(conn)

    async def story(author: Author) -> None:
        await asyncio.gather(*(begin() for _ in range(6)))
        async with connected(dsn, "ledger_projector", name="test") as conn:
            found = await registry.status(conn, now=0.0)
        assert [(status.lag.projection, status.lag.generation, status.lag.live) for status in found] == [
            (name, 1, True) for name in sorted(projection.name for projection in PROJECTIONS)
        ]

    running(dsn, story)


def test_the_runners_own_wake_brings_new_events_without_a_poll(dsn: str) -> None:
    async def story(author: Author) -> None:
        store = author.store
        each = Engine(dsn, store.codec, store.clock, store.wake, poll_ms=60_000)
        task = asyncio.create_task(each.run())
        async with connected(dsn, "ledger_projector", name="test") as conn:
            for _ in range(3):
                await author.charge()
                await caught_up(conn)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await each.close()

    running(dsn, story)


def test_a_generation_being_filled_does_not_hold_up_the_live_one(dsn: str) -> None:
    async def story(author: Author) -> None:
        for number in range(30):
            await author.act("create_customer", number, number)
        await catch_up(dsn)
        async with (
            connected(dsn, "ledger_projector", name="test") as conn,
            engine(dsn, batch_max=5) as each,
        ):
            generation = await fresh_generation(conn)
            await author.charge()
            await each.advance()
            await each.advance()
            positions = {
                status.lag.position
                for status in await registry.status(conn, now=0.0)
                if status.lag.generation == 1
            }
            assert positions == {31}
            while not (await each.advance()).caught_up:
                pass
            assert await rows(conn, generation) == await rows(conn, 1)

    running(dsn, story)


def test_projections_that_meet_share_their_batches_from_then_on(dsn: str) -> None:
    async def story(author: Author) -> None:
        for _ in range(4):
            await author.charge()
        await catch_up(dsn, projections=[FEED], batch_max=10)
        async with engine(dsn, batch_max=10) as each:
            assert (await each.advance()).events == 4
            await author.charge()
            assert (await each.advance()).events == 1
            assert (await each.advance()).caught_up

    running(dsn, story)


def test_status_tells_lag_and_it_grows_while_nothing_moves(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.charge()
        await catch_up(dsn)
        async with connected(dsn, "ledger_projector", name="test") as conn:
            recent = author.store.clock.now()
            assert {(s.lag.events, s.lag.seconds) for s in await registry.status(conn, now=recent)} == {
                (0, 0.0)
            }
            await author.charge()
            await author.charge()
            late = await registry.status(conn, now=author.store.clock.now() + 60)
            assert {status.lag.events for status in late} == {2}
            assert all(60 <= status.lag.seconds < 70 for status in late)

    running(dsn, story)


def test_a_projection_that_fails_as_a_whole_stays_behind_alone(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.charge()
        broken = with_feed(columns=(*FEED.columns[:-1], Column("no_such_column", "text")))
        async with connected(dsn, "ledger_projector", name="test") as conn:
            async with engine(dsn, projections=broken) as each:
                assert (await each.advance()).events == 1
                assert not (await each.advance()).caught_up
                assert list(each.stats.failing) == ["feed_g1"]
                assert "UndefinedColumn" in each.stats.failing["feed_g1"]
            behind = [s.lag.projection for s in await registry.status(conn, now=0.0) if s.lag.events]
            assert behind == ["feed"]
            later = await registry.status(conn, now=author.store.clock.now() + 60)
            assert [status.lag.projection for status in later if status.still] == ["feed"]
            metrics = Metrics()
            metrics.exposition([status.lag for status in later], {}, None)
            told = metrics.exposition([status.lag for status in later], {}, None).decode()
            still = re.findall(
                r'^ledger_stands_still_seconds{.*projection="(\w+)"} (.+)$', told, re.MULTILINE
            )
            assert [name for name, seconds in still if float(seconds) > 0] == ["feed"]
            await catch_up(dsn)
            assert len((await rows(conn, 1))["feed"]) == 1

    running(dsn, story)


def test_a_view_that_is_far_behind_and_moves_does_not_stand_still(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.charge()
        await catch_up(dsn)
        await author.charge()
        async with connected(dsn, "ledger_projector", name="test") as conn:
            looking = asyncio.create_task(registry.status(conn, now=author.store.clock.now() + 60))
            await asyncio.sleep(0.2)
            await catch_up(dsn)
            assert not any(status.still for status in await looking)

    running(dsn, story)


def test_the_projector_cannot_append(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with connected(dsn, "ledger_projector", name="test") as conn:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute("UPDATE ledger.head SET position = 0")

    running(dsn, story)
