"""A public Event's id leads to the domain event that made it, from the log alone."""

from __future__ import annotations

import pytest

from ledger.audit import event_ids
from ledger.audit.event_ids import find_event_position
from ledger.ids import derive_id, new_id
from ledger.postgres.connections import Conn, open_connection
from ledger.wire.thin_events import to_thin_id
from projections.read_models.feed import FEED
from tests.projections.histories import Author, catch_up, run_story
from tests.projections.history_commands import COMMANDS

# Of the account, so that the streams of other objects can exist.
FIRST_COMMANDS = ("create_customer", "create_charge", "open_dispute", "create_endpoint")


async def load_feed(conn: Conn) -> dict[str, int]:
    """The position of each Event."""
    cur = await conn.execute("SELECT id, position FROM projections.feed")
    return dict(await cur.fetchall())


def test_every_public_event_is_found_at_the_position_that_made_it(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Most events of a batch share their time: more than one page of them is searched.
    monkeypatch.setattr(event_ids, "PAGE_EVENTS", 2)

    async def story(author: Author) -> None:
        for detail in range(3):
            for command in (*FIRST_COMMANDS, *sorted(COMMANDS)):
                await author.run_command(command, detail, detail + 1)
        await catch_up(dsn, projections=[FEED])
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            expected = await load_feed(conn)
            # Both Events of one domain event, and one that keeps the id of another system.
            assert len(set(expected.values())) < len(expected)
            assert any(event_id.startswith("evt_of_old_") for event_id in expected)
            await author.advance_clock(days=60)
            codec = author.store.codec
            found = {each: await find_event_position(conn, codec, each) for each in expected}
            assert found == expected
            by_twin = {each: await find_event_position(conn, codec, to_thin_id(each)) for each in expected}
            assert by_twin == expected

    run_story(dsn, story)


def test_an_id_that_no_event_has_is_not_found(dsn: str) -> None:
    async def story(author: Author) -> None:
        charge = await author.create_charge()
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            cur = await conn.execute("SELECT extract(epoch FROM recorded_at)::float8 FROM ledger.head")
            row = await cur.fetchone()
            assert row is not None
            codec = author.store.codec
            assert await find_event_position(conn, codec, derive_id("evt", row[0], charge, 1, 0)) == 1
            for unknown in (
                derive_id("evt", row[0], charge, 1, 1),  # a charge makes one Event
                derive_id("evt", row[0] + 1, charge, 1, 0),
                derive_id("ch", row[0], charge, 1, 0),
                new_id("evt", row[0]),
                "evt_" + "z" * 22,
                "evt_1",
                "evt_thin_1",
                "evt_thin_~" + derive_id("evt", row[0], charge, 1, 0),
                charge,
                "",
                "\x7f",
            ):
                assert await find_event_position(conn, codec, unknown) is None, unknown

    run_story(dsn, story)
