"""`ledger.append_one` and `append_many` do what `ledger.append` does, which earlier releases call."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.store import arrays
from ledger.store.append_call import (
    APPEND_ANY,
    APPEND_MANY,
    APPEND_ONE,
    Batch,
    CheckRow,
    EventRow,
    Function,
    KeyRow,
    ReplyRow,
    encode_call,
)
from ledger.store.appender import Appender, BatchResult
from ledger.store.arrays import ElementType, decode_integers, encode_array
from tests.conftest import Cluster
from tests.store.stores import NOW, FixedClock, create_customer, open_store, with_reply

_APPEND = "SELECT base, stale, taken FROM ledger.append(%s, %s, %s, %s::json, %s::json, %s::json)"
_CHECK_MEMBERS = "csv"
_EVENT_MEMBERS = "csvtdalkribuhp"
_REPLY_MEMBERS = "calkfsdxonre"
_CONTENT = """
SELECT (SELECT json_agg(e ORDER BY notification_id) FROM ledger.events e)::text,
       (SELECT json_agg(r ORDER BY account, livemode, key) FROM ledger.replies r)::text,
       (SELECT to_json(h) FROM ledger.head h)::text
"""


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Commands on few streams and keys, so that many are refused. No two of them write the same."""
    batch = Batch([], [], [], [], [], 1)
    written: set[str] = set()
    for command in range(draw(st.integers(1, 4))):
        streams = draw(st.lists(st.sampled_from("ABCD"), max_size=2, unique=True))
        guards = draw(st.lists(st.sampled_from("ABCD"), max_size=1))
        key = draw(st.sampled_from([None, "key_1", "key_2", "kéy_3"]))
        if not written.isdisjoint({*streams, *guards, key} - {None}):
            continue
        written |= {*streams, *([key] if key else [])}
        for stream in streams:
            version = draw(st.integers(0, 2))
            (batch.checks if version else batch.creations).append((command, stream, version))
            causation = draw(st.sampled_from([None, "clock"]))
            for next_version in range(version + 1, version + 1 + draw(st.integers(1, 2))):
                batch.events.append(
                    (
                        command, stream, next_version, "customer.deleted", b'{"name":"\xc3\xa9"}', "acct_1",
                        draw(st.booleans()), "key_1", "req_1", key, causation, "cus_1", None, None,
                    )
                )  # fmt: skip
        for stream in set(guards) - set(streams):
            batch.checks.append((command, stream, draw(st.integers(0, 2))))
        if key is not None:
            place = len(batch.events) if streams else None
            secret = draw(st.sampled_from([(None, None), ("A", 2)]))
            batch.replies.append(
                (command, "acct_1", False, key, "print", 200, '{"é":1}', None, *secret, "req_1", place)
            )
    return batch


@pytest.fixture(scope="module")
def dsns(cluster: Cluster) -> Iterator[tuple[str, str]]:
    with cluster.create_database() as one, cluster.create_database() as other:
        yield one, other


def to_json(rows: Sequence[tuple[Any, ...]], members: str) -> str | None:
    """Rows as `ledger.append` takes them."""
    if not rows:
        return None
    decoded = [[part.decode() if isinstance(part, bytes) else part for part in row] for row in rows]
    return json.dumps([dict(zip(members, row, strict=True)) for row in decoded])


def append_as_before(
    conn: psycopg.Connection[Any], appender: uuid.UUID, number: int, batch: Batch
) -> tuple[int, set[int], set[int]]:
    checks = to_json([*batch.checks, *batch.creations], _CHECK_MEMBERS) or "[]"
    documents = (checks, to_json(batch.events, _EVENT_MEMBERS), to_json(batch.replies, _REPLY_MEMBERS))
    row = conn.execute(_APPEND, (appender, number, NOW, *documents)).fetchone()
    assert row is not None
    return get_outcome(*row)


def get_outcome(base: int, stale: Sequence[int], taken: Sequence[int]) -> tuple[int, set[int], set[int]]:
    """What the callers get: a used key goes before a version."""
    return base, set(stale) - set(taken), set(taken)


async def append(appender: Appender, batch: Batch) -> BatchResult:
    try:
        return await appender.append(batch)
    except psycopg.errors.UniqueViolation:
        return await appender.append(batch, with_creations=True)


async def resend(appender: Appender, batch: Batch) -> BatchResult:
    """The last batch under its number once more."""
    appender._batch_number -= 1
    return await appender.append(batch, with_creations=True)


def test_both_functions_do_the_same_with_the_same_batches(dsns: tuple[str, str]) -> None:
    before_dsn, dsn = dsns
    numbers = count(1)
    appender_id = uuid.uuid4()
    with (
        asyncio.Runner() as runner,
        psycopg.connect(before_dsn, autocommit=True) as before,
        psycopg.connect(dsn, autocommit=True) as now,
    ):
        appender = Appender(dsn, FixedClock(NOW), timeout_ms=20_000)

        @settings(max_examples=60, suppress_health_check=list(HealthCheck))
        @given(st.lists(batches(), min_size=1, max_size=4))
        def check(several: list[Batch]) -> None:
            for conn in (before, now):
                conn.execute(b"SET session_replication_role = replica")
                conn.execute(b"TRUNCATE ledger.events, ledger.replies")
                conn.execute(b"SET session_replication_role = origin")
            for batch in several:
                expected = append_as_before(before, appender_id, next(numbers), batch)
                for send in (append, resend):
                    assert get_outcome(*runner.run(send(appender, batch))[:3]) == expected
                    assert now.execute(_CONTENT).fetchone() == before.execute(_CONTENT).fetchone()

        try:
            check()
        finally:
            runner.run(appender.close())


