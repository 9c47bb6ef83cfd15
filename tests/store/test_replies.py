"""Stored replies: found by their idempotency key, compared with the first request, kept for a day."""

from __future__ import annotations

import asyncio

import psycopg

from ledger.keys.blind_index import is_hash
from ledger.store.replies import Reply, ReplyCleanup, StoredReply, is_reply_to
from ledger.store.store import Store
from tests.store.stores import (
    CAUSE,
    NOW,
    FixedClock,
    create_customer,
    fetch_rows,
    open_store,
    read_positions,
    with_reply,
)


async def find_reply(store: Store, key: str) -> StoredReply:
    stored = await store.journal.find_reply("acct_1", False, key)
    assert stored is not None
    return stored


def test_a_stored_reply_is_found_again(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            assert await store.journal.find_reply("acct_1", False, "key") is None
            reply = Reply("print", 402, '{"secret":""}', "cuss_1", 11)
            await store.journal.append(
                create_customer("cus_1", cause=CAUSE._replace(idempotency_key="key"), reply=reply)
            )
            stored = await find_reply(store, "key")
            assert (stored.reply._replace(fingerprint="print"), *stored[1:]) == (reply, "req_1", 1)
            assert await store.journal.find_reply("acct_1", True, "key") is None
            assert await store.journal.find_reply("acct_2", False, "key") is None

    asyncio.run(main())


def test_a_reply_is_one_to_the_request_that_was_first_sent(dsn: str) -> None:
    """Whether this release has stored it, or an earlier one, whose fingerprints have no key."""

    async def main() -> None:
        async with open_store(dsn) as store:
            keys = store.codec.data_keys
            await store.journal.append(create_customer("cus_1", **with_reply("key")))
            with psycopg.connect(dsn, autocommit=True) as conn:
                for fingerprint in (None, "print"):
                    if fingerprint is not None:
                        conn.execute("UPDATE ledger.replies SET fingerprint = %s", (fingerprint,))
                    stored = await find_reply(store, "key")
                    assert is_hash(stored.reply.fingerprint) == (fingerprint is None)
                    assert is_reply_to(keys, CAUSE, stored, "print")
                    assert not is_reply_to(keys, CAUSE, stored, "other")

    asyncio.run(main())


def test_an_earlier_release_that_may_run_knows_the_request_again(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("UPDATE ledger.erasure_epoch SET epoch = 0")

    async def main() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(create_customer("cus_1", **with_reply("key")))
            assert is_reply_to(store.codec.data_keys, CAUSE, await find_reply(store, "key"), "print")

    asyncio.run(main())
    assert fetch_rows(dsn, "SELECT fingerprint FROM ledger.replies") == [("print",)]


def test_old_replies_are_deleted_and_the_events_stay(dsn: str) -> None:
    async def main() -> None:
        clock = FixedClock(NOW)
        async with open_store(dsn, clock=clock) as store:
            await store.journal.append(create_customer("cus_1", **with_reply("old")))
            clock.at += 3600
            await store.journal.append(create_customer("cus_2", **with_reply("new")))
            cleanup = ReplyCleanup(store.dsn, store.clock, store.journal.appender_id)
            await cleanup.delete_before(NOW + 1800)
            await cleanup.close()
            assert await store.journal.find_reply("acct_1", False, "old") is None
            assert await store.journal.find_reply("acct_1", False, "new") is not None

    asyncio.run(main())
    assert len(read_positions(dsn)) == 2
