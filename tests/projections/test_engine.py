"""The engine under failure and competition: rows and checkpoints move together or not at all."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from ledger.metrics import Metrics
from ledger.postgres.connections import Conn, open_connection
from projections.engine import registry
from projections.engine.assignment import REFRESH_SECONDS
from projections.engine.engine import Engine
from projections.engine.registry import PROJECTIONS
from projections.projection import Column, Projection
from projections.read_models.feed import FEED
from tests.projections.histories import Author, catch_up, create_generation, load_rows, open_engine, run_story


async def caught_up(conn: Conn) -> None:
    async with asyncio.timeout(10):
        while True:
            found = await registry.load_statuses(conn, now=0.0)
            if found and not any(status.lag.events for status in found):
                return
            await asyncio.sleep(0.01)


async def rebuilt_equals_live(conn: Conn, dsn: str) -> None:
    generation = await create_generation(conn)
    await catch_up(dsn)
    assert await load_rows(conn, generation) == await load_rows(conn, 1)


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
        await author.create_charge()
        await deadly_after_writing(dsn, times=1000)
        broken = with_feed(constraint_check_sql="SELECT public.die()")
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            with pytest.raises(psycopg.OperationalError):
                await catch_up(dsn, projections=broken)
            assert not any((await load_rows(conn, 1)).values())
            assert {status.lag.position for status in await registry.load_statuses(conn, now=0.0)} == {0}
            await catch_up(dsn)
            await catch_up(dsn)
            written = {table: len(found) for table, found in (await load_rows(conn, 1)).items() if found}
            assert written == {"charges": 1, "postings": 3, "balance_transactions": 1, "feed": 1}

    run_story(dsn, story)


def test_a_connection_killed_in_a_batch_is_survived(dsn: str) -> None:
    async def story(author: Author) -> None:
        for _ in range(5):
            await author.create_charge()
        await deadly_after_writing(dsn, times=2)
        async with (
            open_connection(dsn, "ledger_projector", name="test") as conn,
            open_engine(dsn, projections=with_feed(constraint_check_sql="SELECT public.die()")) as each,
        ):
            task = asyncio.create_task(each.run())
            await caught_up(conn)
            assert each.stats.failures == 2
            assert not each.stats.current_errors
            await author.create_charge()
            await caught_up(conn)
            await each.close()
            await task
            assert len((await load_rows(conn, 1))["feed"]) == 6
            await rebuilt_equals_live(conn, dsn)

    run_story(dsn, story)


def test_two_engines_on_one_database_write_every_row_once(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with (
            open_connection(dsn, "ledger_projector", name="test") as conn,
            open_engine(dsn, batch_max=3, poll_ms=1) as one,
            open_engine(dsn, batch_max=2, poll_ms=1) as other,
        ):
            tasks = [asyncio.create_task(each.run()) for each in (one, other)]
            await asyncio.sleep(2 * REFRESH_SECONDS)  # each knows of the other: alone, one may do it all
            for number in range(60):
                await author.run_command("create_charge", number, number)
                await author.run_command("update_charge", number, number)
            await caught_up(conn)
            for each in (one, other):
                assert each.stats.failures == 0
                await each.close()
            await asyncio.gather(*tasks)
            assert one.stats.events > 0
            assert other.stats.events > 0
            await rebuilt_equals_live(conn, dsn)

    run_story(dsn, story)


def test_many_processes_begin_at_once(dsn: str) -> None:
    async def begin() -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await registry.register_missing(conn)

    async def story(author: Author) -> None:
        await asyncio.gather(*(begin() for _ in range(6)))
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            found = await registry.load_statuses(conn, now=0.0)
        assert [(status.lag.projection, status.lag.generation, status.lag.live) for status in found] == [
            (name, 1, True) for name in sorted(projection.name for projection in PROJECTIONS)
        ]

    run_story(dsn, story)


def test_the_runners_own_wake_brings_new_events_without_a_poll(dsn: str) -> None:
    async def story(author: Author) -> None:
        store = author.store
        each = Engine(dsn, store.codec, store.clock, store.notifier, poll_ms=60_000)
        task = asyncio.create_task(each.run())
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            for _ in range(3):
                await author.create_charge()
                await caught_up(conn)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await each.close()

    run_story(dsn, story)


def test_a_generation_being_filled_does_not_hold_up_the_live_one(dsn: str) -> None:
    async def story(author: Author) -> None:
        for number in range(30):
            await author.run_command("create_customer", number, number)
        await catch_up(dsn)
        async with (
            open_connection(dsn, "ledger_projector", name="test") as conn,
            open_engine(dsn, batch_max=5) as each,
        ):
            generation = await create_generation(conn)
            await author.create_charge()
            await each.advance()
            await each.advance()
            positions = {
                status.lag.position
                for status in await registry.load_statuses(conn, now=0.0)
                if status.lag.generation == 1
            }
            assert positions == {31}
            while not (await each.advance()).caught_up:
                pass
            assert await load_rows(conn, generation) == await load_rows(conn, 1)

    run_story(dsn, story)


def test_projections_that_meet_share_their_batches_from_then_on(dsn: str) -> None:
    async def story(author: Author) -> None:
        for _ in range(4):
            await author.create_charge()
        await catch_up(dsn, projections=[FEED], batch_max=10)
        async with open_engine(dsn, batch_max=10) as each:
            assert (await each.advance()).events == 4
            await author.create_charge()
            assert (await each.advance()).events == 1
            assert (await each.advance()).caught_up

    run_story(dsn, story)


def test_status_tells_lag_and_it_grows_while_nothing_moves(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_charge()
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            recent = author.store.clock.now()
            assert {
                (s.lag.events, s.lag.seconds) for s in await registry.load_statuses(conn, now=recent)
            } == {(0, 0.0)}
            await author.create_charge()
            await author.create_charge()
            late = await registry.load_statuses(conn, now=author.store.clock.now() + 60)
            assert {status.lag.events for status in late} == {2}
            assert all(60 <= status.lag.seconds < 70 for status in late)

    run_story(dsn, story)


def test_a_projection_that_fails_as_a_whole_stays_behind_alone(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_charge()
        broken = with_feed(columns=(*FEED.columns[:-1], Column("no_such_column", "text")))
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            async with open_engine(dsn, projections=broken) as each:
                assert (await each.advance()).events == 1
                assert not (await each.advance()).caught_up
                assert list(each.stats.current_errors) == ["feed_g1"]
                assert "UndefinedColumn" in each.stats.current_errors["feed_g1"]
            behind = [s.lag.projection for s in await registry.load_statuses(conn, now=0.0) if s.lag.events]
            assert behind == ["feed"]
            later = await registry.load_statuses(conn, now=author.store.clock.now() + 60)
            assert [status.lag.projection for status in later if status.stalled] == ["feed"]
            metrics = Metrics()
            metrics.render([status.lag for status in later], {}, None)
            told = metrics.render([status.lag for status in later], {}, None).decode()
            still = re.findall(
                r'^ledger_stands_still_seconds{.*projection="(\w+)"} (.+)$', told, re.MULTILINE
            )
            assert [name for name, seconds in still if float(seconds) > 0] == ["feed"]
            await catch_up(dsn)
            assert len((await load_rows(conn, 1))["feed"]) == 1

    run_story(dsn, story)


def test_a_view_that_is_far_behind_and_moves_does_not_stand_still(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_charge()
        await catch_up(dsn)
        await author.create_charge()
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            looking = asyncio.create_task(registry.load_statuses(conn, now=author.store.clock.now() + 60))
            await asyncio.sleep(0.2)
            await catch_up(dsn)
            assert not any(status.stalled for status in await looking)

    run_story(dsn, story)


def test_the_projector_cannot_append(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute("UPDATE ledger.head SET position = 0")

    run_story(dsn, story)
