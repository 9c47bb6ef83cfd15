"""Replays: which Events they send, in which order, and what becomes of them if a process ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import stripe

from ledger.compression.documents import decompress_text
from ledger.postgres.connections import Conn, ReconnectingConnection, open_connection
from ledger.queries.past_events import load_past_event
from ledger.webhooks.replays.filters import ReplayRequest, resolve_filter
from ledger.webhooks.replays.job import ReplayJob
from ledger.webhooks.replays.preview import Preview, preview_replay
from ledger.webhooks.replays.progress import Replay
from ledger.webhooks.replays.records import Actor, change_replay, get_replay, start_replay
from tests.projections.histories import Author, catch_up, run_story
from tests.projections.history_commands import COMMANDS
from tests.webhooks.receiver import ReceivedRequest, Receiver
from tests.webhooks.test_fanout import create_endpoint, run_webhooks

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
    running = ReplayJob(author.store)
    try:
        return sum([(await running.advance()).queued for _ in range(rounds)])
    finally:
        await running.close()


def verify(request: ReceivedRequest) -> stripe.Event:
    return request.event("whsec_test")


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
        for position, ordinal, *row, data in rows:
            event = await load_past_event(connection, author.store, position, ordinal, pending_webhooks=2)
            assert (*event[:7], event.data.encode(), event.pending_webhooks) == (
                *row,
                decompress_text(data),
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
        customer = await author.create_customer(email="old@example.com")
        for number in range(30):
            await author.update_customer(customer, name=f"n{number}")
        await catch_up(dsn)
        async with connect(author) as conn:
            cur = await conn.execute("SELECT id FROM projections.feed ORDER BY position, ordinal")
            old = [row[0] for row in await cur.fetchall()]
        await author.advance_clock(days=40)
        await author.update_customer(customer, name="new")
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
