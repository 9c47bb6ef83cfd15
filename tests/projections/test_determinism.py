"""README, invariant 4: the same log gives the same rows, byte for byte, however it is applied."""

from __future__ import annotations

from itertools import cycle

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ledger.ids import derive_id
from ledger.keys.blind_index import BlindIndex
from ledger.keys.documents import load_document_keys, open_document, run_on
from ledger.postgres.connections import open_connection
from ledger.store.log import read_log, read_states_at
from ledger.wire.public_events import derive_public_events
from projections.engine.status import load_statuses
from tests.projections.histories import (
    Author,
    catch_up,
    create_generation,
    drop_generation,
    load_rows,
    open_engine,
    run_story,
)
from tests.projections.history_commands import COMMANDS

commands = st.lists(
    st.tuples(st.sampled_from(sorted(COMMANDS)), st.integers(0, 5), st.integers(0, 30)),
    min_size=5,
    max_size=30,
)
batch_sizes = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@settings(
    max_examples=10,
    derandomize=True,
    phases=[Phase.generate],  # shrinking against a log that only grows takes minutes
)
@given(history=commands, live=batch_sizes, rebuilt=batch_sizes)
def test_any_batches_give_the_same_bytes_live_and_rebuilt(
    dsn: str, history: list[tuple[str, int, int]], live: list[int], rebuilt: list[int]
) -> None:
    async def story(author: Author) -> None:
        await author.run_command("create_customer", 0, 1)
        await author.run_command("create_charge", 0, 1)
        await author.run_command("create_endpoint", 0, 1)
        for number, command in enumerate(history):
            await author.run_command(*command)
            if number % 9 == 8:
                await catch_up(dsn, batch_max=live[number % len(live)])
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            generation = await create_generation(conn)
            caught_up = False
            for size in cycle(rebuilt):
                async with open_engine(dsn, batch_max=size) as another_process:
                    for _ in range(7):
                        caught_up = (await another_process.advance()).caught_up
                if caught_up:
                    break
            expected = await load_rows(conn, 1)
            assert expected["customers"]
            assert expected["feed"]
            assert expected["webhook_endpoints"]
            assert await load_rows(conn, generation) == expected
            assert not any(status.parked for status in await load_statuses(conn, now=author.now))
            await drop_generation(conn, generation)

    run_story(dsn, story)


def test_the_feed_holds_the_public_events_under_ids_derived_from_the_log(dsn: str) -> None:
    async def story(author: Author) -> None:
        charge = await author.create_charge(customer=await author.create_customer(email="jenny@example.com"))
        dispute = await author.open_dispute(charge)
        await author.respond(dispute, submit=False, product_description="A book")
        await author.respond(dispute, submit=True, uncategorized_text="Delivered")
        await author.report_fact(dispute, "won")
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            codec = author.store.codec
            expected = []
            for recorded in await read_log(conn, codec, 0, 100):
                event = recorded.event
                stream = event.originator_id
                before = (await read_states_at(conn, codec, [stream], recorded.position - 1))[0].get(stream)
                after = (await read_states_at(conn, codec, [stream], recorded.position))[0][stream]
                for ordinal, (name, resource, _) in enumerate(derive_public_events(before, event, after)):
                    event_id = derive_id(
                        "evt", recorded.recorded_at, stream, event.originator_version, ordinal
                    )
                    created = int(recorded.recorded_at)
                    expected.append(
                        (event_id, name, resource["id"], created, recorded.position, recorded.request_id)
                    )
            cur = await conn.execute(
                "SELECT id, type, object_id, created, position, request_id FROM projections.feed"
                " ORDER BY position, ordinal"
            )
            assert await cur.fetchall() == expected
            cur = await conn.execute("SELECT data FROM projections.feed ORDER BY position, ordinal")
            stored = [row[0] for row in await cur.fetchall()]
            keyring = await load_document_keys(run_on(conn), author.store.codec.data_keys, stored)
            data = [msgspec.json.decode(open_document(keyring, each) or b"") for each in stored]
            updated = data[[row[1] for row in expected].index("charge.dispute.updated")]
            assert updated["object"]["evidence"]["product_description"] == "A book"
            assert updated["previous_attributes"]["evidence"] == {"product_description": None}
            assert list(data[0]) == ["object"]

    run_story(dsn, story)


def test_a_row_keeps_the_position_of_its_creation_and_a_deleted_customer_its_row(dsn: str) -> None:
    async def story(author: Author) -> None:
        first = await author.create_customer(email="first@example.com")
        await author.create_customer(email="second@example.com")
        await catch_up(dsn)
        await author.update_customer(first, email="other@example.com")
        await author.run_command("delete_customer", 0, 0)
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            cur = await conn.execute(
                "SELECT position, deleted, email FROM projections.customers ORDER BY position"
            )
            index = BlindIndex(author.store.service_keys)
            first_hash, second_hash = (
                index.hash_as_text(author.account, False, "email", f"{name}@example.com")
                for name in ("other", "second")
            )
            assert await cur.fetchall() == [(1, True, first_hash), (2, False, second_hash)]

    run_story(dsn, story)
