"""Which endpoints are owed what, whatever becomes of the feed and of the processes (contract §5.3, §5.5)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from ledger.config import load_settings
from ledger.domain import imported_event, webhook_endpoint_decisions
from ledger.domain.aggregate import State
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.postgres.connections import open_connection
from ledger.store.log import Recorded
from ledger.webhooks import deliveries, late
from ledger.webhooks.fanout import Fanout, FanoutResult
from ledger.webhooks.service import WebhookService
from projections.projection import Projection, Row
from projections.read_models.catalog import PROJECTIONS
from projections.read_models.feed import FEED
from tests.api.service import ROOT
from tests.forks import ForkedProcess, start_ledger
from tests.projections.corruption import UNREADABLE, Record, store_record
from tests.projections.histories import (
    ACCOUNT,
    KEY,
    Author,
    catch_up,
    create_generation,
    open_engine,
    run_story,
)
from tests.projections.rebuilds import OPERATOR
from tests.webhooks.receiver import Receiver, ScriptedResponse, wait_until

NOWHERE = "http://127.0.0.1:9/"


async def create_endpoint(author: Author, url: str = NOWHERE, **given: Any) -> str:
    created = webhook_endpoint_decisions.create(
        endpoint_id=author._id("we"),
        account=ACCOUNT,
        livemode=False,
        params={"url": url, "enabled_events": ["*"], **given},
        now=author.now,
    )
    return (await author.append(created))[0]


async def update_endpoint(author: Author, endpoint_id: str, **given: Any) -> None:
    state = author.states[endpoint_id]
    assert isinstance(state, WebhookEndpoint)
    await author.append(webhook_endpoint_decisions.update(state, given, now=author.now))


async def fan_out(author: Author) -> int:
    """Go on as far as the feed is; how many deliveries are new."""
    fanout = Fanout(author.store)
    owed = 0
    try:
        while (step := await fanout.advance()).checkpoint_moved or step.new_deliveries or step.has_more:
            owed += step.new_deliveries
    finally:
        await fanout.close()
    return owed


async def load_owed(author: Author) -> list[tuple[int, str, str]]:
    """(position, endpoint, state) of every delivery."""
    async with open_connection(author.dsn, "ledger_api", name="test") as conn:
        cur = await conn.execute("SELECT position, endpoint, state FROM webhooks.deliveries ORDER BY 1, 2")
        return await cur.fetchall()


def create_raising_feed(stream: str) -> list[Projection]:
    """All projections, but the feed's handler raises for one stream."""

    def apply(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
        if after.id == stream:
            raise ValueError
        return FEED.apply(before, recorded, after)

    return [dataclasses.replace(FEED, apply=apply) if each is FEED else each for each in PROJECTIONS]


@contextlib.asynccontextmanager
async def run_webhooks(author: Author, **settings: Any) -> AsyncIterator[WebhookService]:
    made = WebhookService(
        author.store, load_settings(webhook_poll_ms=20, **settings), lambda *_: ["whsec_test"]
    )
    await made.start()
    yield made
    await made.close()


@contextlib.contextmanager
def run_worker(dsn: str, **given: str) -> Iterator[ForkedProcess]:
    """A `ledger worker`, killed at the end; its leases are of 2.5 seconds."""
    settings = {
        "LEDGER_DATABASE_URL": dsn,
        "LEDGER_SECRET_KEY": KEY.decode(),
        "LEDGER_TEST_CLOCK": "true",
        "LEDGER_WEBHOOK_TIMEOUT_MS": "1000",
        "LEDGER_WEBHOOK_POLL_MS": "50",
        **given,
    }
    with tempfile.TemporaryDirectory() as place:
        process = start_ledger(
            ["worker"], environment=os.environ | settings, directory=ROOT, output=Path(place) / "output"
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def test_an_endpoint_is_owed_the_events_recorded_while_it_existed_and_was_enabled(dsn: str) -> None:
    async def story(author: Author) -> None:
        customer = await author.create_customer()  # 1
        first = await create_endpoint(author)  # 2
        await author.update_customer(customer, name="a")  # 3
        await update_endpoint(author, first, disabled=True)  # 4
        await author.update_customer(customer, name="b")  # 5
        await update_endpoint(author, first, disabled=False, enabled_events=["customer.deleted"])  # 6
        await author.update_customer(customer, name="c")  # 7
        second = await create_endpoint(author, enabled_events=["customer.updated", "*"])  # 8
        await author.update_customer(customer, name="d")  # 9
        state = author.states[second]
        assert isinstance(state, WebhookEndpoint)
        await author.append(webhook_endpoint_decisions.delete(state, now=author.now))  # 10
        await author.update_customer(customer, name="e")  # 11
        await catch_up(dsn)  # only now: all that is said of an endpoint is said as of then
        assert await fan_out(author) == 2
        assert await load_owed(author) == [(3, first, "pending"), (9, second, "dropped")]

    run_story(dsn, story)


def test_an_imported_event_is_in_the_feed_and_not_sent(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_endpoint(author)
        told = imported_event.create(
            event_id="evt_elsewhere",
            account=ACCOUNT,
            livemode=False,
            type="invoice.paid",
            object={"id": "in_1"},
            previous_attributes=None,
            now=author.now,
        )
        await author.append(told)
        await author.create_customer()
        await catch_up(dsn)
        assert await fan_out(author) == 1
        assert [position for position, *_ in await load_owed(author)] == [3]

    run_story(dsn, story)


def test_without_endpoints_one_step_reaches_the_head(dsn: str) -> None:
    async def story(author: Author) -> None:
        customer = await author.create_customer()
        for number in range(30):
            await author.update_customer(customer, name=str(number))
        await catch_up(dsn)
        fanout = Fanout(author.store)
        assert await fanout.advance() == FanoutResult(checkpoint_moved=True, no_endpoints=True)
        assert await fanout.advance() == FanoutResult(no_endpoints=True)
        await fanout.close()

    run_story(dsn, story)


def test_of_two_concurrent_fanouts_one_continues_and_nothing_is_owed_twice(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_endpoint(author)
        customer = await author.create_customer()
        for number in range(9):
            await author.update_customer(customer, name=str(number))
        await catch_up(dsn)
        runners = [Fanout(author.store) for _ in range(3)]
        for _ in range(4):
            await asyncio.gather(*(runner.advance() for runner in runners))
        for runner in runners:
            await runner.close()
        assert [position for position, *_ in await load_owed(author)] == list(range(2, 12))

    run_story(dsn, story)


def test_another_generation_of_the_feed_sends_nothing_again(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_endpoint(author)
        customer = await author.create_customer()
        await author.update_customer(customer, name="a")
        await catch_up(dsn)
        assert await fan_out(author) == 2
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            generation = await create_generation(conn)
            live = "UPDATE projections.live SET generation = %s"
            await conn.execute(live, (generation,))
            assert await fan_out(author) == 0  # it is empty yet
            await catch_up(dsn)
            assert await fan_out(author) == 0
            await author.update_customer(customer, name="b")
            await catch_up(dsn)
            assert await fan_out(author) == 1
            await conn.execute(live, (1,))
            assert await fan_out(author) == 0
        assert [position for position, *_ in await load_owed(author)] == [2, 3, 4]

    run_story(dsn, story)


def test_events_of_a_parked_stream_are_sent_once_it_is_healed(dsn: str) -> None:
    async def story(author: Author) -> None:
        bad, good = await author.create_customer(), await author.create_customer()  # 1, 2
        ended = await create_endpoint(author)  # 3
        await author.update_customer(bad, name="a")  # 4
        await author.update_customer(good, name="a")  # 5
        await update_endpoint(author, ended, disabled=True)  # 6
        await author.update_customer(bad, name="b")  # 7
        await catch_up(dsn, projections=create_raising_feed(bad))
        assert await fan_out(author) == 1
        later = await create_endpoint(author)  # 8
        await author.update_customer(bad, name="c")  # 9
        await catch_up(dsn, projections=create_raising_feed(bad))
        assert await fan_out(author) == 0
        async with open_engine(dsn) as repaired:
            assert await repaired.retry("feed", bad, OPERATOR)
        assert await fan_out(author) == 2
        assert await fan_out(author) == 0
        assert await load_owed(author) == [
            (4, ended, "pending"),
            (5, ended, "pending"),
            (9, later, "pending"),
        ]

    run_story(dsn, story)


def test_deliveries_claimed_by_a_killed_process_are_sent_by_another(
    dsn: str, receiver: Receiver, path: str
) -> None:
    receiver.scripts[path] = [ScriptedResponse(200, release=threading.Event()), ScriptedResponse(200)]

    async def story(author: Author) -> None:
        await create_endpoint(author, receiver.url(path))
        await author.create_customer()
        await catch_up(dsn)
        assert await fan_out(author) == 1  # and ends here, before anything is sent

    run_story(dsn, story)
    with run_worker(dsn):
        receiver.wait_for(path, 1)
    with run_worker(dsn):
        receiver.wait_for(path, 2)
        with psycopg.connect(dsn, autocommit=True) as conn:
            query = "SELECT state, tries FROM webhooks.deliveries"
            wait_until(lambda: conn.execute(query).fetchall() == [("delivered", 1)])
    assert len(receiver.requests_to(path)) == 2


def test_an_attempt_that_a_shutdown_cuts_off_is_due_at_once(dsn: str, receiver: Receiver, path: str) -> None:
    receiver.scripts[path] = [ScriptedResponse(200, release=threading.Event()), ScriptedResponse(200)]

    async def story(author: Author) -> None:
        await create_endpoint(author, receiver.url(path))
        await author.create_customer()
        await catch_up(dsn)
        async with run_webhooks(author):
            await asyncio.to_thread(receiver.wait_for, path, 1)
        async with run_webhooks(author):
            first, second = await asyncio.to_thread(receiver.wait_for, path, 2)
        assert second.received_at - first.received_at < 20  # of a lease's 31 seconds
        assert [state for *_, state in await load_owed(author)] == ["delivered"]

    run_story(dsn, story)


def test_retries_follow_the_one_clock(dsn: str, receiver: Receiver, path: str) -> None:
    receiver.scripts[path] = [ScriptedResponse(500)]

    async def story(author: Author) -> None:
        await create_endpoint(author, receiver.url(path))
        await author.create_customer()
        await catch_up(dsn)
        began = author.now
        async with run_webhooks(author):
            await asyncio.to_thread(receiver.wait_for, path, 1)
            for count, delay in enumerate((600, 3600, 10_800), 1):
                await wait_until_tried(author, count)
                await author.advance_clock(days=(delay - 30) / 86_400)
                await asyncio.sleep(0.1)
                assert len(receiver.requests_to(path)) == count
                await author.advance_clock(days=(30 + delay * 0.05) / 86_400)
                await asyncio.to_thread(receiver.wait_for, path, count + 1)
            await wait_until_tried(author, 4)
            await author.advance_clock(days=4)
            await asyncio.sleep(0.1)
        assert [state for *_, state in await load_owed(author)] == ["failed"]
        signed = [received.signed_at - began for received in receiver.requests_to(path)]
        assert [low <= at <= low * 1.05 + 5 for low, at in zip((0, 600, 4200, 15_000), signed, strict=True)]

    run_story(dsn, story)


async def wait_until_tried(author: Author, tries: int) -> None:
    async with open_connection(author.dsn, "ledger_api", name="test") as conn:
        while True:
            row = await (await conn.execute("SELECT max(tries) FROM webhooks.deliveries")).fetchone()
            if row == (tries,):
                return
            await asyncio.sleep(0.01)


def test_deliveries_are_deleted_with_their_events(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_endpoint(author)
        await author.create_customer()
        await catch_up(dsn)
        await fan_out(author)
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            ((delivery,),) = await (await conn.execute("SELECT id FROM webhooks.deliveries")).fetchall()
            attempt = deliveries.Attempt(author.now, 1, 200, b"", None)
            await deliveries.record_outcome(conn, delivery, "delivered", account="acct_x", attempt=attempt)
            now = author.store.clock.now()
            assert await deliveries.delete_expired(conn, now + 30 * 86_400 - 60) == 0
            assert await deliveries.delete_expired(conn, now + 30 * 86_400 + 60) == 1
        assert await load_owed(author) == []

    run_story(dsn, story)


def test_an_endpoint_with_a_long_backlog_delays_no_other(dsn: str) -> None:
    async def story(author: Author) -> None:
        crowded = await create_endpoint(author, enabled_events=["customer.updated"])
        customer = await author.create_customer()
        for number in range(20):
            await author.update_customer(customer, name=str(number))
        other = await create_endpoint(author, enabled_events=["customer.created"])
        await author.create_customer()
        await catch_up(dsn)
        assert await fan_out(author) == 21
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            now = author.store.clock.now()

            async def claimed(room: dict[str, int], limit: int = 100) -> list[str]:
                taken = await deliveries.claim(
                    conn,
                    now=now,
                    limit=limit,
                    endpoint_limit_default=3,
                    endpoint_limits=room,
                    lease_seconds=60.0,
                )
                return sorted(each.endpoint for each in taken)

            assert await claimed({}) == sorted([crowded] * 3 + [other])
            assert await claimed({crowded: 1}) == [crowded]
            assert await claimed({crowded: 0}) == []
            assert await claimed({}, limit=2) == [crowded] * 2

    run_story(dsn, story)


@pytest.mark.parametrize("range_events_max", [1, 1000])
@pytest.mark.parametrize("kind", ["topic of a later release", "no JSON"])
def test_an_endpoint_that_cannot_be_read_gets_its_events_once_it_can(
    dsn: str, kind: str, range_events_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late, "RANGE_EVENTS_MAX", range_events_max)
    record = UNREADABLE[kind][0]
    if record.topic is not None:
        record = record._replace(topic="webhook_endpoint.rotated")

    async def story(author: Author) -> None:
        customer = await author.create_customer()  # 1
        bad, good = await create_endpoint(author), await create_endpoint(author)  # 2, 3
        await author.update_customer(customer, name="a")  # 4
        await update_endpoint(author, bad, enabled_events=["customer.updated"])  # 5
        await author.update_customer(customer, name="b")  # 6
        await author.create_customer()  # 7
        was = await store_record(dsn, 5, record)
        await catch_up(dsn)
        await fan_out(author)
        expected = [(4, bad, "pending"), *((position, good, "pending") for position in (4, 6, 7))]
        assert await load_owed(author) == sorted(expected)
        await author.update_customer(customer, name="c")  # 8
        await author.create_customer()  # 9
        await catch_up(dsn)
        await fan_out(author)
        expected += [(8, good, "pending"), (9, good, "pending")]
        assert await load_owed(author) == sorted(expected)

        await store_record(dsn, 5, was)
        async with open_engine(dsn) as repaired:
            assert await repaired.retry("webhook_endpoints", bad, OPERATOR)
        assert await fan_out(author) == 2
        assert await load_owed(author) == sorted([*expected, (6, bad, "pending"), (8, bad, "pending")])
        assert await load_late(author) == []

    run_story(dsn, story)


def test_the_only_endpoint_misses_nothing_if_its_creation_cannot_be_read(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer()  # 1
        bad = await create_endpoint(author)  # 2
        await author.create_customer()  # 3
        was = await store_record(dsn, 2, UNREADABLE["no JSON"][0])
        await catch_up(dsn)
        assert await fan_out(author) == 0
        assert await load_late(author) == [(bad, 2)]
        await store_record(dsn, 2, was)
        async with open_engine(dsn) as repaired:
            assert await repaired.retry("webhook_endpoints", bad, OPERATOR)
        assert await fan_out(author) == 1
        assert await load_owed(author) == [(3, bad, "pending")]

    run_story(dsn, story)


@pytest.mark.parametrize("kind", ["no JSON", "topic of a later release"])
def test_an_endpoint_that_only_the_fan_out_cannot_read_delays_no_other(dsn: str, kind: str) -> None:
    async def story(author: Author) -> None:
        bad, good = await create_endpoint(author), await create_endpoint(author)  # 1, 2
        await catch_up(dsn)
        await fan_out(author)
        was = await store_record(dsn, 1, UNREADABLE[kind][0])
        healed = await author.create_customer()  # 3
        await catch_up(dsn, projections=create_raising_feed(healed))
        await fan_out(author)
        await author.create_customer()  # 4
        await catch_up(dsn)
        async with open_engine(dsn) as repaired:
            assert await repaired.retry("feed", healed, OPERATOR)
        for _ in range(2):
            await fan_out(author)
            assert await load_owed(author) == [(3, good, "pending"), (4, good, "pending")]
        assert await load_late(author) == [(bad, 3)]
        await store_record(dsn, 1, was)
        assert await fan_out(author) == 2
        assert await load_late(author) == []

    run_story(dsn, story)


async def load_late(author: Author) -> list[tuple[str, int]]:
    """The streams that the fan-out has to make up for, each with its first position."""
    async with open_connection(author.dsn, "ledger_api", name="test") as conn:
        cur = await conn.execute("SELECT stream, position FROM webhooks.late ORDER BY position")
        return await cur.fetchall()


def test_nothing_is_sent_to_an_endpoint_that_cannot_be_read(dsn: str, receiver: Receiver, path: str) -> None:
    async def past(author: Author) -> Record:
        await create_endpoint(author, receiver.url(path))  # 1
        await author.create_customer()  # 2
        await catch_up(dsn)
        assert await fan_out(author) == 1
        return await store_record(dsn, 1, UNREADABLE["no JSON"][0])

    was = run_story(dsn, past)

    async def story(author: Author) -> None:
        with capture_logs() as logged:
            async with run_webhooks(author, webhook_timeout_ms=100):
                await asyncio.to_thread(wait_until, lambda: logged)
                assert receiver.requests_to(path) == []
                await store_record(dsn, 1, was)
                await asyncio.to_thread(receiver.wait_for, path, 1)
        assert logged[0]["reason"] == "not_json"

    run_story(dsn, story)
