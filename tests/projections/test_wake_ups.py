"""Who waits is woken, across processes too: little is asked of the database while nothing happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from psycopg import AsyncCursor

from ledger.config import load_settings
from ledger.erasure import service as erasure_service
from ledger.erasure.service import ACTIVE_POLL_SECONDS, ANNOUNCED_SECONDS
from ledger.postgres.statements import StatementPool
from ledger.queries import customers, pages
from ledger.store.notifications import WANTED_SECONDS, HeadNotifier
from ledger.store.store import Store
from projections.composition import make_extensions
from projections.engine import engine
from tests.erasure.persons import ERASED_SECONDS, Persons
from tests.projections.histories import KEY, Author, catch_up, open_engine, run_story
from tests.projections.queries import open_queries
from tests.projections.test_money import call
from tests.work import record_runs

IDLE_SECONDS = 2.0
IDLE_STATEMENTS_MAX = 30
"""In a second, by all background work together. One more loop that polls every 100 ms would exceed it."""


@asynccontextmanager
async def open_services(store: Store) -> AsyncIterator[None]:
    """All background work of a process, until the end of the block."""
    async with AsyncExitStack() as stack:
        for create_service in make_extensions(load_settings()).service_factories:
            service = create_service(store)
            stack.push_async_callback(service.close)
            await service.start()
        yield


def test_a_list_is_woken_by_the_batch_of_another_process_and_polls_nothing(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LIST_NOTIFIED_SECONDS", 5.0)

    async def story(author: Author) -> None:
        await catch_up(dsn)
        async with open_queries(author, wait_ms=5000) as queries, open_engine(dsn) as each:
            created = await author.create_customer()
            with record_runs(StatementPool.fetch) as reads:
                listing = asyncio.create_task(customers.list_customers(call(limit=1), queries))
                async with asyncio.timeout(5):
                    while not reads:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
                await each.advance()
                assert [row["id"] for row in (await listing).body["data"]] == [created]
        assert len(reads) == 2  # the page before the batch, and after it

    run_story(dsn, story)


def test_a_list_that_waits_ends_the_pause_between_batches_of_another_process(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(pages, "LIST_NOTIFIED_SECONDS", 30.0)

    async def story(author: Author) -> None:
        await catch_up(dsn)
        follower = HeadNotifier(dsn, "ledger_projector")
        async with (
            open_queries(author, wait_ms=30_000) as queries,
            open_engine(dsn, notifier=follower) as each,
            AsyncExitStack() as stack,
        ):
            stack.push_async_callback(follower.close)
            await follower.start()
            await each.start()
            for _ in range(2):  # after the first batch the engine pauses
                created = await author.create_customer()
                async with asyncio.timeout(20):
                    listing = await customers.list_customers(call(limit=1), queries)
                assert [row["id"] for row in listing.body["data"]] == [created]
                await asyncio.sleep(WANTED_SECONDS)

    run_story(dsn, story)


def test_lists_that_wait_one_after_another_notify_others_once(dsn: str) -> None:
    async def story(author: Author) -> None:
        notifier = author.store.notifier
        with record_runs(HeadNotifier._notify_wanted) as notified:
            for position in range(1, 20):
                notifier.want_applied(position)
                await asyncio.sleep(0)
        assert len(notified) == 1
        assert notifier.is_wanted
        async with asyncio.timeout(5):
            while notifier.is_wanted:  # noqa: ASYNC110
                await asyncio.sleep(WANTED_SECONDS)

    run_story(dsn, story)


def test_the_commit_of_a_batch_notifies_other_processes_only_at_the_head(dsn: str) -> None:
    async def story(author: Author) -> None:
        await catch_up(dsn)
        for _ in range(4):
            await author.create_customer()
        listener = author.store.notifier
        async with open_engine(dsn, batch_max=2) as each:
            await each.advance()
            assert not await listener.wait_applied(2, timeout_seconds=0.2)
            await each.advance()
            assert await listener.wait_applied(4, timeout_seconds=5)

    run_story(dsn, story)


def test_an_erasure_begins_once_another_process_has_announced_it(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure_service, "IDLE_POLL_SECONDS", 2 * ERASED_SECONDS)
    persons = Persons(dsn, tmp_path, secret_key=KEY.decode())
    persons.plant({"cus_ada": 1})

    async def story(author: Author) -> None:
        async with open_services(author.store):
            await asyncio.sleep(ANNOUNCED_SECONDS + ACTIVE_POLL_SECONDS)  # as after each start
            job = await asyncio.to_thread(persons.request, "cus_ada")
            await asyncio.to_thread(persons.wait_until_erased, job)

    run_story(dsn, story)


def test_an_idle_service_asks_the_database_little(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_services(author.store):
            await author.create_customer()
            await asyncio.sleep(2)  # what the customer causes, and the first step of each loop
            with record_runs(AsyncCursor.execute, StatementPool.fetch) as statements:
                await asyncio.sleep(IDLE_SECONDS)
        assert len(statements) <= IDLE_STATEMENTS_MAX * IDLE_SECONDS

    run_story(dsn, story)
