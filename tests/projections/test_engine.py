"""The engine under failure and competition: rows and checkpoints move together or not at all."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection
from structlog.testing import capture_logs

from ledger.domain.aggregate import State
from ledger.domain.customer import CustomerCreated
from ledger.lru import LruCache
from ledger.metrics.backlogs import Measured
from ledger.metrics.prometheus import Metrics
from ledger.postgres.connections import Conn, open_connection
from ledger.postgres.pipelines import run_together
from ledger.store.codec import evolve
from ledger.store.log import Recorded, decode_with_keys
from projections.engine.aggregates import AggregateCache
from projections.engine.assignment import REFRESH_SECONDS
from projections.engine.engine import Engine
from projections.engine.read_ahead import ReadAhead
from projections.engine.registration import register_missing
from projections.engine.status import load_statuses
from projections.engine.writes import write_each
from projections.projection import Column, Projection, Row
from projections.read_models.catalog import PROJECTIONS
from projections.read_models.feed import FEED
from projections.read_models.lists import CUSTOMERS
from tests.projections.histories import Author, catch_up, create_generation, load_rows, open_engine, run_story
from tests.work import record_runs


async def wait_until_caught_up(conn: Conn) -> None:
    async with asyncio.timeout(10):
        while True:
            found = await load_statuses(conn, now=0.0)
            if found and not any(status.lag.events for status in found):
                return
            await asyncio.sleep(0.01)


async def assert_rebuilt_equals_live(conn: Conn, dsn: str) -> None:
    generation = await create_generation(conn)
    await catch_up(dsn)
    assert await load_rows(conn, generation) == await load_rows(conn, 1)


def replace_feed(**other: Any) -> list[Projection]:
    """All projections, the feed's being another one."""
    return [dataclasses.replace(FEED, **other) if each is FEED else each for each in PROJECTIONS]


async def create_die_function(dsn: str, *, times: int) -> None:
    """`public.die()` ends the connection that calls it, the first `times` times."""
    async with await AsyncConnection.connect(dsn, autocommit=True) as owner:
        await owner.execute(
            "CREATE SEQUENCE public.deaths; CREATE FUNCTION public.die() RETURNS void LANGUAGE sql"
            " SECURITY DEFINER AS $$ SELECT pg_terminate_backend(pg_backend_pid())"
            f" WHERE nextval('public.deaths') <= {times} $$"
        )


async def count_events(engine: Engine, done: asyncio.Event) -> int:
    """Follow the log until `done`; the events applied."""
    events = 0
    while not done.is_set():
        result = await engine.advance()
        events += result.events
        if not result.events:
            await asyncio.sleep(0.001)
    return events


def test_the_next_batch_of_a_backlog_is_prepared_once(dsn: str) -> None:
    async def story(author: Author) -> None:
        for _ in range(7):
            await author.create_charge()
        with record_runs(ReadAhead.start) as prepared:
            await catch_up(dsn, batch_max=2)
        assert len(prepared) == 2  # a whole batch follows the first two of four
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            generation = await create_generation(conn)
            with record_runs(decode_with_keys) as reads:
                await catch_up(dsn, batch_max=2)
            assert len(reads) == 4
            assert await load_rows(conn, generation) == await load_rows(conn, 1)

    run_story(dsn, story)


