"""The log as readers see it: in position order, one stream, as of a past moment, and woken when it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import psycopg
from psycopg.rows import TupleRow

from ledger.call import Cause
from ledger.domain.customer import Customer
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec
from ledger.store.journal import Append
from ledger.store.log import read_log, read_states_at, read_stream
from ledger.store.notifications import QUIET_POLL_SECONDS
from ledger.store.positions import find_last_position
from tests.store.stores import (
    CAUSE,
    KEY,
    NOW,
    FixedClock,
    create_change,
    create_customer,
    fetch_rows,
    open_store,
    rename_change,
    rename_customer,
    wait_until,
)

CODEC = Codec(KEY)


def to_time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


@asynccontextmanager
async def open_reader(dsn: str) -> AsyncIterator[Conn]:
    async with await Conn.connect(dsn, autocommit=True) as conn:
        yield conn


async def write_story(dsn: str) -> None:
    """Five positions, an hour apart: cus_1 made, cus_2 made, cus_1 renamed twice, cus_3 made."""
    clock = FixedClock(NOW)
    async with open_store(dsn, clock=clock) as store:
        for number, command in enumerate(
            [
                lambda: create_customer("cus_1", name="Ada"),
                lambda: create_customer("cus_2", name="Ida"),
                lambda: rename_customer(store.streams.get_cached("cus_1"), "Grace"),
                lambda: rename_customer(store.streams.get_cached("cus_1"), "Joan"),
                lambda: create_customer("cus_3", name="Eva"),
            ]
        ):
            clock.at = NOW + number * 3600
            await store.journal.append(command())


def test_an_empty_log_has_nothing_to_read(dsn: str) -> None:
    async def main() -> None:
        async with open_reader(dsn) as conn:
            assert await read_log(conn, CODEC, 0, 10) == []
            assert await read_stream(conn, CODEC, "cus_1") == []
            assert await read_states_at(conn, CODEC, ["cus_1"], 10) == ({}, {})
            assert await find_last_position(conn, to_time(NOW)) == 0

    asyncio.run(main())


def test_the_tail_is_read_in_order_page_by_page(dsn: str) -> None:
    async def main() -> None:
        await write_story(dsn)
        async with open_reader(dsn) as conn:
            whole = await read_log(conn, CODEC, 0, 100)
            pages = [await read_log(conn, CODEC, after, 2) for after in (0, 2, 4, 5)]
            assert [len(page) for page in pages] == [2, 2, 1, 0]
            assert [recorded for page in pages for recorded in page] == whole
            assert [recorded.position for recorded in whole] == [1, 2, 3, 4, 5]
            assert [recorded.event.originator_id for recorded in whole] == [
                "cus_1", "cus_2", "cus_1", "cus_1", "cus_3"
            ]  # fmt: skip

    asyncio.run(main())


def test_a_recorded_event_says_who_when_and_why(dsn: str) -> None:
    first = create_change("cus_1")
    second = rename_change(first.state, "Grace", causation="cus_1/1")
    cause = Cause("acct_7", True, "key_1", "req_1", "idem")

    async def main() -> None:
        async with open_store(dsn, clock=FixedClock(NOW + 0.25)) as store:
            await store.journal.append(Append(cause, [first, second]))
        async with open_reader(dsn) as conn:
            asked, followed = await read_log(conn, CODEC, 0, 10)
            assert (asked.account, asked.livemode, asked.actor) == ("acct_7", True, "key_1")
            assert (asked.request_id, asked.idempotency_key, asked.causation) == ("req_1", "idem", None)
            assert (followed.request_id, followed.idempotency_key) == (None, None)
            assert followed.causation == "cus_1/1"
            assert asked.recorded_at == followed.recorded_at == NOW + 0.25
            assert [asked.event, followed.event] == [first.event, second.event]

    asyncio.run(main())


def test_a_stream_is_read_alone_and_up_to_the_requested_position(dsn: str) -> None:
    async def main() -> None:
        await write_story(dsn)
        async with open_reader(dsn) as conn:
            assert [r.position for r in await read_stream(conn, CODEC, "cus_1")] == [1, 3, 4]
            assert [r.position for r in await read_stream(conn, CODEC, "cus_1", upto=3)] == [1, 3]
            assert await read_stream(conn, CODEC, "cus_3", upto=4) == []

    asyncio.run(main())


def test_states_are_folded_as_of_a_position(dsn: str) -> None:
    async def main() -> None:
        await write_story(dsn)
        async with open_reader(dsn) as conn:
            told = {}
            for upto in range(6):
                states, _ = await read_states_at(conn, CODEC, ["cus_1", "cus_2", "cus_3", "cus_4"], upto)
                assert all(isinstance(state, Customer) for state in states.values())
                told[upto] = {stream: getattr(state, "name", "") for stream, state in states.items()}
            assert told == {
                0: {},
                1: {"cus_1": "Ada"},
                2: {"cus_1": "Ada", "cus_2": "Ida"},
                3: {"cus_1": "Grace", "cus_2": "Ida"},
                4: {"cus_1": "Joan", "cus_2": "Ida"},
                5: {"cus_1": "Joan", "cus_2": "Ida", "cus_3": "Eva"},
            }

    asyncio.run(main())


def test_a_moment_is_one_position(dsn: str) -> None:
    async def main() -> None:
        await write_story(dsn)
        async with open_reader(dsn) as conn:
            assert await find_last_position(conn, to_time(NOW)) == 0
            for number in range(5):
                at = NOW + number * 3600
                found = [await find_last_position(conn, to_time(when)) for when in (at, at + 1, at + 1800)]
                assert found == [number, number + 1, number + 1]
            assert await find_last_position(conn, to_time(NOW + 10**9)) == 5

    asyncio.run(main())


def test_a_moment_is_one_position_also_when_clocks_went_back(dsn: str) -> None:
    async def main() -> None:
        clock = FixedClock(NOW)
        async with open_store(dsn, clock=clock) as store:
            for number, at in enumerate((NOW, NOW + 100, NOW - 100, NOW + 50, NOW + 200)):
                clock.at = at
                await store.journal.append(create_customer(f"cus_{number}"))
        async with open_reader(dsn) as conn:
            seconds = (0, 1, 100, 101, 200, 201)
            found = [await find_last_position(conn, to_time(NOW + each)) for each in seconds]
            assert found == [0, 1, 1, 4, 4, 5]

    asyncio.run(main())


def test_followers_in_this_and_in_other_processes_are_woken(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as one, open_store(dsn) as other:
            await wait_until(lambda: len(list_listeners(dsn)) == 2)
            assert not await one.notifier.wait_past(0, timeout_seconds=0.01)
            waiting = [
                asyncio.create_task(store.notifier.wait_past(0, timeout_seconds=5)) for store in (one, other)
            ]
            await asyncio.sleep(0)
            await one.journal.append(Append(CAUSE, [create_change("cus_1")]))
            assert await asyncio.gather(*waiting) == [True, True]
            assert (one.notifier.position, other.notifier.position) == (1, 1)

    asyncio.run(main())


def test_an_invalid_notification_does_not_stop_the_listener(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            await wait_until(lambda: len(list_listeners(dsn)) == 1)
            before = list_listeners(dsn)
            await asyncio.to_thread(notify, dsn, "nonsense")
            await asyncio.to_thread(notify, dsn, "7")
            assert await store.notifier.wait_past(6, timeout_seconds=5)
            assert store.notifier.position == 7
            assert list_listeners(dsn) == before

    asyncio.run(main())


def test_the_listener_reconnects_after_its_connection_was_lost(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            await wait_until(lambda: len(list_listeners(dsn)) == 1)
            [[lost]] = list_listeners(dsn)
            await wait_until(lambda: store.notifier.get_poll_seconds(0.1) == QUIET_POLL_SECONDS)
            await asyncio.to_thread(fetch_rows, dsn, f"SELECT pg_terminate_backend({lost})")
            await wait_until(lambda: store.notifier.get_poll_seconds(0.1) == 0.1)  # it cannot be notified
            await wait_until(lambda: len(list_listeners(dsn)) == 1 and list_listeners(dsn) != [(lost,)])
            await asyncio.to_thread(notify, dsn, "8")
            assert await store.notifier.wait_past(7, timeout_seconds=5)

    asyncio.run(main())


def list_listeners(dsn: str) -> list[TupleRow]:
    query = """SELECT pid FROM pg_stat_activity WHERE datname = current_database()
               AND query LIKE 'LISTEN %' AND state = 'idle'"""
    return fetch_rows(dsn, query)


def notify(dsn: str, payload: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(b"SELECT pg_notify('ledger_head', %s)", [payload])
