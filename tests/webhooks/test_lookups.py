"""How an Event is looked up in the feed: in an index, also by a plan made while the feed was empty."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ledger.domain import imported_event
from ledger.postgres.connections import connect
from ledger.store.log import PLANNER_SETTINGS
from ledger.webhooks import deliveries, subscriptions
from tests.projections.histories import Author, catch_up, run_story


async def explain(author: Author, query: str, parameters: Mapping[str, Any]) -> list[str]:
    """The conditions by which a part of the feed is read, of each part."""
    async with await connect(author.dsn, "ledger_api", name="test", settings=PLANNER_SETTINGS) as conn:
        cur = await conn.execute(f"EXPLAIN {query}".encode(), parameters)
        plan = "\n".join(row[0] for row in await cur.fetchall())
    conditions = re.findall(r"on feed_g\d+\S* .*\n\s+(?:Index|Recheck) Cond: (.*)", plan)
    assert conditions, plan
    return conditions


def test_a_claim_looks_up_each_event_by_its_id(dsn: str) -> None:
    async def story(author: Author) -> None:
        await catch_up(dsn)
        parameters = {"now": 1.0, "limit": 9, "each": 2, "room": "[]", "lease": 1.0}
        for condition in await explain(author, deliveries._CLAIM, parameters):
            assert "id = claimed.event" in condition

    run_story(dsn, story)


def test_the_fanout_looks_up_each_event_by_its_position(dsn: str) -> None:
    async def story(author: Author) -> None:
        await catch_up(dsn)
        past = [event.TOPIC for event in imported_event.EVENTS]
        parameters = {"past": past, "feed": 1, "endpoints": 1, "after": 0, "upto": 9}
        for condition in await explain(author, subscriptions._EVENTS_OF_RANGE, parameters):
            assert "hash_record_extended" in condition
            assert "notification_id" in condition

    run_story(dsn, story)
