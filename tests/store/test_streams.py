"""Streams: reads that are exact, a memory that is bounded, and many readers in one statement."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ledger.domain.aggregate import State
from ledger.domain.customer import Customer
from ledger.errors import Unavailable, UnreadableRecord
from ledger.store.codec import fold
from ledger.store.journal import Append
from tests.projections.corruption import UNREADABLE, store_record
from tests.store.lossy_proxy import open_lossy_proxy
from tests.store.stores import (
    CAUSE,
    create_change,
    create_customer,
    open_store,
    read_positions,
    rename_change,
    rename_customer,
)


def name_of(state: State | None) -> str | None:
    assert isinstance(state, Customer)
    return state.name


def test_a_stream_without_events_reads_as_none(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            assert await store.streams.read("cus_1") is None
            assert store.streams.get_cached("cus_1") is None

    asyncio.run(main())


def test_an_appended_state_is_cached_and_read(dsn: str) -> None:
    first = create_change("cus_1")
    second = rename_change(first.state, "Grace")

    async def main() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(Append(CAUSE, [first, second]))
            assert store.streams.get_cached("cus_1") == second.state
            assert await store.streams.read("cus_1") == second.state
        async with open_store(dsn) as store:
            assert store.streams.get_cached("cus_1") is None
            assert await store.streams.read("cus_1") == second.state
            assert store.streams.get_cached("cus_1") == second.state

    asyncio.run(main())
    assert fold([first.event, second.event]) == second.state


def test_the_state_of_a_refused_command_is_not_cached(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(create_customer("cus_1", name="Ada"))
            await asyncio.gather(
                store.journal.append(create_customer("cus_1", name="Grace")),
                store.journal.append(Append(CAUSE, [create_change("cus_2"), create_change("cus_1", "Ida")])),
                return_exceptions=True,
            )
            assert name_of(store.streams.get_cached("cus_1")) == "Ada"
            assert store.streams.get_cached("cus_2") is None

    asyncio.run(main())


def test_a_read_sees_every_commit_made_before_it_by_any_process(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as one, open_store(dsn) as other:
            await one.journal.append(create_customer("cus_1"))
            for turn in range(20):
                writer, reader = (one, other) if turn % 2 else (other, one)
                state = await writer.streams.read("cus_1")
                await writer.journal.append(rename_customer(state, f"name {turn}"))
                assert name_of(await reader.streams.read("cus_1")) == f"name {turn}"

    asyncio.run(main())


def test_recall_reads_only_the_cache_and_may_be_behind(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as one, open_store(dsn) as other:
            await one.journal.append(create_customer("cus_1", name="Ada"))
            await other.journal.append(rename_customer(await other.streams.read("cus_1"), "Grace"))
            assert name_of(one.streams.get_cached("cus_1")) == "Ada"
            assert name_of(await one.streams.read("cus_1")) == "Grace"
            assert name_of(one.streams.get_cached("cus_1")) == "Grace"

    asyncio.run(main())


def test_an_older_state_does_not_replace_a_newer_one(dsn: str) -> None:
    first = create_change("cus_1")
    second = rename_change(first.state, "Grace")

    async def main() -> None:
        async with open_store(dsn) as store:
            store.streams.update_cache(second.state)
            store.streams.update_cache(first.state)
            assert store.streams.get_cached("cus_1") == second.state

    asyncio.run(main())


def test_the_cache_keeps_the_most_recently_used_up_to_its_limit(dsn: str) -> None:
    async def main() -> list[int]:
        async with open_store(dsn, cached_streams_max=3) as store:
            for n in range(3):
                await store.journal.append(create_customer(f"cus_{n}"))
            store.streams.get_cached("cus_0")
            await store.journal.append(create_customer("cus_3"))
            await store.streams.read("cus_2")
            await store.journal.append(create_customer("cus_4"))
            kept = [n for n in range(5) if store.streams.get_cached(f"cus_{n}") is not None]
            for n in range(5):
                assert await store.streams.read(f"cus_{n}") is not None
            return kept

    assert asyncio.run(main()) == [2, 3, 4]


def test_what_is_recalled_counts_as_used(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn, cached_streams_max=2) as store:
            await store.journal.append(create_customer("cus_hot"))
            for n in range(10):
                assert store.streams.get_cached("cus_hot") is not None
                await store.journal.append(create_customer(f"cus_{n}"))

    asyncio.run(main())


def test_reads_at_once_share_a_statement(dsn: str) -> None:
    async def main() -> int:
        async with open_lossy_proxy(dsn) as (way, between), open_store(way) as store:
            await asyncio.gather(*(store.journal.append(create_customer(f"cus_{n}")) for n in range(100)))
            await store.streams.read("cus_0")
            before = between.requests["ledger streams"]
            states = await asyncio.gather(*(store.streams.read(f"cus_{n % 120}") for n in range(240)))
            assert [state.id if state else None for state in states[:120]] == [
                *(f"cus_{n}" for n in range(100)),
                *[None] * 20,
            ]
            return between.requests["ledger streams"] - before

    assert asyncio.run(main()) <= 2


def test_a_cancelled_read_harms_no_other(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(create_customer("cus_1"))
            tasks = [asyncio.ensure_future(store.streams.read("cus_1")) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            outcomes: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(outcomes[1], asyncio.CancelledError)
            assert outcomes[0] == outcomes[2] == store.streams.get_cached("cus_1")

    asyncio.run(main())


def test_an_unreachable_database_is_reported_to_readers(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("connections", "statements"):
        monkeypatch.setattr(f"ledger.postgres.{place}.QUERY_TIMEOUT_SECONDS", 0.3)

    async def main() -> None:
        async with open_store("host=127.0.0.1 port=1 dbname=none", append_timeout_ms=100) as store:
            with pytest.raises(Unavailable):
                await store.streams.read("cus_1")
            with pytest.raises(Unavailable):
                await store.journal.append(create_customer("cus_1"))
            with pytest.raises(Unavailable):
                await store.journal.find_reply("acct_1", False, "key")

    asyncio.run(main())
    assert read_positions(dsn) == []


def test_two_processes_deciding_on_one_stream_lose_no_decision(dsn: str) -> None:
    """Read, decide, append, and again after a lost race: each of the 60 decisions is in the stream."""

    async def main() -> int:
        async with open_store(dsn) as one, open_store(dsn) as other:
            await one.journal.append(create_customer("cus_1"))

            async def decide(number: int) -> None:
                store = (one, other)[number % 2]
                while True:
                    state = await store.streams.read("cus_1")
                    outcome = await asyncio.gather(
                        store.journal.append(rename_customer(state, f"name {number}")), return_exceptions=True
                    )
                    if isinstance(outcome[0], int):
                        return

            await asyncio.gather(*map(decide, range(60)))
            state = await one.streams.read("cus_1")
            assert state is not None
            return state.version

    assert asyncio.run(main()) == 61


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_stream_that_cannot_be_read_fails_its_own_callers_only(dsn: str, kind: str) -> None:
    record, reason = UNREADABLE[kind]

    async def main() -> None:
        async with open_store(dsn) as store:
            for customer in ("cus_bad", "cus_good"):
                await store.journal.append(create_customer(customer))
                state = await store.streams.read(customer)
                await store.journal.append(rename_customer(state, "Grace"))
        was = await store_record(dsn, 2, record)
        async with open_store(dsn) as store:
            results = await asyncio.gather(  # in one statement
                *map(store.streams.read, ("cus_bad", "cus_good", "cus_bad", "cus_none")),
                return_exceptions=True,
            )
            first, good, second, none = results
            assert isinstance(first, UnreadableRecord)
            assert (first.stream, first.version, first.reason) == ("cus_bad", 2, reason)
            assert isinstance(second, UnreadableRecord)
            assert isinstance(good, Customer)
            assert (good.name, none) == ("Grace", None)
            await store_record(dsn, 2, was)
            assert name_of(await store.streams.read("cus_bad")) == "Grace"

    asyncio.run(main())
