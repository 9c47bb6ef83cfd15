"""Aggregates as of a moment: exact whatever is kept, and cheap once a long stream was folded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ledger.api.composition import build_queries
from ledger.audit.auditor import Auditor
from ledger.audit.history import read_history
from ledger.audit.objects import compare_object, read_object
from ledger.commands.execution import InternalError
from ledger.config import load_settings
from ledger.domain.customer import Customer
from ledger.errors import UnknownObject
from ledger.postgres.connections import Pool
from ledger.store.codec import Codec
from ledger.store.journal import Append, Change
from ledger.store.log import read_states_at
from ledger.store.past_streams import KEPT_EVERY_VERSIONS, STATES_PER_STREAM_MAX, PastRead
from tests.projections.corruption import UNREADABLE, store_record
from tests.store.stores import CAUSE, KEY, create_change, create_customer, open_store, rename_change
from tests.store.test_log import open_reader
from tests.work import record_runs

VERSIONS = 3 * KEPT_EVERY_VERSIONS + 7
STREAMS = ("cus_1", "cus_2", "cus_none")
AUDITOR = Auditor("acct_1", False, "key_1", shows_personal_data=True)


def make_changes() -> Iterator[Change]:
    """The story of a customer with VERSIONS versions, and another one."""
    state = create_change("cus_1", "name 1")
    yield state
    yield create_change("cus_2")
    for version in range(2, VERSIONS + 1):
        state = rename_change(state.state, f"name {version}")
        yield state


def test_every_moment_of_every_stream_is_exact_whatever_is_kept(dsn: str) -> None:
    """The reader answers random moments, in part at the same time, as folding from the start does."""
    rng = random.Random(1)

    async def main() -> None:
        async with open_store(dsn) as store, open_reader(dsn) as conn:
            await store.journal.append(Append(CAUSE, list(make_changes())))
            for _ in range(40):
                asked = [
                    PastRead(rng.choice(STREAMS), rng.random() < 0.5, rng.randrange(VERSIONS + 2))
                    for _ in range(rng.randrange(1, 6))
                ]
                found = await asyncio.gather(*map(store.past_streams.read, asked))
                for read, past in zip(asked, found, strict=True):
                    assert (past.head, past.position) == (VERSIONS + 1, read.position)
                    codec = Codec(KEY) if read.opened else Codec(KEY).without_personal_data()
                    states, _ = await read_states_at(conn, codec, [read.stream], read.position or 0)
                    assert past.state == states.get(read.stream)
            now = await store.past_streams.read(PastRead("cus_1", True))
            assert (now.position, getattr(now.state, "name", "")) == (VERSIONS + 1, f"name {VERSIONS}")

    asyncio.run(main())


def test_a_long_stream_is_decoded_whole_only_once(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as writer:
            await writer.journal.append(Append(CAUSE, list(make_changes())))
        async with open_store(dsn) as store:
            decoded = []
            for position in (VERSIONS + 1, VERSIONS - 3, 2 * KEPT_EVERY_VERSIONS + 50):
                with record_runs(Codec.decode_event) as runs:
                    past = await store.past_streams.read(PastRead("cus_1", True, position))
                assert isinstance(past.state, Customer)
                decoded.append(len(runs))
            assert decoded[0] == VERSIONS
            assert max(decoded[1:]) < KEPT_EVERY_VERSIONS
            for version in range(1, 2 * STATES_PER_STREAM_MAX):
                await store.past_streams.read(PastRead("cus_1", True, version + 1))
            kept = store.past_streams._cache.get(("cus_1", True))
            assert kept is not None
            assert len(kept) == STATES_PER_STREAM_MAX

    asyncio.run(main())


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_record_that_cannot_be_read_is_named(dsn: str, kind: str) -> None:
    record, reason = UNREADABLE[kind]

    async def main() -> None:
        async with open_store(dsn) as writer:
            await writer.journal.append(create_customer("cus_1"))
            state = await writer.streams.read("cus_1")
            await writer.journal.append(Append(CAUSE, [rename_change(state, "Grace")]))
        await store_record(dsn, 2, record)
        async with open_store(dsn) as store, Pool(dsn) as pool:
            queries = build_queries(store, pool, load_settings())

            def ask(auditor: Auditor) -> Iterator[Any]:
                yield read_object(queries, auditor, "cus_1", "position:2")
                yield read_history(queries, auditor, "cus_1")
                yield compare_object(queries, auditor, "cus_1", "position:1", None)

            for answer in ask(AUDITOR):
                with pytest.raises(InternalError, match=f"'cus_1' cannot be read: {reason}: version 2"):
                    await answer
            for answer in ask(Auditor("acct_2", False, "key_2")):
                with pytest.raises(UnknownObject):
                    await answer
            then = await read_object(queries, AUDITOR, "cus_1", "position:1")
            assert then["object"]["name"] == "Ada"

    asyncio.run(main())


def test_answers_outlive_the_feed_and_the_read_models(dsn: str) -> None:
    """Nothing but the log, the keys and the head is read."""

    async def main() -> None:
        async with open_store(dsn) as store, Pool(dsn) as pool:
            await store.journal.append(create_customer("cus_1"))
            with psycopg.connect(dsn) as conn:
                conn.execute("DROP SCHEMA projections CASCADE")
                conn.execute("DROP SCHEMA webhooks CASCADE")
            queries = build_queries(store, pool, load_settings())
            assert (await read_object(queries, AUDITOR, "cus_1", None))["object"]["name"] == "Ada"
            assert len((await read_history(queries, AUDITOR, "cus_1"))["data"]) == 1
            assert (await compare_object(queries, AUDITOR, "cus_1", "0", None))["changes"]

    asyncio.run(main())
