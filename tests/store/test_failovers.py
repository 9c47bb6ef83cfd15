"""What a process keeps of the log is forgotten when it finds another server, which may lack some of it."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from ledger.api.composition import build_queries
from ledger.audit.auditor import Auditor
from ledger.audit.history import read_history
from ledger.config import load_settings
from ledger.postgres.connections import Pool, connect
from ledger.store.durability import Durability
from ledger.store.journal import Append, Change, VersionConflict
from ledger.store.past_streams import PastRead
from ledger.store.store import Store
from tests.store.stores import CAUSE, create_change, open_store, rename_change

FIRST = create_change("cus_1", "Ada")
LOST = rename_change(FIRST.state, "lost")
NEW = rename_change(FIRST.state, "new")
NEXT = rename_change(NEW.state, "next")
_END_APPENDERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE '%journal%'
"""
AUDITOR = Auditor("acct_1", False, "key_1", shows_personal_data=True)


async def replace_last_event(store: Store, *more: Change) -> None:
    """Let another server be the primary, which never had the last event, and got others."""
    with psycopg.connect(store.dsn) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute("DELETE FROM ledger.events WHERE originator_version = 2")
    async with open_store(store.dsn) as other:
        await other.journal.append(Append(CAUSE, [NEW, *more]))


async def note_failover(durability: Durability, dsn: str) -> None:
    """What `durability` does when a connection leads to a server with a later history."""
    async with await connect(dsn, "ledger_api", name="test") as conn:
        durability._timeline = "00000000"
        await durability.note_failover(conn)


async def read_names(store: Store) -> list[str]:
    """The customer's name as each kind of read finds it."""
    now = await store.streams.read("cus_1")
    past = await store.past_streams.read(PastRead("cus_1", True))
    unopened = await store.past_streams.read(PastRead("cus_1", False))
    return [getattr(now, "name", ""), getattr(past.state, "name", ""), getattr(unopened.state, "name", "")]


def test_streams_are_read_anew_after_a_failover(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(Append(CAUSE, [FIRST, LOST]))
            before = await read_names(store)
            assert before[:2] == ["lost", "lost"]
            await replace_last_event(store)
            assert await read_names(store) == before, "kept, as nothing in the log ever changes"
            await note_failover(store.durability, dsn)
            assert (await read_names(store))[:2] == ["new", "new"]

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["streams", "past streams", "history"])
def test_a_read_under_way_at_a_failover_goes_on_with_nothing_of_before(
    dsn: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a kept state, waits for the new primary, and is answered there."""

    async def main() -> None:
        async with open_store(dsn) as store, Pool(dsn) as pool:
            queries = build_queries(store, pool, load_settings())
            await store.journal.append(Append(CAUSE, [FIRST, LOST]))
            await store.past_streams.read(PastRead("cus_1", True))
            await replace_last_event(store, *([NEXT] if kind == "history" else []))
            reader, name, read = {
                "streams": (store.streams, "_fetch_after", lambda: store.streams.read("cus_1")),
                "past streams": (
                    store.past_streams._reads,
                    "run_idempotent",
                    lambda: store.past_streams.read(PastRead("cus_1", True)),
                ),
                "history": (
                    pool,
                    "run_idempotent",
                    lambda: read_history(queries, AUDITOR, "cus_1", starting_after=2),
                ),
            }[kind]
            fetch = getattr(reader, name)

            async def fetch_and_note_failover(*arguments: Any) -> Any:
                found = await fetch(*arguments)
                monkeypatch.setattr(reader, name, fetch)
                await note_failover(store.durability, dsn)
                return found

            monkeypatch.setattr(reader, name, fetch_and_note_failover)
            assert "'lost'" not in repr(await read())
            assert "'lost'" not in repr(await read())

    asyncio.run(main())


@pytest.mark.parametrize("noticed_by", ["the append", "another connection"])
def test_nothing_is_sealed_under_a_key_that_the_new_primary_lacks(
    dsn: str, noticed_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is cached, or in a batch that is under way, and its row was never replicated."""

    async def main() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(Append(CAUSE, [FIRST]))
            assert store.codec.data_keys.get_cached("cus_1") is not None
            with psycopg.connect(dsn) as conn:
                conn.execute("SET session_replication_role = replica")
                conn.execute("DELETE FROM ledger.events WHERE originator_id = 'cus_1'")
                conn.execute("DELETE FROM ledger.data_keys WHERE subject = 'cus_1'")
                conn.execute(_END_APPENDERS)
            if noticed_by == "the append":
                store.durability._timeline = "00000000"
            else:
                append = store.journal._appender.append

                async def note_failover_and_append(*arguments: Any, **named: Any) -> Any:
                    monkeypatch.setattr(store.journal._appender, "append", append)
                    await note_failover(store.durability, dsn)
                    return await append(*arguments, **named)

                monkeypatch.setattr(store.journal._appender, "append", note_failover_and_append)
            with pytest.raises(VersionConflict):
                await store.journal.append(Append(CAUSE, [FIRST]))
            await store.journal.append(Append(CAUSE, [FIRST]))
        async with open_store(dsn) as other:
            state = await other.streams.read("cus_1")
            assert getattr(state, "name", None) == "Ada"

    asyncio.run(main())