def test_a_batch_takes_four_round_trips_however_many_projections_it_writes(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_engine(dsn) as engine:
            for _ in range(2):  # the first one also registers the projections
                await author.create_customer()
                await author.create_charge()
                with record_runs(run_together) as round_trips:
                    assert (await engine.advance()).events == 2
            assert len(round_trips) == 4, "one of them is for the keys of persons who are new to this process"

    run_story(dsn, story)


def test_a_batch_prepared_for_streams_that_are_parked_meanwhile_is_not_used(dsn: str) -> None:
    async def story(author: Author) -> None:
        bad, good = await author.create_customer(), await author.create_customer()
        for name in ("Ann", "Bob"):
            await author.update_customer(bad, name=name)
            await author.update_customer(good, name=name)

        def refuse_bad(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
            rows = CUSTOMERS.apply(before, recorded, after)
            return [(None, *row[1:]) if row[0] == bad else row for row in rows]  # a key must not be null

        broken = dataclasses.replace(CUSTOMERS, apply=refuse_bad)
        with record_runs(write_each) as isolated:
            await catch_up(dsn, projections=[broken], batch_max=2)
        assert len(isolated) == 1  # by then the stream is parked, and its next events are left out
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            (status,) = await load_statuses(conn, now=0.0)
            assert [(each.stream, each.position) for each in status.parked] == [(bad, 1)]
            cur = await conn.execute("SELECT id FROM projections.customers")
            assert await cur.fetchall() == [(good,)]

    run_story(dsn, story)


def test_a_crash_before_commit_changes_nothing_and_the_batch_is_applied_once(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_charge()
        await create_die_function(dsn, times=1000)
        broken = replace_feed(constraint_check_sql="SELECT public.die()")
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            with pytest.raises(psycopg.OperationalError):
                await catch_up(dsn, projections=broken)
            assert not any((await load_rows(conn, 1)).values())
            assert {status.lag.position for status in await load_statuses(conn, now=0.0)} == {0}
            await catch_up(dsn)
            await catch_up(dsn)
            written = {table: len(found) for table, found in (await load_rows(conn, 1)).items() if found}
            assert written == {
                "charges": 1, "payment_methods": 1, "postings": 3, "balance_transactions": 1,
                "balance_changes": 1, "feed": 1, "audit_keys": 1,
            }  # fmt: skip

    run_story(dsn, story)


def test_a_connection_killed_in_a_batch_is_survived(dsn: str) -> None:
    async def story(author: Author) -> None:
        for _ in range(5):
            await author.create_charge()
        await create_die_function(dsn, times=2)
        async with (
            open_connection(dsn, "ledger_projector", name="test") as conn,
            open_engine(dsn, projections=replace_feed(constraint_check_sql="SELECT public.die()")) as each,
        ):
            with capture_logs() as logged:
                await each.start()
                await wait_until_caught_up(conn)
                await author.create_charge()
                await wait_until_caught_up(conn)
                await each.close()
            # Two batches failed for one reason, which is logged once; so is the recovery.
            assert [entry["loop"] for entry in logged] == ["projections", "projections"]
            assert all(entry["reason"].startswith("AdminShutdown") for entry in logged)
            assert len((await load_rows(conn, 1))["feed"]) == 6
            await assert_rebuilt_equals_live(conn, dsn)

    run_story(dsn, story)


def test_two_engines_on_one_database_write_every_row_once(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with (
            open_connection(dsn, "ledger_projector", name="test") as conn,
            open_engine(dsn, batch_max=3) as one,
            open_engine(dsn, batch_max=2) as other,
        ):
            done = asyncio.Event()
            tasks = [asyncio.create_task(count_events(each, done)) for each in (one, other)]
            await asyncio.sleep(2 * REFRESH_SECONDS)  # each knows of the other: alone, one may do it all
            for number in range(60):
                await author.run_command("create_charge", number, number)
                await author.run_command("update_charge", number, number)
            await wait_until_caught_up(conn)
            done.set()
            assert all(await asyncio.gather(*tasks))
            await assert_rebuilt_equals_live(conn, dsn)

    run_story(dsn, story)


def test_many_processes_start_at_once(dsn: str) -> None:
    async def begin() -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await register_missing(conn, PROJECTIONS)

    async def story(author: Author) -> None:
        await asyncio.gather(*(begin() for _ in range(6)))
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            found = await load_statuses(conn, now=0.0)
        assert [(status.lag.projection, status.lag.generation, status.lag.live) for status in found] == [
            (name, 1, True) for name in sorted(projection.name for projection in PROJECTIONS)
        ]

    run_story(dsn, story)


def test_the_notifier_of_its_process_wakes_the_engine_without_a_poll(dsn: str) -> None:
    async def story(author: Author) -> None:
        store = author.store
        each = Engine(dsn, store.codec, store.clock, store.notifier, projections=PROJECTIONS, poll_ms=60_000)
        await each.start()
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            for _ in range(3):
                await author.create_charge()
                await wait_until_caught_up(conn)
        closing = asyncio.create_task(each.close())
        await author.create_charge()  # ends the wait for the next event
        await closing

    run_story(dsn, story)


def test_the_engine_is_started_again_after_it_was_closed(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn, open_engine(dsn) as each:
            for _ in range(2):
                await author.create_charge()
                await each.start()
                await wait_until_caught_up(conn)
                await each.close()

    run_story(dsn, story)


def test_the_cache_of_aggregates_evicts_what_was_used_least_recently() -> None:
    created = CustomerCreated(
        originator_id="cus_1", originator_version=1, at=0, account="acct_1", livemode=False, created=0
    )
    state = evolve(None, created)
    cache = AggregateCache(2)
    cache.put({"one": state, "two": state}, 0)
    assert cache.get("one", 1) is state
    cache.put({"three": state}, 0)
    assert cache.get("one", 1) is state
    assert cache.get("two", 1) is None
    assert cache.get("three", 2) is None  # an aggregate of another version is not the one asked for
    # In a plain dict each eviction passes over all entries evicted before: the work is quadratic.
    assert isinstance(cache._states, LruCache)


def test_a_generation_that_is_being_filled_does_not_delay_the_live_one(dsn: str) -> None:
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
                for status in await load_statuses(conn, now=0.0)
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


def test_status_shows_lag_and_it_grows_while_nothing_moves(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_charge()
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            recent = author.store.clock.now()
            assert {(s.lag.events, s.lag.seconds) for s in await load_statuses(conn, now=recent)} == {
                (0, 0.0)
            }
            await author.create_charge()
            await author.create_charge()
            late = await load_statuses(conn, now=author.store.clock.now() + 60)
            assert {status.lag.events for status in late} == {2}
            assert all(60 <= status.lag.seconds < 70 for status in late)

    run_story(dsn, story)


def test_a_projection_that_fails_as_a_whole_stays_behind_alone(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(author: Author) -> None:
        await author.create_charge()
        broken = replace_feed(columns=(*FEED.columns[:-1], Column("no_such_column", "document")))
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            async with open_engine(dsn, projections=broken) as each:
                result = await each.advance()
                assert result.events == 1
                assert result.errors == {("feed", 1): "UndefinedColumn (42703)"}
                assert not (await each.advance()).caught_up
            assert caplog.messages == [
                "projection feed_g1: batch failed, will retry: UndefinedColumn (42703)"
            ]
            behind = [s.lag.projection for s in await load_statuses(conn, now=0.0) if s.lag.events]
            assert behind == ["feed"]
            later = await load_statuses(conn, now=author.store.clock.now() + 60)
            assert [status.lag.projection for status in later if status.stalled] == ["feed"]
            metrics = Metrics()
            metrics.render(Measured([status.lag for status in later]))
            text = metrics.render(Measured([status.lag for status in later])).decode()
            stalled = re.findall(
                r'^ledger_stands_still_seconds{.*projection="(\w+)"} (.+)$', text, re.MULTILINE
            )
            assert [name for name, seconds in stalled if float(seconds) > 0] == ["feed"]
            await catch_up(dsn)
            assert len((await load_rows(conn, 1))["feed"]) == 1

    run_story(dsn, story)


def test_a_projection_that_is_far_behind_and_moves_is_not_stalled(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_charge()
        await catch_up(dsn)
        await author.create_charge()
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            loading = asyncio.create_task(load_statuses(conn, now=author.store.clock.now() + 60))
            await asyncio.sleep(0.2)
            await catch_up(dsn)
            assert not any(status.stalled for status in await loading)

    run_story(dsn, story)


def test_rows_are_of_the_log_of_the_server_that_is_there_after_a_failover(dsn: str) -> None:
    """A primary without synchronous standbys may be replaced by one that never had its last events."""

    async def story(author: Author) -> None:
        charge = await author.create_charge()
        async with open_engine(dsn) as engine:
            await engine.advance()
            assert engine._aggregate_cache.get(charge, 1) is not None
            await engine._connection.drop()
            await engine.advance()
            assert engine._aggregate_cache.get(charge, 1) is not None, "the same server"
            engine._durability._timeline = "00000000"
            await engine._connection.drop()
            await engine.advance()
            assert engine._aggregate_cache.get(charge, 1) is None

    run_story(dsn, story)


def test_the_projector_cannot_append(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute("UPDATE ledger.head SET position = 0")

    run_story(dsn, story)
