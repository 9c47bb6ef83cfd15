"""An endpoint that has failed throughout for LEDGER_WEBHOOK_DISABLE_AFTER_SECONDS is disabled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from ledger.audit.auditor import Auditor
from ledger.audit.history import read_history
from ledger.call import Call, Cause
from ledger.domain.webhook_endpoint import WebhookEndpoint, WebhookEndpointDisabled
from ledger.postgres.connections import open_connection
from ledger.queries import event_destinations
from ledger.webhooks.schedule.disablement import Disablement
from tests.projections.histories import ACCOUNT, Author, catch_up, run_story
from tests.projections.queries import open_queries
from tests.webhooks.receiver import Receiver, ScriptedResponse, wait_until
from tests.webhooks.test_fanout import create_endpoint, run_webhooks, update_endpoint

AFTER_SECONDS = 3600
DISABLED = "SELECT FROM ledger.events WHERE originator_id = %s AND topic = 'webhook_endpoint.disabled'"
INSERT_FAILURE = """
INSERT INTO webhooks.endpoint_health
    (endpoint, account, livemode, failing, since, attempts, given_up, last_attempt_at, status, error,
     began_at)
VALUES (%s, 'acct_1', false, %s, to_timestamp(%s), 9, 2, to_timestamp(%s), 503, NULL, now())
"""


async def read_endpoint(author: Author, endpoint: str) -> WebhookEndpoint:
    state = await author.store.streams.read(endpoint)
    assert isinstance(state, WebhookEndpoint)
    return state


async def consider(
    author: Author, endpoint: WebhookEndpoint, at: float, after_seconds: int = AFTER_SECONDS
) -> None:
    async with open_connection(author.dsn, "ledger_api", name="test") as conn:
        await Disablement(author.store, after_seconds).consider(conn, endpoint, at)


def record_failure(
    author: Author, endpoint: str, *, failing: bool = True, for_seconds: float = AFTER_SECONDS
) -> None:
    with psycopg.connect(author.dsn) as conn:
        now = author.now
        conn.execute(INSERT_FAILURE, (endpoint, failing, now - for_seconds, now))


def tell(dsn: str, story: Callable[[Author, str], Any]) -> None:
    async def run(author: Author) -> None:
        await story(author, await create_endpoint(author))

    run_story(dsn, run)


def test_an_endpoint_that_failed_for_so_long_is_disabled_once_and_starts_afresh_when_it_is_enabled(
    dsn: str,
) -> None:
    async def story(author: Author, endpoint: str) -> None:
        record_failure(author, endpoint)
        state = await read_endpoint(author, endpoint)
        with capture_logs() as logs:
            await asyncio.gather(*(consider(author, state, author.now) for _ in range(4)))
        (line,) = logs
        assert (line["event"], line["endpoint"]) == ("webhook_endpoint_disabled", endpoint)
        assert (line["attempts"], line["status"], "error" in line) == (9, 503, False)
        (*_, event) = await author.store.streams.read_events([endpoint])
        assert isinstance(event, WebhookEndpointDisabled)
        assert (event.failed_attempts, event.status, event.error) == (9, 503, None)
        async with open_queries(author) as queries:
            history = await read_history(queries, Auditor(ACCOUNT, False, "key_1"), endpoint, order="desc")
            call = Call(Cause(ACCOUNT, False, "key_1", None, None), endpoint, {})
            shown = (await event_destinations.retrieve(call, queries)).body
        assert shown["status_details"] == {"disabled": {"reason": "delivery_failures"}}
        why = {"failed_attempts": 9, "status": 503, "error": None}
        assert history["data"][0]["details"] == {"failing_since": event.failing_since, **why}
        state = await read_endpoint(author, endpoint)
        assert (state.disabled, state.version) == (True, 2)
        author.states[endpoint] = state
        with psycopg.connect(author.dsn) as conn:
            assert conn.execute("SELECT failing FROM webhooks.endpoint_health").fetchall() == [(False,)]
            conn.execute(
                "UPDATE webhooks.endpoint_health SET failing = true"
            )  # as if the process had died here
        await update_endpoint(author, endpoint, disabled=False)
        await consider(author, await read_endpoint(author, endpoint), author.now)
        assert (await read_endpoint(author, endpoint)).disabled is False

    tell(dsn, story)


@pytest.mark.parametrize(
    ("failing", "for_seconds", "after_seconds"),
    [(True, AFTER_SECONDS - 60, AFTER_SECONDS), (False, AFTER_SECONDS, AFTER_SECONDS), (True, 10**6, 0)],
    ids=["not yet", "a success came first", "the setting is off"],
)
def test_any_other_endpoint_stays_enabled(
    dsn: str, failing: bool, for_seconds: int, after_seconds: int
) -> None:
    async def story(author: Author, endpoint: str) -> None:
        record_failure(author, endpoint, failing=failing, for_seconds=for_seconds)
        await consider(author, await read_endpoint(author, endpoint), author.now, after_seconds)
        assert (await read_endpoint(author, endpoint)).version == 1

    tell(dsn, story)


def test_whoever_changes_the_endpoint_meanwhile_keeps_it_enabled(dsn: str) -> None:
    async def story(author: Author, endpoint: str) -> None:
        record_failure(author, endpoint)
        attempted = await read_endpoint(author, endpoint)
        await update_endpoint(author, endpoint, url="http://127.0.0.1:10/")
        with capture_logs() as logs:
            await consider(author, attempted, author.now)
        assert logs == []
        assert (await read_endpoint(author, endpoint)).disabled is False

    tell(dsn, story)


def test_the_sender_disables_what_it_cannot_deliver_to(dsn: str, receiver: Receiver, path: str) -> None:
    receiver.scripts[path] = [ScriptedResponse(500)]

    async def story(author: Author) -> None:
        endpoint = await create_endpoint(author, receiver.url(path))
        await author.create_customer()
        await catch_up(dsn)
        settings = {"webhook_retry_seconds_test": (1.0,) * 9, "webhook_disable_after_seconds": 1}
        async with run_webhooks(author, **settings):
            with psycopg.connect(dsn, autocommit=True) as conn:
                await asyncio.to_thread(wait_until, lambda: conn.execute(DISABLED, [endpoint]).fetchall())

    run_story(dsn, story)
    assert len(receiver.requests_to(path)) >= 2
