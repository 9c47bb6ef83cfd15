"""Exports of a log that only these tests use: exact, page by page, and in memory that does not grow."""

from __future__ import annotations

import asyncio
import gc
import io
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from ledger.accounts import create_account, create_key
from ledger.api.app import create_app
from ledger.api.composition import build_queries
from ledger.audit.auditor import Auditor
from ledger.audit.exports import ndjson, source
from ledger.audit.exports.content import ExportError, ExportLine
from ledger.audit.exports.formats import Format, make_encoder
from ledger.audit.exports.verification import VerifiedExport, verify_export
from ledger.audit.search.filters import LogFilters
from ledger.config import load_settings
from ledger.errors import Unavailable
from ledger.postgres.connections import Pool, connect
from ledger.queries.context import QueryContext
from ledger.tlog.checkpoints import parse_checkpoint
from ledger.tlog.notes import parse_note
from tests.store.stores import KEY, open_store
from tests.tree.sealed import make_sealer

AUDITOR = Auditor("acct_1", False, "key_1")
_FILL = """
INSERT INTO ledger.events
    (notification_id, originator_id, originator_version, topic, state, account, livemode, actor, request_id,
     customer, recorded_at)
SELECT n, 'cus_' || n, 1, 'customer.created',
       convert_to(format('{"n":%%s,"text":"%%s"}', n, repeat('x', 200)), 'UTF8'),
       CASE WHEN n %% 10 = 3 THEN 'acct_2' ELSE 'acct_1' END, n %% 10 = 4, 'key_' || n %% 3, 'req_' || n,
       'cus_' || n, timestamptz '2026-01-01' + n * interval '1 second'
FROM generate_series(%(after)s + 1, %(count)s) AS n
"""
_APPEND_TWO = """
INSERT INTO ledger.events
    (notification_id, originator_id, originator_version, topic, state, account, livemode, recorded_at)
SELECT n, 'cus_' || n, 1, 'customer.created', '{}', 'acct_1', false,
       timestamptz '2026-05-01' + (n - 30) * interval '1 second' FROM generate_series(31, 32) AS n;
"""
_SET_HEAD = "UPDATE ledger.head SET position = %(count)s, recorded_at = '2026-06-01'"


def fill(dsn: str, count: int, *, after: int = 0) -> None:
    """Make the log `count` events long, where it has `after`. Of ten events one is another account's, and one
    is in live mode."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(_FILL, {"count": count, "after": after})
        conn.execute(_SET_HEAD, {"count": count})


@asynccontextmanager
async def open_context(dsn: str, *, seals: bool = True) -> AsyncIterator[QueryContext]:
    """What the queries of a process read from; the log is sealed."""
    async with open_store(dsn) as store, Pool(dsn) as pool:
        if seals:
            async with make_sealer(store) as sealer:
                while (await sealer.seal()).remaining:
                    pass
        yield build_queries(store, pool, load_settings())


async def export(
    context: QueryContext, format_name: Format = "ndjson", auditor: Auditor = AUDITOR, **filters: Any
) -> bytes:
    plan = await source.plan_export(context, auditor, LogFilters(**filters))
    return b"".join([part async for part in source.stream_export(context, plan, make_encoder(format_name))])


def verify(content: bytes) -> VerifiedExport:
    return verify_export(
        ndjson.read_parts(io.BytesIO(content)), lambda note: parse_checkpoint(parse_note(note).text)
    )


def list_positions(content: bytes) -> list[int]:
    parts = ndjson.read_parts(io.BytesIO(content))
    return [part.position for _, part in parts if isinstance(part, ExportLine)]


def run_on(dsn: str, work: Callable[[QueryContext], Awaitable[None]], *, seals: bool = True) -> None:
    async def main() -> None:
        async with open_context(dsn, seals=seals) as context:
            await work(context)

    asyncio.run(main())


def test_exports_have_the_records_of_the_caller_that_match_and_no_others(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with pages so small that most gaps, and pages without a record, lie across them."""
    fill(dsn, 300)
    monkeypatch.setattr(source, "PAGE_RECORDS", 7)
    monkeypatch.setattr(source, "PAGE_EXAMINED_MAX", 20)
    monkeypatch.setattr(source, "NODES_PER_READ", 3)
    own = [n for n in range(1, 301) if n % 10 not in (3, 4)]

    async def check(context: QueryContext) -> None:
        content = await export(context)
        assert list_positions(content) == own
        assert (verify(content).records, verify(content).is_complete) == (len(own), False)
        for filters, expected in (
            ({"actor": "key_1"}, [n for n in own if n % 3 == 1]),
            ({"object": "cus_150"}, [150]),
            ({"customer": "cus_299"}, [299]),
            ({"request": "req_13"}, []),
            (
                {"types": ["customer.*"], "position": {"gt": 250, "lte": 280}},
                [n for n in own if 250 < n <= 280],
            ),
            ({"time": {"gte": "2026-01-01T00:04:00Z"}}, [n for n in own if n >= 240]),
            ({"position": {"gt": 300}}, []),
            ({"position": {"gte": 301}}, []),
        ):
            content = await export(context, **filters)
            assert list_positions(content) == expected, filters
            assert verify(content).records == len(expected)
        live = await export(context, auditor=Auditor("acct_1", True, "key_1"))
        assert list_positions(live) == [n for n in range(1, 301) if n % 10 == 4]
        assert list_positions(await export(context, auditor=Auditor("acct_3", False, "key_1"))) == []

    run_on(dsn, check)


