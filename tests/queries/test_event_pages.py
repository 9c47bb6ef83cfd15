"""Pages of Events: one statement for the usual page, and none is missed for what makes it cheap."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.call import Call, Cause
from ledger.clock import Clock
from ledger.postgres.statements import StatementPool
from ledger.queries.context import QueryContext
from ledger.queries.events import list_events
from ledger.queries.pages import Pages
from tests.projections.histories import ACCOUNT, Author, catch_up, run_story
from tests.projections.queries import open_queries
from tests.webhooks.test_fanout import create_endpoint
from tests.work import record_runs

LIMIT = 5


def make_call(**parameters: Any) -> Call:
    return Call(Cause(ACCOUNT, False, "key_test", "req_test", None), "", {"limit": LIMIT, **parameters})


async def list_ids(queries: QueryContext, **parameters: Any) -> list[str]:
    result = await list_events(make_call(**parameters), queries)
    return [event["id"] for event in result.body["data"]]


async def create_customers(author: Author, count: int) -> None:
    for _ in range(count):
        await author.create_customer()


def test_a_full_page_within_a_day_takes_one_statement(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_customers(author, 3 * LIMIT)
        await catch_up(dsn)
        async with open_queries(author) as queries:
            with record_runs(StatementPool.fetch) as statements:
                ids = await list_ids(queries)
            assert (len(ids), len(statements)) == (LIMIT, 1)
            with record_runs(StatementPool.fetch) as statements:
                assert len(await list_ids(queries, starting_after=ids[-1])) == LIMIT
            assert len(statements) == 2  # the cursor's place, then the page

    run_story(dsn, story)


@pytest.mark.parametrize("days", [0.5, 3])
def test_events_recorded_by_a_clock_ahead_of_ours_are_listed(dsn: str, days: float) -> None:
    class LateClock(Clock):
        def now(self) -> float:
            return super().now() - days * 86_400

    async def story(author: Author) -> None:
        await author.advance_clock(days=-days)  # the partitions of today are made
        await create_customers(author, 2 * LIMIT)
        await catch_up(dsn)
        async with open_queries(author) as queries:
            early = await list_ids(queries)
        await author.advance_clock(days=days)
        await create_customers(author, 2 * LIMIT)
        await catch_up(dsn)
        async with open_queries(author) as queries:
            newest = await list_ids(queries)
            late_pages = Pages(dsn, LateClock(), author.store.notifier, wait_ms=0)
            late_queries = QueryContext(
                store=author.store,
                pool=queries.pool,
                pages=late_pages,
                link_urls=queries.link_urls,
                page_tokens=queries.page_tokens,
                blind_index=queries.blind_index,
                derive_intent_secret=queries.derive_intent_secret,
            )
            assert await list_ids(late_queries) == newest
            assert not set(newest) & set(early)
            await late_pages.close()

    run_story(dsn, story)


def test_only_an_account_with_endpoints_waits_for_the_fanout(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_customers(author, 2)
        await catch_up(dsn)
        async with open_queries(author) as queries:
            assert (await list_events(make_call(), queries)).lag_events == 0
            await create_endpoint(author)
            await catch_up(dsn)
            assert (await list_events(make_call(), queries)).lag_events == 3  # nothing is fanned out here

    run_story(dsn, story)