def test_a_stream_that_a_command_creates_needs_no_look_up_unless_it_exists(dsns: tuple[str, str]) -> None:
    """Then the whole batch is refused, and nothing of it is stored."""
    _, dsn = dsns
    rows: list[EventRow] = [
        (n, stream, 1, "customer.deleted", b"{}", "acct_1", False, None, None, None, None, None, None, None)
        for n, stream in enumerate(("new_1", "new_2"))
    ]

    async def main() -> None:
        appender = Appender(dsn, FixedClock(NOW), timeout_ms=20_000)
        try:
            base, *_ = await appender.append(Batch([], [], rows[:1], [], [], 1))
            batch = Batch([], [(0, "new_1", 0), (1, "new_2", 0)], rows, [], [], 1)
            with pytest.raises(psycopg.errors.UniqueViolation):
                await appender.append(batch)
            assert await appender.append(batch, with_creations=True) == (base + 1, [0], [], None)
        finally:
            await appender.close()

    asyncio.run(main())


@pytest.mark.parametrize("column", ["a", "é" * 9, None])
def test_arrays_are_those_that_the_database_makes(dsns: tuple[str, str], column: str | None) -> None:
    cases: list[tuple[ElementType, str, Sequence[Any]]] = [
        (arrays.TEXT, "text", [column, column, column and "b"]),
        (arrays.TEXT, "text", ["same", "same"]),
        (arrays.INTEGER, "integer", [-1, 0, None, 2**31 - 1]),
        (arrays.SMALLINT, "smallint", [200]),
        (arrays.BOOLEAN, "boolean", [True, False, None]),
        (arrays.BYTEA, "bytea", [b"\x00\xff", b"", None]),
    ]
    with psycopg.connect(dsns[0]) as conn:
        for element_type, name, values in cases:
            array = encode_array(values, element_type)
            if array is None:
                assert values == [None] * len(values)
                continue
            row = conn.execute(f"SELECT array_send(%s::{name}[])".encode(), (values,)).fetchone()
            result = conn.pgconn.exec_params(f"SELECT $1::{name}[]".encode(), [array], None, [1], 1)
            assert row == (result.get_value(0, 0),)
    encoded = encode_array([3, 1, 2], arrays.INTEGER)
    assert encoded is not None
    assert decode_integers(encoded) == [3, 1, 2]


def test_texts_arrive_whatever_encoding_the_connection_string_asks_for(dsns: tuple[str, str]) -> None:
    dsn = psycopg.conninfo.make_conninfo(dsns[1], client_encoding="latin1")

    async def main() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(create_customer("cus_1", **with_reply("kéy €", '{"é€":1}')))
            stored = await store.journal.find_reply("acct_1", False, "kéy €")
            assert stored is not None
            assert stored.reply.body == '{"é€":1}'

    asyncio.run(main())


def test_one_event_of_one_command_goes_as_scalars_and_anything_else_as_arrays() -> None:
    def event(command: int) -> EventRow:
        return (command, "A", 1, "t", b"{}", "acct_1", False, *(None,) * 7)

    def reply(command: int) -> ReplyRow:
        return (command, "acct_1", False, "key", "print", 200, "{}", None, None, None, "req_1", 1)

    def encode(checks: list[CheckRow], events: list[EventRow], *more: Any) -> Function:
        replies, keys = (*more, [])[:2]
        return encode_call(Batch(checks, [], events, replies, keys, 1)).function

    key: KeyRow = (0, "A", b"wrapped", "id")
    assert encode([(0, "B", 1)], [event(0)], [reply(0)], [key]) is APPEND_ONE
    assert encode([], [event(0)], []) is APPEND_ONE
    for checks, events, replies, keys in (
        ([(0, "B", 1), (0, "C", 1)], [event(0)], [reply(0)], []),
        ([], [event(0), event(0)], [reply(0)], []),
        ([], [], [reply(0)], []),
        ([(1, "B", 1)], [event(0)], [reply(0)], []),  # parts of two commands
        ([], [event(1)], [reply(0)], []),
        ([], [event(0)], [reply(1)], []),
        ([], [event(0)], [], [(0, "A", None, None)]),  # an erasure
        ([], [event(0)], [], [key, (0, "B", b"wrapped", "id")]),
    ):
        assert encode(checks, events, replies, keys) is APPEND_MANY
    batch = Batch([], [(0, "A", 0)], [event(0)], [], [], 1)
    assert encode_call(batch, with_creations=True).function is APPEND_ANY
