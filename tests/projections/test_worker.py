"""What a worker does beside applying the log survives any failure, and logs what failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from psycopg import AsyncConnection
from structlog.testing import capture_logs

from ledger.metrics.backlogs import read_lags
from ledger.postgres.connections import open_connection
from projections.worker import Sampler
from tests.projections.corruption import corrupt_event
from tests.projections.histories import Author, catch_up, run_story

WAIT_SECONDS = 60.0


async def wait_until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def load_differing(dsn: str) -> set[str]:
    async with open_connection(dsn, "ledger_api", name="test") as conn:
        return {lag.projection for lag in await read_lags(conn, 0.0) if lag.differing}


def test_the_sampler_logs_rows_that_differ_and_keeps_them_for_the_metrics(dsn: str) -> None:
    async def story(author: Author) -> None:
        victim = await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
            await conn.execute("UPDATE projections.customers SET email = 'x'")
        sampler = Sampler(author.store, pause_seconds=0.01)
        with capture_logs() as logged:
            await sampler.start()
            await wait_until(lambda: logged)
            await sampler.close()
        assert logged[0]["event"] == "rows differ from a replay of the log"
        assert (logged[0]["projection"], logged[0]["keys"]) == ("customers", [victim])
        assert await load_differing(dsn) == {"customers"}

    run_story(dsn, story)


def test_an_event_that_cannot_be_read_is_logged_once_and_the_sampler_continues(dsn: str) -> None:
    followers = ["audit_keys", "customers", "feed", "payment_methods"]

    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await author.create_charge()
        await catch_up(dsn)
        was = await corrupt_event(dsn, 1)
        sampler = Sampler(author.store, pause_seconds=0.01)
        with capture_logs() as logged:
            await sampler.start()
            await wait_until(lambda: {entry["projection"] for entry in logged} == set(followers))
            async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
                await conn.execute("UPDATE projections.charges SET created = 1")
            await wait_until(lambda: logged[-1]["event"] == "rows differ from a replay of the log")
            left_out_names = [
                entry["projection"]
                for entry in logged
                if entry["event"] == "stream was left out of the verification"
            ]
            assert sorted(left_out_names) == followers
            assert {entry["reason"] for entry in logged if "reason" in entry} == {
                "not_json: version 1, topic customer.created"
            }
            await corrupt_event(dsn, 1, was)
            del logged[:]
            async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
                await conn.execute("UPDATE projections.customers SET email = 'x'")
            await wait_until(lambda: any(entry["projection"] == "customers" for entry in logged))
            await sampler.close()
        assert await load_differing(dsn) == {"customers", "charges"}

    run_story(dsn, story)
