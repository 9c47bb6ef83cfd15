"""A batch sent again after its connection was lost has one effect and the right answer (invariant 3)."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from struct import Struct
from typing import Any, cast

import psycopg
import pytest
from psycopg.pq import ExecStatus
from psycopg.sql import SQL, Identifier

from ledger.errors import Unavailable
from ledger.store.append_call import Batch, EventRow, encode_call
from ledger.store.arrays import decode_integers, decode_record
from ledger.store.journal import VersionConflict
from ledger.store.replies import IdempotencyKeyUsed
from tests.store.lossy_proxy import Loss, open_lossy_proxy
from tests.store.stores import (
    NOW,
    blocked_appends,
    check_gapless,
    create_customer,
    fetch_rows,
    head_locked,
    open_store,
    read_positions,
    rename_customer,
    wait_until,
    with_reply,
)

_APPEND = "SELECT base, stale, taken FROM ledger.append(%s, %s, %s, %s::json, %s::json, %s::json)"
_APPEND_BATCH = """
SELECT base, coalesce(stale, '{}'), coalesce(taken, '{}')
FROM (SELECT %s::uuid AS appender, %s::bigint AS number, %s::float8 AS at, %s::int[] AS commands,
             %s::text[] AS streams, %s::int[] AS versions) AS b,
     array_fill(1, ARRAY[cardinality(streams)]) AS first,
     array_fill('customer.deleted'::text, ARRAY[cardinality(streams)]) AS topics,
     array_fill('{}'::bytea, ARRAY[cardinality(streams)]) AS states,
     array_fill('acct_1'::text, ARRAY[cardinality(streams)]) AS accounts,
     array_fill(false, ARRAY[cardinality(streams)]) AS livemodes,
     ledger.append_batch(appender, number, at, commands, streams, versions, commands, streams, first, topics,
                         states, accounts, livemodes, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                         NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""


def check(number: int, stream: str, version: int) -> dict[str, Any]:
    return {"c": number, "s": stream, "v": version}


def event(number: int, stream: str, version: int) -> dict[str, Any]:
    return {
        "c": number,
        "s": stream,
        "v": version,
        "t": "customer.deleted",
        "d": "{}",
        "a": "acct_1",
        "l": False,
    }


Send = Callable[..., tuple[Any, ...]]
"""Sends one batch: (dsn, appender, number, *streams)."""


def send_json(dsn: str, appender: uuid.UUID, number: int, *streams: str) -> tuple[Any, ...]:
    """One batch, a command for each stream, as the journal of an older release sends it."""
    checks = [check(n, stream, 0) for n, stream in enumerate(streams)]
    events = [event(n, stream, 1) for n, stream in enumerate(streams)]
    return call(dsn, _APPEND, (appender, number, NOW, json.dumps(checks), json.dumps(events), None))


def send_arrays(dsn: str, appender: uuid.UUID, number: int, *streams: str) -> tuple[Any, ...]:
    """The same as the journal of the releases between sends it."""
    commands, versions = list(range(len(streams))), [0] * len(streams)
    return call(dsn, _APPEND_BATCH, (appender, number, NOW, commands, list(streams), versions))


def send_now(dsn: str, appender: uuid.UUID, number: int, *streams: str) -> tuple[Any, ...]:
    """The same as the journal of this release sends it: one command as scalars, several as arrays."""
    checks = [(n, stream, 0) for n, stream in enumerate(streams)]
    events: list[EventRow] = [
        (n, stream, 1, "customer.deleted", b"{}", "acct_1", False, None, None, None, None, None, None, None)
        for n, stream in enumerate(streams)
    ]
    function, arguments = encode_call(Batch(checks, [], events, [], [], 1))
    sent = [appender.bytes, Struct(">q").pack(number), Struct(">d").pack(NOW), *arguments]
    with psycopg.connect(dsn, options="-c role=ledger_api", autocommit=True) as conn:
        result = conn.pgconn.exec_params(
            function.statement, sent, param_formats=function.formats, result_format=1
        )
        if result.status != ExecStatus.TUPLES_OK:
            raise psycopg.errors.error_from_result(result)
        record = result.get_value(0, 0)
    assert record is not None
    base, *refused, erasures = decode_record(record)
    assert base is not None
    assert erasures is None
    return int.from_bytes(base), *(decode_integers(each) if each else [] for each in refused)


def call(dsn: str, query: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    with psycopg.connect(dsn, options="-c role=ledger_api", autocommit=True) as conn:
        row = conn.execute(query.encode(), arguments).fetchone()
        assert row is not None
        return row


@pytest.fixture(params=[send_json, send_arrays, send_now])
def send(request: pytest.FixtureRequest) -> Send:
    return cast(Send, request.param)


def test_a_batch_sent_twice_has_one_effect_and_one_result(dsn: str, send: Send) -> None:
    appender = uuid.uuid4()
    assert send(dsn, appender, 1, "cus_0") == (0, [], [])
    first = send(dsn, appender, 2, "cus_1", "cus_0", "cus_2")
    assert first == (1, [1], [])
    assert send(dsn, uuid.uuid4(), 1, "cus_3") == (3, [], [])
    assert send(dsn, appender, 2, "cus_1", "cus_0", "cus_2") == first
    assert read_positions(dsn) == [(1, "cus_0", 1), (2, "cus_1", 1), (3, "cus_2", 1), (4, "cus_3", 1)]
    assert fetch_rows(dsn, "SELECT position FROM ledger.head") == [(4,)]


def test_another_number_or_another_appender_is_another_batch(dsn: str, send: Send) -> None:
    appender = uuid.uuid4()
    assert send(dsn, appender, 1, "cus_0") == (0, [], [])
    assert send(dsn, appender, 2, "cus_0") == (1, [0], [])
    assert send(dsn, uuid.uuid4(), 1, "cus_0") == (1, [0], [])


def test_a_batch_that_its_appender_gave_up_is_refused_after_the_next_batch(dsn: str, send: Send) -> None:
    appender = uuid.uuid4()
    after = send(dsn, appender, 2, "cus_2")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        send(dsn, appender, 1, "cus_1")
    assert send(dsn, appender, 2, "cus_2") == after
    assert read_positions(dsn) == [(1, "cus_2", 1)]


def test_appends_use_read_committed_whatever_the_default_of_the_database(dsn: str) -> None:
    async def main() -> list[int]:
        async with open_store(dsn) as one, open_store(dsn) as other:
            async with head_locked(dsn):
                appends = [
                    asyncio.create_task(store.journal.append(create_customer(stream)))
                    for store, stream in ((one, "cus_1"), (other, "cus_2"))
                ]
                await wait_until(lambda: blocked_appends(dsn) == 2)
            return await asyncio.gather(*appends)

    isolation = "ALTER DATABASE {} {} default_transaction_isolation"
    with psycopg.connect(dsn, autocommit=True) as conn:
        name = Identifier(conn.info.dbname)
        conn.execute(SQL(isolation + " = serializable").format(name, SQL("SET")))
        try:
            assert sorted(asyncio.run(main())) == [1, 2]
        finally:
            conn.execute(SQL(isolation).format(name, SQL("RESET")))


def test_a_batch_sent_again_while_the_first_sending_still_waits_has_one_effect(dsn: str, send: Send) -> None:
    """The connection was lost, but not the backend: it gets the lock later, or earlier, than the second."""
    appender = uuid.uuid4()

    async def main() -> None:
        async with head_locked(dsn):
            sendings = [asyncio.to_thread(send, dsn, appender, 1, "cus_0") for _ in range(3)]
            waiting = asyncio.gather(*sendings)
            query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            await wait_until(lambda: fetch_rows(dsn, query) == [(3,)])
        assert await waiting == [(0, [], [])] * 3

    asyncio.run(main())
    assert read_positions(dsn) == [(1, "cus_0", 1)]


@pytest.mark.parametrize("loss", ["request", "answer"])
def test_a_connection_lost_during_an_append_is_not_noticed_by_the_callers(dsn: str, loss: Loss) -> None:
    async def main() -> None:
        async with open_lossy_proxy(dsn) as (way, between), open_store(way) as store:
            await store.journal.append(create_customer("cus_0"))
            for turn in range(3):
                between.lose("ledger journal", loss)
                commands = [
                    create_customer(f"cus_{turn}_a"),
                    create_customer("cus_0"),
                    create_customer(f"cus_{turn}_b", **with_reply(f"key_{turn}")),
                    create_customer(f"cus_{turn}_c", guards={"cus_0": 1}),
                ]
                outcomes = await asyncio.gather(*map(store.journal.append, commands), return_exceptions=True)
                base = 3 * turn + 1
                assert outcomes[0] == base + 1
                assert isinstance(outcomes[1], VersionConflict)
                assert outcomes[2:] == [base + 2, base + 3]
                with pytest.raises(IdempotencyKeyUsed):
                    await store.journal.append(create_customer("cus_x", **with_reply(f"key_{turn}")))
            assert between.losses == [("ledger journal", loss)] * 3

    asyncio.run(main())
    log = read_positions(dsn)
    check_gapless(log)
    assert len(log) == 10


def test_commands_decided_on_a_late_result_are_correct(dsn: str) -> None:
    """What `remember` keeps after a batch sent again is what is committed."""

    async def main() -> None:
        async with open_lossy_proxy(dsn) as (way, between), open_store(way) as store:
            await store.journal.append(create_customer("cus_0"))
            for turn in range(5):
                between.lose("ledger journal", "answer")
                await store.journal.append(rename_customer(store.streams.get_cached("cus_0"), f"name {turn}"))
            state = await store.streams.read("cus_0")
            assert state is not None
            assert state.version == 6

    asyncio.run(main())
    check_gapless(read_positions(dsn))


def test_reads_survive_a_lost_connection(dsn: str) -> None:
    async def main() -> None:
        async with open_lossy_proxy(dsn) as (way, between), open_store(way) as store:
            await store.journal.append(create_customer("cus_0"))
            await store.streams.read("cus_0")
            between.lose("ledger streams", "answer")
            assert await store.streams.read("cus_0") is not None
            assert between.losses == [("ledger streams", "answer")]

    asyncio.run(main())


def test_backends_terminated_during_appends_lose_and_duplicate_nothing(dsn: str) -> None:
    ended = 0

    async def main() -> list[int]:
        nonlocal ended
        async with open_store(dsn) as store:
            positions = []
            for turn in range(4):
                async with head_locked(dsn):
                    first = asyncio.create_task(store.journal.append(create_customer(f"cus_{turn}")))
                    await wait_until(lambda: blocked_appends(dsn) == 1)
                    others = [
                        asyncio.create_task(store.journal.append(create_customer(f"cus_{turn}_{n}")))
                        for n in range(20)
                    ]
                    await asyncio.sleep(0)
                    ended += len(terminate(dsn, "ledger journal"))
                positions += await asyncio.gather(first, *others)
            return positions

    positions = asyncio.run(main())
    assert ended == 4
    assert positions == list(range(1, 85))
    check_gapless(read_positions(dsn))
    assert len(read_positions(dsn)) == 84


def test_an_unavailable_database_is_reported_after_the_timeout_and_found_again(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn, append_timeout_ms=300) as store:
            async with head_locked(dsn):
                # Said by the database: when the lock becomes free it has given the batch up.
                with pytest.raises(Unavailable, match="statement timeout"):
                    await store.journal.append(create_customer("cus_0"))
            await store.journal.append(create_customer("cus_1"))

    asyncio.run(main())
    assert read_positions(dsn) == [(1, "cus_1", 1)]


def test_a_database_that_turns_read_only_is_reported_and_writes_resume_by_themselves(dsn: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]

    def set_read_only(value: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("SET default_transaction_read_only = off")
            conn.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}".encode())

    async def main() -> None:
        async with open_store(dsn, append_timeout_ms=2000) as store:
            await store.journal.append(create_customer("cus_0"))
            try:
                set_read_only("on")
                terminate(dsn, "ledger %")
                for _ in range(2):
                    with pytest.raises(Unavailable, match="read-only"):
                        await store.journal.append(create_customer("cus_1"))
                assert await store.streams.read("cus_0") is not None
            finally:
                set_read_only("off")
            assert await store.journal.append(create_customer("cus_1")) == 2

    asyncio.run(main())


def terminate(dsn: str, name: str) -> list[Any]:
    query = f"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name LIKE '{name}'"""
    with psycopg.connect(dsn, autocommit=True) as conn:
        return conn.execute(query.encode()).fetchall()
