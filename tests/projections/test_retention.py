"""The daily partitions of the feed: created ahead and on demand, dropped when they are 30 days past."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta

from ledger.postgres.connections import open_connection
from ledger.store.log import decode_with_keys
from projections.engine.status import load_statuses
from tests.projections.histories import Author, catch_up, create_generation, load_rows, open_engine, run_story
from tests.work import record_runs


async def load_days(dsn: str, generation: int = 1) -> list[date]:
    prefix = f"feed_g{generation}_d"
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        cur = await conn.execute(
            "SELECT relname FROM pg_class WHERE starts_with(relname, %s) AND relkind = 'r' ORDER BY 1",
            (prefix,),
        )
        names = [row[0] for row in await cur.fetchall()]
    return [
        datetime.strptime(name.removeprefix(prefix), "%Y%m%d").replace(tzinfo=UTC).date() for name in names
    ]


async def load_object_ids(dsn: str) -> list[str]:
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        return [row["object_id"] for row in (await load_rows(conn, 1))["feed"]]


def get_today(author: Author) -> date:
    return datetime.fromtimestamp(author.now, UTC).date()


def list_days_ahead(day: date) -> list[date]:
    return [day + timedelta(days=number) for number in range(4)]


def test_days_are_created_ahead_of_the_clock(dsn: str) -> None:
    async def story(author: Author) -> None:
        await catch_up(dsn)
        assert await load_days(dsn) == list_days_ahead(get_today(author))

    run_story(dsn, story)


def test_days_past_the_retention_period_are_dropped_and_a_rebuild_agrees(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_engine(dsn) as each:
            old = await author.create_charge()
            await each.advance()
            first_day = get_today(author)
            await author.advance_clock(days=20)
            recent = await author.create_charge()
            await each.advance()
            assert await load_object_ids(dsn) == [old, recent]
            await author.advance_clock(days=10)
            await each.advance()
            assert (await load_days(dsn))[0] == first_day
            assert await load_object_ids(dsn) == [old, recent]
            await author.advance_clock(days=1)
            await each.advance()
            assert first_day not in await load_days(dsn)
            assert (await load_days(dsn))[-4:] == list_days_ahead(get_today(author))
            assert await load_object_ids(dsn) == [recent]
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            generation = await create_generation(conn)
            await catch_up(dsn)
            assert await load_rows(conn, generation) == await load_rows(conn, 1)
            assert len((await load_rows(conn, 1))["charges"]) == 2

    run_story(dsn, story)


def test_after_40_days_without_a_runner_old_events_are_gone_and_the_rest_is_there(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_charge()
        await catch_up(dsn)
        await author.create_charge()
        await author.advance_clock(days=20)
        between = await author.create_charge()
        day_between = get_today(author)
        await author.advance_clock(days=20)
        last = await author.create_charge()
        await catch_up(dsn)
        assert await load_object_ids(dsn) == [between, last]
        assert await load_days(dsn) == [day_between, *list_days_ahead(get_today(author))]

    run_story(dsn, story)


def test_a_batch_of_a_new_day_is_read_once(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_engine(dsn) as engine:
            await engine.advance()
            await author.advance_clock(days=10)
            charge = await author.create_charge()
            day = get_today(author)
            await author.advance_clock(days=10)
            with record_runs(decode_with_keys) as reads:
                assert (await engine.advance()).events
            assert len(reads) == 1
            assert day in await load_days(dsn)
            assert await load_object_ids(dsn) == [charge]

    run_story(dsn, story)


def test_a_reader_that_blocks_a_drop_delays_nothing_else(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_charge()
        await catch_up(dsn)
        first_day = get_today(author)
        await author.advance_clock(days=40)
        last = await author.create_charge()
        async with open_connection(dsn, "ledger_api", name="test") as reader, reader.transaction():
            await reader.execute("SELECT count(*) FROM projections.feed")
            started = time.monotonic()
            await catch_up(dsn)
            assert time.monotonic() - started < 5
            assert first_day in await load_days(dsn)
            assert last in await load_object_ids(dsn)
        await catch_up(dsn)
        assert first_day not in await load_days(dsn)

    run_story(dsn, story)


def test_a_partition_that_somebody_dropped_is_created_again(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_engine(dsn) as each:
            await each.advance()
            async with open_connection(dsn, "ledger_projector", name="test") as conn:
                await conn.execute(f"DROP TABLE projections.feed_g1_d{get_today(author):%Y%m%d}".encode())
            charge = await author.create_charge()
            assert (await each.advance()).events == 1
            assert await load_object_ids(dsn) == [charge]
            async with open_connection(dsn, "ledger_projector", name="test") as conn:
                assert not any(status.parked for status in await load_statuses(conn, now=0.0))

    run_story(dsn, story)
