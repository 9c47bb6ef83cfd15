"""Every kind of recorded event is shown whole, also one that cannot be read."""

from __future__ import annotations

from base64 import b64decode

import msgspec
import pytest

from ledger.audit.auditor import Auditor
from ledger.audit.search.entries import LogEntry
from ledger.audit.search.filters import LogFilters
from ledger.audit.search.pages import search_log
from ledger.audit.search.recorded_events import read_recorded_event
from ledger.postgres.connections import Conn, open_connection
from ledger.queries.context import QueryContext
from ledger.store.log import read_log
from projections.read_models.feed import FEED
from tests.projections.corruption import UNREADABLE, store_record
from tests.projections.histories import ACCOUNT, Author, catch_up, run_story
from tests.projections.history_commands import COMMANDS
from tests.projections.queries import open_queries

AUDITOR = Auditor(ACCOUNT, False, "key_test")
TRUSTED_AUDITOR = Auditor(ACCOUNT, False, "key_test", shows_personal_data=True)
FIRST_COMMANDS = ("create_customer", "create_charge", "open_dispute", "create_endpoint")


async def load_public_events(conn: Conn) -> dict[int, list[tuple[str, str]]]:
    """The ids and types of the public Events in the feed, by position."""
    cur = await conn.execute("SELECT position, id, type FROM projections.feed ORDER BY position, ordinal")
    by_position: dict[int, list[tuple[str, str]]] = {}
    for position, event_id, event_type in await cur.fetchall():
        by_position.setdefault(position, []).append((event_id, event_type))
    return by_position


async def read_entries(queries: QueryContext) -> list[LogEntry]:
    page = await search_log(queries, AUDITOR, LogFilters(), limit=1000, descending=False)
    return page.entries


def test_every_event_has_its_public_events_its_type_of_object_and_its_fields(dsn: str) -> None:
    async def story(author: Author) -> None:
        for number in range(3):
            for command in (*FIRST_COMMANDS, *sorted(COMMANDS)):
                await author.run_command(command, number, number + 1)
        await catch_up(dsn, projections=[FEED])
        async with open_queries(author) as queries, open_connection(dsn, "ledger_api", name="test") as conn:
            feed = await load_public_events(conn)
            entries = await read_entries(queries)
            recorded = await read_log(conn, author.store.codec, 0, 1000)
            assert [entry.position for entry in entries] == [item.position for item in recorded]
            for entry, item in zip(entries, recorded, strict=True):
                assert entry.events is not None
                assert [tuple(event) for event in entry.events] == feed.get(entry.position, []), entry
                whole = await read_recorded_event(queries, TRUSTED_AUDITOR, entry.position)
                assert whole["data"] == {
                    name: value
                    for name, value in vars(item.event).items()
                    if not name.startswith("originator_")
                }
                assert whole["class_version"] == getattr(type(item.event), "class_version", 1)
                assert len(b64decode(whole["leaf_hash"])) == 32
                closed = await read_recorded_event(queries, AUDITOR, entry.position)
                assert all(closed["data"][name] is None for name in item.event.PERSONAL)
            types = {entry.object_type for entry in entries if entry.topic == "resource.deleted"}
            assert types == {"invoice", "payment_intent"}
            types = {entry.object_type for entry in entries}
            assert {"customer", "dispute", "payment_intent", "customer_session", "event"} <= types

    run_story(dsn, story)


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_record_that_cannot_be_read_is_shown_with_the_reason(dsn: str, kind: str) -> None:
    record, reason = UNREADABLE[kind]

    async def story(author: Author) -> None:
        customer = await author.create_customer(email="jenny@example.com")
        await author.update_customer(customer, name="Jenny")
        await store_record(dsn, 2, record)
        async with open_queries(author) as queries:
            shown = await read_recorded_event(queries, TRUSTED_AUDITOR, 2)
            if reason == "cannot_be_folded":  # of one event alone there is nothing to fold
                assert shown["unreadable"] is None
                return
            closed = await read_recorded_event(queries, AUDITOR, 2)
            assert closed["unreadable"] == (None if reason == "cannot_be_opened" else reason)
            assert (shown["unreadable"], shown["data"]) == (reason, None)
            assert shown["request_id"] == "req_2"
            assert "jenny" not in msgspec.json.encode(shown).decode()
            assert [entry.position for entry in await read_entries(queries)] == [1, 2]

    run_story(dsn, story)
