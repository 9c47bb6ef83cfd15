"""Replays: which Events they send, in which order, and what becomes of them if a process ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import stripe

from ledger.domain import customer, imported_event, webhook_endpoint_decisions
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import InvalidWebhookState
from ledger.keys.documents import load_document_keys, open_document, run_on
from ledger.postgres.connections import Conn, ReconnectingConnection, open_connection
from ledger.queries.past_events import load_past_event
from ledger.webhooks import deliveries
from ledger.webhooks.replays import job
from ledger.webhooks.replays.filters import ReplayRequest, resolve_filter
from ledger.webhooks.replays.job import ReplayJob
from ledger.webhooks.replays.preview import Preview, preview_replay
from ledger.webhooks.replays.progress import Replay
from ledger.webhooks.replays.records import Actor, change_replay, get_replay, start_replay
from ledger.webhooks.service import connect_jobs
from tests.projections.corruption import Record, store_record
from tests.projections.histories import ACCOUNT, Author, catch_up, run_story
from tests.projections.history_commands import COMMANDS
from tests.webhooks.receiver import ReceivedRequest, Receiver, wait_until
from tests.webhooks.test_fanout import (
    create_endpoint,
    fan_out,
    load_owed,
    run_webhooks,
    run_worker,
    update_endpoint,
)

OPERATOR = Actor("op@host", "a test")


@contextlib.asynccontextmanager
async def connect(author: Author) -> AsyncIterator[Conn]:
    async with open_connection(author.dsn, "ledger_api", name="test") as conn:
        yield conn


async def preview(author: Author, endpoint: str, **given: Any) -> Preview:
    async with connect(author) as conn:
        request = ReplayRequest(endpoint, 0, **given)
        now = author.store.clock.now()
        chosen = await resolve_filter(conn, author.store.codec, request, now=now, owner=None)
        return await preview_replay(conn, author.store.codec, chosen)


async def start(author: Author, endpoint: str, **given: Any) -> Replay:
    async with connect(author) as conn:
        request = ReplayRequest(endpoint, given.pop("window_from", 0), **given)
        now = author.store.clock.now()
        chosen = await resolve_filter(conn, author.store.codec, request, now=now, owner=None)
        return await start_replay(conn, chosen, request.types, OPERATOR, now=now)


async def change(author: Author, replay: Replay, action: Any) -> Replay:
    async with connect(author) as conn:
        now = author.store.clock.now()
        return await change_replay(conn, replay.id, action, OPERATOR, owner=None, now=now)


async def read(author: Author, replay: Replay) -> Replay:
    async with connect(author) as conn:
        return await get_replay(conn, replay.id, owner=None)


async def wait_for_end(author: Author, replay: Replay) -> Replay:
    async with asyncio.timeout(30):
        while not (current := await read(author, replay)).is_ended:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return current


async def advance(author: Author, rounds: int = 1) -> int:
    """How many deliveries some rounds of the job make due."""
    connection = connect_jobs(author.store)
    running = ReplayJob(author.store, connection)
    try:
        return sum([(await running.advance()).queued for _ in range(rounds)])
    finally:
        await connection.drop()


def verify(request: ReceivedRequest) -> stripe.Event:
    return request.event("whsec_test")


async def create_customers(author: Author, count: int) -> None:
    """Many in one request."""
    params: dict[str, Any] = {
        "account": ACCOUNT, "livemode": False, "params": {}, "card_id": "card_1", "now": author.now,
    }  # fmt: skip
    await author.append(
        [event for _ in range(count) for event in customer.create(customer_id=author._id("cus"), **params)]
    )


async def settle(author: Author, state: str) -> int:
    """End all deliveries that are pending as the sender would; how many."""
    async with connect(author) as conn:
        cur = await conn.execute(
            "UPDATE webhooks.deliveries SET state = %s, tries = tries + 1 WHERE state = 'pending'", (state,)
        )
        return cur.rowcount


def test_an_event_from_the_log_is_the_one_in_the_feed(dsn: str) -> None:
    async def story(author: Author) -> None:
        for number in range(3):
            for command in sorted(COMMANDS):
                await author.run_command(command, number, number)
                await author.run_command(command, number + 1, 7)
        await catch_up(dsn)
        connection = ReconnectingConnection(dsn, "ledger_api", name="test")
        async with connect(author) as conn:
            cur = await conn.execute(
                "SELECT position, ordinal, id, livemode, created, type, api_version, request_id, "
                "idempotency_key, data FROM projections.feed ORDER BY position DESC, ordinal"
            )
            rows = await cur.fetchall()
            stored = [row[-1] for row in rows]
            keyring = await load_document_keys(run_on(conn), author.store.codec.data_keys, stored)
        for position, ordinal, *row, data in rows:
            event = await load_past_event(connection, author.store, position, ordinal, pending_webhooks=2)
            assert (*event[:7], event.data, event.pending_webhooks) == (
                *row,
                open_document(keyring, data),
                2,
            )
        await connection.drop()
        assert len(rows) > 40
        assert len({row[5] for row in rows}) > 12

    run_story(dsn, story)


def test_a_new_endpoint_gets_the_events_of_any_window_in_the_order_of_the_log(
    dsn: str, receiver: Receiver, path: str
) -> None:
    async def story(author: Author) -> None:
        owner = await author.create_customer(email="old@example.com")
        for number in range(30):
            await author.update_customer(owner, name=f"n{number}")
        await catch_up(dsn)
        async with connect(author) as conn:
            cur = await conn.execute("SELECT id FROM projections.feed ORDER BY position, ordinal")
            old = [row[0] for row in await cur.fetchall()]
        await author.advance_clock(days=40)
        await author.update_customer(owner, name="new")
        endpoint = await create_endpoint(author, receiver.url(path))
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("DELETE FROM projections.feed WHERE id = ANY (%s)", (old,))
        shown = await preview(author, endpoint)
        assert (shown.tally.total, shown.tally.by_type["customer.updated"]) == (32, 31)
        assert [event.id for event in shown.shown] == old[:10]
        replay = await start(author, endpoint)
        async with run_webhooks(author):
            ended = await wait_for_end(author, replay)
        async with connect(author) as conn:
            cur = await conn.execute("SELECT event FROM webhooks.deliveries ORDER BY due_at")
            queued = [row[0] for row in await cur.fetchall()]
        events = {event.id: event for event in map(verify, receiver.requests_to(path))}
        assert len(receiver.requests_to(path)) == len(events) == 32
        assert queued == [*old, queued[-1]]
        assert events[old[0]].data.object["email"] == "old@example.com"
        assert events[queued[-1]].data.object["name"] == "new"
        assert (ended.state, ended.total, ended.queued, ended.delivered) == ("completed", 32, 32, 32)

    run_story(dsn, story)


def test_a_replay_reuses_deliveries_and_leaves_alone_what_is_pending(dsn: str) -> None:
    async def story(author: Author) -> None:
        endpoint = await create_endpoint(author)
        owner = await author.create_customer()
        for number in range(3):
            await author.update_customer(owner, name=f"n{number}")
        await catch_up(dsn)
        assert await fan_out(author) == 4
        async with connect(author) as conn:  # delivered at the fourth attempt, given up, dropped, pending
            await conn.execute(
                "UPDATE webhooks.deliveries SET state = 'delivered', tries = 4 WHERE position = 2"
            )
            await conn.execute(
                "UPDATE webhooks.deliveries SET state = 'failed', tries = 9 WHERE position = 3"
            )
            await conn.execute("UPDATE webhooks.deliveries SET state = 'dropped' WHERE position = 4")
        assert (await preview(author, endpoint)).tally.total == 4
        failed = await preview(author, endpoint, only_failed=True)
        assert [event.position for event in failed.shown] == [3, 4]
        assert failed.tally.by_type == {"customer.updated": 2}
        replay = await start(author, endpoint)
        assert await advance(author, 3) == 3
        async with connect(author) as conn:
            cur = await conn.execute(
                "SELECT position, state, tries, schedule_from, replay FROM webhooks.deliveries ORDER BY 1"
            )
            assert await cur.fetchall() == [
                (2, "pending", 4, 4, replay.id),
                (3, "pending", 9, 9, replay.id),
                (4, "pending", 0, 0, replay.id),
                (5, "pending", 0, 0, None),
            ]
        cancelled = await change(author, replay, "cancel")
        assert (cancelled.queued, cancelled.left_alone, cancelled.dropped) == (3, 1, 3)
        states = [state for *_, state in await load_owed(author)]
        assert states == ["failed", "failed", "dropped", "pending"]  # of the first, no attempt is on record

    run_story(dsn, story)


def test_a_replay_never_has_more_pending_than_its_limits_and_live_deliveries_go_first(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "QUEUED_MAX", 8)
    monkeypatch.setattr(job, "PENDING_MAX", 12)

    async def claim_first(author: Author) -> tuple[str | None, int]:
        async with connect(author) as conn:
            claimed = await deliveries.claim(
                conn, now=author.store.clock.now() + 60, limit=9, endpoint_limit_default=3,
                endpoint_limits={}, lease_seconds=0,
            )  # fmt: skip
        return claimed[0].replay, len(claimed)

    async def story(author: Author) -> None:
        owner = await author.create_customer()
        for number in range(29):
            await author.update_customer(owner, name=f"n{number}")
        endpoint = await create_endpoint(author)
        await catch_up(dsn)
        await fan_out(author)
        replay = await start(author, endpoint)
        assert await advance(author, 5) == 6  # a change may have made two Events, and it waits for some room
        assert await claim_first(author) == (replay.id, 3)
        await author.update_customer(owner, name="live")
        await catch_up(dsn)
        assert await fan_out(author) == 1
        assert await claim_first(author) == (None, 3)
        async with connect(author) as conn:  # all fail at first, and wait for their next attempt
            await conn.execute("UPDATE webhooks.deliveries SET tries = 1 WHERE replay IS NOT NULL")
        assert await advance(author, 5) == 3
        running = await read(author, replay)
        assert (running.total, running.queued, running.pending) == (30, 9, 9)
        assert await settle(author, "delivered") == 10
        assert await advance(author, 5) == 6

    run_story(dsn, story)


def test_a_paused_replay_goes_on_where_it_stopped_and_a_second_one_is_refused(dsn: str) -> None:
    async def story(author: Author) -> None:
        owner = await author.create_customer()
        await author.update_customer(owner, name="a")
        endpoint = await create_endpoint(author)
        await catch_up(dsn)
        await fan_out(author)
        replay = await start(author, endpoint)
        with pytest.raises(InvalidWebhookState, match=f"The replay {replay.id} to {endpoint} has not ended"):
            await start(author, endpoint)
        assert (await change(author, replay, "pause")).state == "paused"
        assert (await change(author, replay, "pause")).state == "paused"
        assert await advance(author, 3) == 0
        await change(author, replay, "resume")
        assert await advance(author, 3) == 2
        await settle(author, "delivered")
        await advance(author)
        ended = await read(author, replay)
        assert (ended.state, ended.delivered, ended.pending) == ("completed", 2, 0)
        with pytest.raises(InvalidWebhookState, match="has ended: it is completed"):
            await change(author, replay, "cancel")
        async with connect(author) as conn:
            cur = await conn.execute(
                "SELECT action, who, details ->> 'reason' FROM ledger.operations ORDER BY id"
            )
            assert await cur.fetchall() == [
                ("webhook_replay_started", "op@host", "a test"),
                ("webhook_replay_paused", "op@host", "a test"),
                ("webhook_replay_resumed", "op@host", "a test"),
                ("webhook_replay_completed", "ledger", None),
            ]
        await start(author, endpoint)  # now there may be another one

    run_story(dsn, story)


def test_to_show_a_replay_reads_no_other_deliveries(dsn: str) -> None:
    async def story(author: Author) -> None:
        replay = await start(author, await create_endpoint(author))
        async with connect(author) as conn:
            await conn.execute(
                "INSERT INTO webhooks.deliveries"
                " (id, event, endpoint, account, livemode, created, position, ordinal, type, due_at, replay)"
                " SELECT 'dlv_' || n, 'evt_' || n, 'we_other', 'acct_1', false, 0, n, 0, 'customer.created',"
                " now(), 'whr_' || n % 100 FROM generate_series(1, 5000) AS n"
            )
            with psycopg.connect(dsn, autocommit=True) as owner:
                owner.execute("ANALYZE webhooks.deliveries")
            async with conn.transaction():
                assert (await get_replay(conn, replay.id, owner=None)).pending == 0
                cur = await conn.execute(
                    "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
                    " WHERE relid = 'webhooks.deliveries'::regclass"
                )
                assert await cur.fetchall() == [(0,)]

    run_story(dsn, story)


def test_replays_that_wait_keep_none_that_does_not_from_its_turn(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "REPLAYS_MAX", 2)

    async def story(author: Author) -> None:
        endpoints = [await create_endpoint(author) for _ in range(4)]
        await author.create_customer()
        await catch_up(dsn)
        await fan_out(author)
        await settle(author, "delivered")
        for endpoint in endpoints:
            await start(author, endpoint)
        for endpoint in endpoints[:2]:
            await update_endpoint(author, endpoint, disabled=True)
        await catch_up(dsn)
        await fan_out(author)
        await advance(author, 6)
        assert [owed[1] for owed in await load_owed(author) if owed[2] == "pending"] == sorted(endpoints[2:])

    run_story(dsn, story)


def test_a_replay_waits_for_its_endpoint_and_ends_with_it(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer()
        endpoint = await create_endpoint(author)
        await catch_up(dsn)
        replay = await start(author, endpoint)
        assert await advance(author, 3) == 0
        assert (await read(author, replay)).waits_for == ["fan_out"]
        state = author.states[endpoint]
        assert isinstance(state, WebhookEndpoint)
        await author.append(webhook_endpoint_decisions.update(state, {"disabled": True}, now=author.now))
        await advance(author)
        assert (await read(author, replay)).waits_for == ["endpoint_disabled"]
        with pytest.raises(InvalidWebhookState, match="is disabled"):
            await preview(author, endpoint)
        state = author.states[endpoint]
        assert isinstance(state, WebhookEndpoint)
        await author.append(webhook_endpoint_decisions.delete(state, now=author.now))
        await advance(author)
        ended = await read(author, replay)
        assert (ended.state, ended.waits_for, ended.queued) == ("cancelled", [], 0)

    run_story(dsn, story)


def test_events_that_cannot_be_made_are_counted_and_stop_nothing(
    dsn: str, receiver: Receiver, path: str
) -> None:
    async def story(author: Author) -> None:
        imported = imported_event.create(
            event_id="evt_elsewhere", account=ACCOUNT, livemode=False, type="invoice.paid",
            object={"id": "in_1"}, previous_attributes=None, now=author.now,
        )  # fmt: skip
        await author.append(imported)  # never replayed, as it was never sent
        parked, _, sound = [await author.create_customer() for _ in range(3)]
        await catch_up(dsn)
        endpoint = await create_endpoint(author, receiver.url(path))
        await catch_up(dsn)
        await fan_out(author)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute(
                "INSERT INTO projections.parked (projection, generation, stream, position, error) "
                "VALUES ('feed', 1, %s, 2, 'not_json')",
                (parked,),
            )
            await conn.execute("DELETE FROM projections.feed WHERE object_id <> %s", (sound,))
        await store_record(dsn, 3, Record(None, b"?"))  # of the second customer
        shown = await preview(author, endpoint)
        assert (shown.tally.by_type.total(), shown.tally.unreadable) == (2, 1)
        replay = await start(author, endpoint)
        async with run_webhooks(author):
            ended = await wait_for_end(author, replay)
        assert (ended.total, ended.queued, ended.delivered, ended.unreadable) == (3, 1, 1, 2)
        assert [verify(each).data.object["id"] for each in receiver.requests_to(path)] == [sound]

    run_story(dsn, story)


def test_a_killed_worker_leaves_out_no_event_of_a_replay_and_makes_none_twice(
    dsn: str, receiver: Receiver, path: str
) -> None:
    async def story(author: Author) -> Replay:
        for _ in range(6):
            await create_customers(author, 100)
        endpoint = await create_endpoint(author, receiver.url(path))
        await catch_up(dsn)
        await fan_out(author)
        return await start(author, endpoint)

    replay = run_story(dsn, story)
    again = {"LEDGER_WEBHOOK_RETRY_SECONDS_TEST": "1,1,1"}
    with psycopg.connect(dsn, autocommit=True) as conn:
        with run_worker(dsn, **again):  # killed at the end
            receiver.wait_for(path, 280)
        query = "SELECT state FROM webhooks.replays"
        with run_worker(dsn, **again):
            wait_until(lambda: conn.execute(query).fetchall() == [("completed",)])
        rows = conn.execute("SELECT position, replay, state FROM webhooks.deliveries ORDER BY 1").fetchall()
        assert rows == [(position, replay.id, "delivered") for position in range(1, 601)]
        counts = conn.execute("SELECT total, queued, left_alone, delivered FROM webhooks.replays").fetchone()
        assert counts == (600, 600, 0, 600)
    whole = [
        each for each in receiver.requests_to(path) if len(each.body) == int(each.headers["content-length"])
    ]
    assert len({json.loads(request.body)["id"] for request in whole}) == 600


def test_an_old_delivery_that_is_replayed_is_not_deleted_under_it(dsn: str) -> None:
    async def story(author: Author) -> None:
        endpoint = await create_endpoint(author)
        await author.create_customer()
        await catch_up(dsn)
        await fan_out(author)
        await settle(author, "failed")
        await author.advance_clock(days=31)
        replay = await start(author, endpoint, only_failed=True)
        assert await advance(author, 3) == 1
        async with connect(author) as conn:
            now = author.store.clock.now()
            assert await deliveries.delete_expired(conn, now) == 0
            await settle(author, "delivered")
            assert await deliveries.delete_expired(conn, now) == 0  # the replay counts it
            await advance(author)
            assert await deliveries.delete_expired(conn, now) == 1
        assert (await read(author, replay)).delivered == 1

    run_story(dsn, story)