def test_a_record_that_was_changed_in_the_database_is_named(dsn: str) -> None:
    fill(dsn, 300)

    async def check(context: QueryContext) -> None:
        with psycopg.connect(dsn) as conn:
            conn.execute("SET LOCAL session_replication_role = replica")
            conn.execute("UPDATE ledger.events SET topic = 'customer.updated' WHERE notification_id = 201")
        with pytest.raises(ExportError, match=r"position 201 was changed"):
            verify(await export(context))

    run_on(dsn, check)


def test_the_same_checkpoint_gives_the_same_bytes_and_a_later_start_the_same_records(dsn: str) -> None:
    fill(dsn, 600)

    async def check(context: QueryContext) -> None:
        content = await export(context)
        assert await export(context) == content
        lines = content.splitlines(keepends=True)
        for kept in (2, 200, len(lines) - 1):
            begin = lines[:kept]
            after = list_positions(b"".join(begin))[-1]
            rest = await export(context, position={"gt": after})
            assert rest.splitlines(keepends=True)[2:-1] == lines[kept + 1 : -1]
            assert list_positions(b"".join(begin) + rest) == list_positions(content)
            assert verify(b"".join(begin) + rest).records == 480

    run_on(dsn, check)


def test_nothing_is_exported_without_a_checkpoint(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(dsn, 3)
    monkeypatch.setattr(source, "SEAL_WAIT_SECONDS", 0.0)

    async def check(context: QueryContext) -> None:
        with pytest.raises(Unavailable, match="no checkpoint"):
            await export(context)

    run_on(dsn, check, seals=False)


def test_what_is_not_sealed_in_time_is_not_in_the_export(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(dsn, 30)
    monkeypatch.setattr(source, "SEAL_WAIT_SECONDS", 0.0)

    async def check(context: QueryContext) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(_APPEND_TWO)
        verified = verify(await export(context))
        assert (verified.header.upto, verified.checkpoint.size) == (30, 30)
        late = await export(context, time={"gte": "2026-05-01T00:00:02Z"})
        assert (verify(late).header.after, verify(late).records) == (30, 0)

    run_on(dsn, check)


@pytest.mark.parametrize("format_name", ["ndjson", "parquet"])
def test_memory_and_connections_do_not_depend_on_the_length(dsn: str, format_name: Format) -> None:
    fill(dsn, 20_000)

    async def drain(context: QueryContext, upto: int) -> int:
        gc.collect()
        tracemalloc.start()
        plan = await source.plan_export(context, AUDITOR, LogFilters(position={"lte": upto}))
        async for _ in source.stream_export(context, plan, make_encoder(format_name)):
            stats = context.pool.get_stats()
            assert stats["pool_available"] == stats["pool_size"], "no connection is held between pages"
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    async def check(context: QueryContext) -> None:
        await drain(context, 300)
        short, long = await drain(context, 5_200), await drain(context, 20_000)
        assert long < 1.3 * short, (short, long)

    run_on(dsn, check)


def test_a_client_that_disconnects_ends_the_work(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application as the server runs it; the client takes the first page and goes away."""
    monkeypatch.setattr(source, "PAGE_RECORDS", 5)
    sent = 0

    async def main() -> None:
        async with await connect(dsn, "ledger_api", name="tests") as conn:
            account = await create_account(conn, "Shop")
            _, key = await create_key(conn, account, "rk", livemode=False, name="audit", scopes=["audit"])
        fill(dsn, 2_000)
        with psycopg.connect(dsn, autocommit=True) as superuser:
            superuser.execute("SET session_replication_role = replica")
            superuser.execute("UPDATE ledger.events SET account = %s", [account])
        gone = asyncio.Event()
        requests = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if requests:
                return requests.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal sent
            sent += message["type"] == "http.response.body" and bool(message.get("body"))
            if sent == 2:
                gone.set()

        async with open_context(dsn):
            pass
        app = create_app(load_settings(log_requests="none"), dsn, KEY)
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": "GET", "scheme": "http", "path": "/internal/v1/audit/export",
            "raw_path": b"/internal/v1/audit/export", "query_string": b"", "root_path": "",
            "headers": [(b"host", b"x"), (b"authorization", b"Bearer " + key.encode())],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)

    asyncio.run(main())
    assert 2 <= sent < 20, "of 400 pages"
