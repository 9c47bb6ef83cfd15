"""Retries of many: which deliveries they take, how they go on, and what becomes of them if stopped."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import pytest

from ledger.domain import webhook_endpoint_decisions
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import InvalidParameter, InvalidWebhookState, UnknownReference
from ledger.ids import new_id
from ledger.postgres.connections import Conn
from ledger.store.log import PLANNER_SETTINGS
from ledger.webhooks import deliveries
from ledger.webhooks.history import deliveries as lists
from ledger.webhooks.history import endpoint_list
from ledger.webhooks.history.filters import STATES
from ledger.webhooks.history.owners import bind_owner
from ledger.webhooks.history.retry import TRIES_MAX
from ledger.webhooks.replays.job import ReplayJob
from ledger.webhooks.retries import filters, job, selection
from ledger.webhooks.retries.filters import RetryRequest, resolve_retry
from ledger.webhooks.retries.job import RetryJob
from ledger.webhooks.retries.preview import RetryPreview, preview_retry
from ledger.webhooks.retries.progress import Retry
from ledger.webhooks.retries.records import UNENDED_MAX, change_retry, get_retry, list_retries, start_retry
from ledger.webhooks.service import connect_jobs
from tests.projections.histories import ACCOUNT, Author, catch_up, run_story
from tests.webhooks.test_fanout import create_endpoint, update_endpoint
from tests.webhooks.test_replays import OPERATOR, connect, settle
from tests.webhooks.test_replays import start as start_replay

OWNER = (ACCOUNT, False)


async def preview(author: Author, *, rows_max: int | None = None, **given: Any) -> RetryPreview:
    now = author.store.clock.now()
    async with connect(author) as conn:
        chosen = await resolve_retry(conn, RetryRequest(**given), owner=OWNER, now=now)
        return await preview_retry(conn, author.store.codec, chosen, now=now, rows_max=rows_max)


async def start(author: Author, **given: Any) -> Retry:
    now = author.store.clock.now()
    async with connect(author) as conn:
        chosen = await resolve_retry(conn, RetryRequest(**given), owner=OWNER, now=now)
        return await start_retry(conn, chosen, OPERATOR, now=now)


async def change(author: Author, retry: Retry, action: Any) -> Retry:
    async with connect(author) as conn:
        now = author.store.clock.now()
        return await change_retry(conn, retry.id, action, OPERATOR, owner=None, now=now)


async def read(author: Author, retry: Retry) -> Retry:
    async with connect(author) as conn:
        return await get_retry(conn, retry.id, owner=OWNER)


async def advance(author: Author, rounds: int = 1) -> int:
    """How many deliveries some rounds of the job make due."""
    connection = connect_jobs(author.store)
    running = RetryJob(author.store, connection)
    try:
        return sum([(await running.advance()).made_due for _ in range(rounds)])
    finally:
        await connection.drop()


async def ask(author: Author, query: str, *values: object) -> list[tuple[Any, ...]]:
    async with connect(author) as conn:
        cur = await conn.execute(query.encode(), values)
        return await cur.fetchall() if cur.description else []


async def make_deliveries(author: Author, states: Sequence[str]) -> str:
    """One delivery in each of these states, attempted once, to a new endpoint."""
    endpoint = await create_endpoint(author)
    await catch_up(author.dsn)
    now = author.store.clock.now()
    for number, state in enumerate(states):
        delivery = new_id("dlv", now - 10 + number / 100)
        await ask(
            author,
            "INSERT INTO webhooks.deliveries (id, event, endpoint, account, livemode, created, position,"
            " ordinal, type, state, tries, due_at) VALUES (%s, %s, %s, %s, false, %s, 1, 0,"
            " 'customer.created', %s, 1, now() + interval '1 hour')",
            delivery, delivery.replace("dlv", "evt"), endpoint, ACCOUNT, int(now), state,
        )  # fmt: skip
    return endpoint


async def list_states(author: Author, endpoint: str) -> list[str]:
    rows = await ask(
        author, "SELECT state FROM webhooks.deliveries WHERE endpoint = %s ORDER BY id", endpoint
    )
    return [row[0] for row in rows]


def test_what_was_given_up_is_counted_then_made_due_once_and_the_retry_ends(dsn: str) -> None:
    async def story(author: Author) -> None:
        endpoint = await make_deliveries(author, ["failed", "delivered", "dropped", "pending"])
        before = await list_states(author, endpoint)
        found = await preview(author)
        assert (found.due, found.is_complete) == (2, True)
        assert found.to_json()["endpoints"] == [
            {"endpoint": endpoint, "by_state": {"dropped": 1, "failed": 1}, "due": 2, "left_out": {}}
        ]
        assert await list_states(author, endpoint) == before, "a dry run changes nothing"
        retry = await start(author)
        assert (retry.matched, retry.made_due) == (None, 0)
        assert await advance(author, 5) == 2
        assert await list_states(author, endpoint) == ["pending", "delivered", "pending", "pending"]
        running = await read(author, retry)
        assert (running.state, running.matched, running.made_due, running.pending) == ("running", 2, 2, 2)
        assert (
            await ask(
                author, "SELECT tries, schedule_from FROM webhooks.deliveries WHERE replay = %s", retry.id
            )
            == [(1, 1)] * 2
        ), "the whole schedule is before them"
        await settle(author, "delivered")
        assert await advance(author, 2) == 0
        ended = await read(author, retry)
        assert (ended.state, ended.delivered, ended.failed, ended.pending) == ("completed", 2, 0, 0)
        actions = await ask(
            author, "SELECT action, who, details ->> 'reason' FROM ledger.operations ORDER BY id"
        )
        assert actions == [
            ("webhook_retry_started", "op@host", "a test"),
            ("webhook_retry_completed", "ledger", None),
        ]

    run_story(dsn, story)


def test_filters_by_type_event_time_and_last_result_say_which_are_taken(dsn: str) -> None:
    async def story(author: Author) -> None:
        endpoint = await make_deliveries(author, ["failed"] * 3)
        other = await make_deliveries(author, ["failed"])
        rows = await ask(
            author, "SELECT id, event FROM webhooks.deliveries WHERE endpoint = %s ORDER BY id", endpoint
        )
        for (delivery, _), status, error in zip(rows, (503, 500, None), (None, None, "timeout"), strict=True):
            await ask(
                author,
                "INSERT INTO webhooks.attempts (delivery, number, at, duration_ms, status, error)"
                " VALUES (%s, 1, now(), 5, %s, %s)",
                delivery, status, error,
            )  # fmt: skip
        now = int(author.store.clock.now())
        for given, due in (
            ({}, 4),
            ({"endpoint": endpoint}, 3),
            ({"endpoint": other, "types": ["customer.*"]}, 1),
            ({"types": ["charge.succeeded"]}, 0),
            ({"status": 503}, 1),
            ({"error": "timeout"}, 1),
            ({"event": rows[0][1]}, 1),
            ({"event": rows[0][1], "status": 500}, 0),
            ({"states": ["delivered"]}, 0),
            ({"created": {"gte": now - 60, "lt": now + 60}}, 4),
            ({"created": {"lt": now - 60}}, 0),
        ):
            assert (await preview(author, **given)).due == due, given
        assert await advance(author) == 0, "a dry run starts nothing"
        retry = await start(author, status=503, endpoint=endpoint)
        assert await advance(author, 5) == 1
        assert await list_states(author, endpoint) == ["pending", "failed", "failed"]
        assert (await read(author, retry)).chosen.request.status == 503
        for wrong, param in (
            ({"endpoint": "we_none"}, "endpoint"),
            ({"event": "evt_none"}, "event"),
            ({"states": ["forwarded"]}, "state"),
            ({"types": ["lost"]}, "types"),
            ({"created": {"gte": now + 60}}, "created"),
        ):
            with pytest.raises((InvalidParameter, UnknownReference)) as refused:
                await start(author, **wrong)
            assert refused.value.param == param

    run_story(dsn, story)


def test_a_cancelled_retry_gives_back_the_former_states(dsn: str) -> None:
    async def story(author: Author) -> None:
        endpoint = await make_deliveries(author, ["failed", "delivered", "dropped", "pending", "failed"])
        retry = await start(author, states=["failed", "delivered", "dropped", "pending"])
        assert await advance(author, 3) == 5
        accepted = await ask(
            author,
            "UPDATE webhooks.deliveries SET state = 'delivered', tries = 2"
            " WHERE id = (SELECT max(id) FROM webhooks.deliveries) RETURNING id",
        )
        assert accepted
        cancelled = await change(author, retry, "cancel")
        assert (cancelled.state, cancelled.delivered, cancelled.returned) == ("cancelled", 1, 4)
        assert await list_states(author, endpoint) == [
            "failed",
            "delivered",
            "dropped",
            "pending",
            "delivered",
        ]
        owed = await ask(
            author, "SELECT replay, due_at <= now() FROM webhooks.deliveries WHERE state = 'pending'"
        )
        assert owed == [(None, True)], "what was owed before is owed still, and goes out"
        assert await advance(author, 3) == 0
        assert (await change(author, retry, "cancel")).returned == 4
        with pytest.raises(InvalidWebhookState, match="has ended: it is cancelled"):
            await change(author, retry, "pause")

    run_story(dsn, story)


def test_an_endpoint_that_fails_holds_up_only_its_own_part(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "QUEUED_MAX", 2)

    async def story(author: Author) -> None:
        slow = await make_deliveries(author, ["failed"] * 6)
        quick = await make_deliveries(author, ["failed"] * 6)
        retry = await start(author)
        for _ in range(12):
            await advance(author)
            await ask(
                author,
                "UPDATE webhooks.deliveries SET state = 'delivered', tries = tries + 1"
                " WHERE endpoint = %s AND state = 'pending' AND replay IS NOT NULL",
                quick,
            )
        parts = {part.endpoint: part for part in (await read(author, retry)).parts}
        assert (parts[slow].made_due, parts[quick].made_due) == (2, 6)
        await change(author, retry, "pause")
        await settle(author, "failed")
        assert await advance(author, 3) == 0
        await change(author, retry, "resume")
        assert await advance(author, 3) == 2

    run_story(dsn, story)


def test_disabled_and_deleted_endpoints_are_left_out_with_the_reason(dsn: str) -> None:
    async def story(author: Author) -> None:
        disabled = await make_deliveries(author, ["failed"] * 2)
        deleted = await make_deliveries(author, ["failed"])
        spent = await make_deliveries(author, ["failed"])
        await update_endpoint(author, disabled, disabled=True)
        state = author.states[deleted]
        assert isinstance(state, WebhookEndpoint)
        await author.append(webhook_endpoint_decisions.delete(state, now=author.now))
        await ask(author, "UPDATE webhooks.deliveries SET tries = %s WHERE endpoint = %s", TRIES_MAX, spent)
        await catch_up(dsn)
        found = await preview(author)
        assert {part.endpoint: part.left_out for part in found.parts if part.left_out} == {
            disabled: {"endpoint_disabled": 2},
            deleted: {"endpoint_deleted": 1},
            spent: {"attempts_exhausted": 1},
        }
        retry = await start(author)
        await advance(author, 6)
        shown = (await read(author, retry)).to_json()
        assert shown["left_out"] == {
            "endpoint_disabled": 2, "endpoint_deleted": 1, "attempts_exhausted": 1,
        }  # fmt: skip
        assert (shown["state"], shown["made_due"], shown["matched"]) == ("completed", 0, 4)

    run_story(dsn, story)


def test_jobs_do_not_take_deliveries_from_each_other(dsn: str) -> None:
    async def story(author: Author) -> None:
        endpoint = await make_deliveries(author, ["failed"] * 3)
        first = await start(author)
        await advance(author, 3)
        await settle(author, "failed")  # the retry has not noticed yet
        second = await start(author, states=["failed"])
        replay = await start_replay(author, endpoint, only_failed=True)
        await advance(author, 1)  # ends the first, counts for the second
        assert (await read(author, first)).state == "completed"
        assert await advance(author, 3) == 3
        connection = connect_jobs(author.store)
        replays = ReplayJob(author.store, connection)
        for _ in range(3):
            await replays.advance()
        await connection.drop()
        rows = await ask(author, "SELECT DISTINCT replay FROM webhooks.deliveries")
        assert rows == [(second.id,)], replay.id
        third = await start(author, states=["failed", "pending", "delivered"])
        await settle(author, "failed")
        await advance(author, 1)
        assert (await read(author, third)).made_due == 0

    run_story(dsn, story)


def test_two_processes_make_each_delivery_due_once(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "TAKE_ROWS_MAX", 7)

    async def story(author: Author) -> None:
        await make_deliveries(author, ["failed"] * 60)
        await make_deliveries(author, ["failed"] * 40)
        retry = await start(author)
        made = await asyncio.gather(*(advance(author, 30) for _ in range(3)))
        assert sum(made) == 100
        assert (await read(author, retry)).made_due == 100
        query = "SELECT max(schedule_from), count(*) FROM webhooks.deliveries WHERE replay = %s"
        assert await ask(author, query, retry.id) == [(1, 100)]

    run_story(dsn, story)


def test_a_dry_run_says_when_it_has_not_counted_all(dsn: str) -> None:
    async def story(author: Author) -> None:
        await make_deliveries(author, ["failed"] * 5)
        await make_deliveries(author, ["failed"] * 2)
        found = await preview(author, rows_max=6)
        assert (found.due, found.is_complete) == (6, False)
        assert (await preview(author, rows_max=100)).due == 7

    run_story(dsn, story)


def test_an_account_may_have_so_many_retries_at_a_time(dsn: str) -> None:
    async def story(author: Author) -> None:
        await make_deliveries(author, ["failed"])
        retries = [await start(author) for _ in range(UNENDED_MAX)]
        with pytest.raises(InvalidWebhookState, match="50 retries of this account have not ended"):
            await start(author)
        async with connect(author) as conn:
            page, has_more = await list_retries(conn, owner=OWNER, limit=10)
            assert [retry.id for retry in page] == [retry.id for retry in reversed(retries[-10:])]
            assert has_more
            rest, _ = await list_retries(conn, owner=OWNER, starting_after=page[-1].id, limit=100)
            assert len(rest) == UNENDED_MAX - 10
            assert (await list_retries(conn, owner=("acct_other", False), limit=10))[0] == []

    run_story(dsn, story)


async def check_plan(conn: Conn, query: str, parameters: Mapping[str, Any]) -> None:
    """No part of the plan reads more than some pages of rows; what the query changes is undone."""
    cur = await conn.execute(f"EXPLAIN (ANALYZE, TIMING OFF) {query}".encode(), parameters)
    plan = "\n".join(row[0] for row in await cur.fetchall())
    assert max(int(rows) for rows in re.findall(r"actual rows=(\d+)", plan)) <= 1000, plan
    assert not re.search(r"Rows Removed by Filter: \d{4}", plan), plan
    assert "Seq Scan on deliveries" not in plan, plan
    await conn.rollback()


def test_a_page_and_a_step_read_a_bounded_part_of_an_index(dsn: str) -> None:
    """However many deliveries there are: 20,000 stand for a million."""

    async def story(author: Author) -> None:
        endpoint = await create_endpoint(author)
        await catch_up(dsn)
        with psycopg.connect(dsn, autocommit=True) as owner:
            owner.execute(
                "INSERT INTO webhooks.deliveries"
                " (id, event, endpoint, account, livemode, created, position, ordinal, type, due_at, state)"
                " SELECT 'dlv_' || lpad(n::text, 22, '0'), 'evt_' || n, %s, %s, false, 0, n, 0,"
                " 'customer.created', now(), CASE WHEN n %% 10 = 0 THEN 'failed' ELSE 'delivered' END"
                " FROM generate_series(1, 20000) AS n",
                (endpoint, ACCOUNT),
            )
            owner.execute("VACUUM ANALYZE webhooks.deliveries")
        now = author.store.clock.now()
        async with connect(author) as conn:
            for name, value in PLANNER_SETTINGS.items():
                await conn.execute(f"SET {name} = '{value}'".encode())
            chosen = await resolve_retry(conn, RetryRequest(states=["failed"]), owner=OWNER, now=now)
            parameters = {
                **chosen.bind(now),
                "endpoint": endpoint,
                "after": "dlv_",
                "rows": 100,
                "room": 50,
                "retry": "wrt_1",
            }
            await check_plan(conn, selection._COUNT_OF_STATES, parameters)
            await check_plan(conn, selection._TAKE_OF_STATES, parameters)
        async with connect(author) as conn:  # as requests ask
            rare = {
                **bind_owner(OWNER),
                "endpoint": endpoint,
                "states": list(STATES),
                "types": ["customer.deleted", "charge.succeeded"],
                "first": "dlv_",
                "before": "dlv_z",
                "rows": 101,
                "limit": 100,
                "after": None,
                "now": now,
            }
            for query in (lists._OF_ACCOUNT, lists._OF_ACCOUNT_AND_TYPES, lists._OF_ENDPOINT_AND_TYPES):
                await check_plan(conn, query, rare)
            await check_plan(conn, filters._ENDPOINTS, rare)
            await check_plan(conn, endpoint_list._PAGE, {**rare, "rows": 100})

    run_story(dsn, story)


def test_what_a_retry_counts_is_kept_until_it_ends(dsn: str) -> None:
    async def story(author: Author) -> None:
        await make_deliveries(author, ["failed"])
        retry = await start(author)
        await advance(author, 3)
        await settle(author, "delivered")
        later = author.store.clock.now() + deliveries.RETENTION_SECONDS + 60
        async with connect(author) as conn:
            assert await deliveries.delete_expired(conn, later) == 0
            await advance(author, 2)
            assert (await read(author, retry)).delivered == 1
            assert await deliveries.delete_expired(conn, later) > 0
        assert (await read(author, retry)).delivered == 1

    run_story(dsn, story)
