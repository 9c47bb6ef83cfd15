"""The lag over the last day: one sample for each ten seconds, whoever writes it, and few points of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import psycopg

from ledger.metrics.lag_samples import POINTS_MAX, read_samples, write_sample
from ledger.postgres.connections import connect
from projections.read_models.catalog import PROJECTIONS
from tests.projections.histories import Author, catch_up, run_story

INSERT = """
INSERT INTO projections.lag_samples (slot, at, names, events, seconds)
SELECT (n %% 8640)::smallint, to_timestamp(n * 10), %s, ARRAY[%s::bigint], ARRAY[%s::real]
FROM generate_series(%s::bigint, %s::bigint) AS n
"""


def fill(dsn: str, name: str, spans: Iterable[tuple[int, int, int]]) -> None:
    """Samples of one series in spans of slots, each with its events."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for first, last, events in spans:
            conn.execute(INSERT, ([name], events, events / 2, first, last))


async def wait_for_time_in_slot() -> None:
    """Two seconds that are all of one slot."""
    left = 10 - time.time() % 10
    await asyncio.sleep(left if left < 2 else 0)


def test_of_the_processes_that_sample_at_once_one_writes(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        await author.create_customer(email="two@example.com")
        conns = [await connect(dsn, "ledger_api", name="test") for _ in range(4)]
        await wait_for_time_in_slot()
        now = author.store.clock.now() + 30
        written = await asyncio.gather(*[write_sample(conn, now) for conn in conns])
        assert sorted(written) == [False, False, False, True]
        samples = await read_samples(conns[0], int(time.time()) - 60, int(time.time()))
        by_name = {each.name: each for each in samples.series}
        assert set(by_name) == {each.name for each in PROJECTIONS} | {"sealing", "webhook fan-out"}
        assert by_name["customers"].events == [1]
        assert 29 < (by_name["customers"].seconds[0] or 0) < 40
        assert by_name["sealing"].events == [2], "nothing seals here"
        assert by_name["disputes"].events == [1], "a projection moves with the log, whatever it follows"
        for conn in conns:
            await conn.close()

    run_story(dsn, story)


def test_a_slot_is_overwritten_a_day_later_and_not_before(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        conn = await connect(dsn, "ledger_api", name="test")
        await wait_for_time_in_slot()
        slot = int(time.time()) // 10
        fill(dsn, "customers", [(slot - 8640, slot - 8640, 7)])
        assert await write_sample(conn, author.store.clock.now())
        cur = await conn.execute(
            "SELECT extract(epoch FROM at)::bigint, cardinality(names) > 1 FROM projections.lag_samples"
        )
        assert await cur.fetchall() == [(slot * 10, True)]
        await conn.close()

    run_story(dsn, story)


def test_a_day_is_answered_in_few_points_that_keep_the_highest(dsn: str) -> None:
    end = int(time.time()) // 10
    start = end - 8639
    run_story(dsn, lambda _: catch_up(dsn))  # registers the projections
    fill(
        dsn, "disputes", [(start, start + 3999, 1), (start + 4000, start + 4000, 900), (start + 4101, end, 2)]
    )

    async def main() -> None:
        conn = await connect(dsn, "ledger_api", name="test")
        began_at = time.perf_counter()
        samples = await read_samples(conn, start * 10, end * 10)
        assert time.perf_counter() - began_at < 1
        assert len(samples.times) <= POINTS_MAX + 1
        series_of = {each.name: each for each in samples.series}
        series = series_of["disputes"]
        assert max(each or 0 for each in series.events) == 900
        assert max(each or 0 for each in series.seconds) == 450
        calm = series_of["refunds"]
        assert {0, None} == set(calm.events), "what is not behind has no sample of its own"
        gap = [at for at, events in zip(samples.times, series.events, strict=True) if events is None]
        assert gap, "a time in which nothing sampled is no zero"
        assert all((start + 4000) * 10 < at < (start + 4101) * 10 for at in gap)
        few = await read_samples(conn, end * 10 - 600, end * 10)
        assert (few.step, len(few.times)) == (10, 61)
        only = await read_samples(conn, start * 10, end * 10, ["refunds", "none"])
        assert [each.name for each in only.series] == ["refunds"]
        await conn.close()

    asyncio.run(main())
