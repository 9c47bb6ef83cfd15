"""A record that cannot be read parks its stream, says why, and costs no other stream anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from ledger.clock import Clock
from ledger.errors import ServiceKeyMissing
from ledger.keys.blind_index import BlindIndex
from ledger.postgres.connections import Conn, open_connection
from ledger.store.codec import Codec
from ledger.store.notifications import HeadNotifier
from ledger.wire.aggregates import EVENT_CLASSES
from projections.engine.engine import Engine
from projections.engine.retry import ParkedIn, retry_readable
from projections.engine.status import load_statuses
from projections.projection import ParkedStream
from projections.read_models.catalog import PROJECTIONS, PROJECTIONS_BY_NAME
from projections.read_models.lists import CUSTOMERS
from projections.rebuild import records
from projections.rebuild.verification import verify
from tests.conftest import Cluster
from tests.projections.corruption import OTHER_KEY_CODEC, UNREADABLE, Record, store_record
from tests.projections.histories import (
    KEY,
    Author,
    catch_up,
    create_generation,
    load_rows,
    open_engine,
    run_story,
)
from tests.projections.history_commands import COMMANDS
from tests.projections.rebuilds import OPERATOR, begin_rebuild, create_filler, drive_rebuild, run_rebuild
from tests.serving.process import run_ledger

FOLLOWS_CUSTOMERS = {"audit_keys", "customers", "feed", "payment_methods"}
# Kinds of records that no event of any stream can be read from. Another aggregate's topic is not one.
ANYWHERE = sorted(kind for kind, (record, _) in UNREADABLE.items() if record.topic != "customer.updated")
Rows = dict[str, list[dict[str, Any]]]


async def load_parked(dsn: str, generation: int = 1) -> dict[str, list[ParkedStream]]:
    """The parked streams of one generation of each projection that has some."""
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        return {
            status.lag.projection: list(status.parked)
            for status in await load_statuses(conn, now=0.0)
            if status.parked and status.lag.generation == generation
        }


async def load_generation(dsn: str, generation: int = 1) -> Rows:
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        return await load_rows(conn, generation)


async def retry_automatically(dsn: str, codec: Codec, *, page: int = 100) -> list[ParkedIn]:
    """What a worker does when it starts: it looks at all streams, page by page."""
    applied: list[ParkedIn] = []
    after: ParkedIn | None = ParkedIn("", "")
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        while after is not None:
            some, after = await retry_readable(conn, codec, PROJECTIONS_BY_NAME, 0.0, after=after, limit=page)
            applied += some
    return applied


async def load_streams(conn: Conn) -> dict[int, str]:
    """The stream of the event at each position."""
    cur = await conn.execute("SELECT notification_id, originator_id FROM ledger.events")
    return dict(await cur.fetchall())


def without_streams(rows: Rows, streams: dict[int, str], left_out: set[str]) -> Rows:
    """The rows that are derived from other streams."""
    return {
        name: [row for row in table if streams[row["position"]] not in left_out]
        for name, table in rows.items()
    }


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_record_that_cannot_be_read_parks_its_stream_and_is_applied_once_mended(
    dsn: str, kind: str
) -> None:
    record, reason = UNREADABLE[kind]

    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")  # 1
        good = await author.create_customer(email="one@example.com")  # 2
        await author.update_customer(bad, name="Ada")  # 3
        await author.update_customer(bad, name="Grace")  # 4
        await author.create_charge()
        was = await store_record(dsn, 3, record)
        await author.update_customer(good, email="two@example.com")
        await catch_up(dsn)
        parked = await load_parked(dsn)
        assert set(parked) == FOLLOWS_CUSTOMERS
        for (stream,) in parked.values():
            assert (stream.stream, stream.position, stream.reason) == (bad, 3, reason)
            assert stream.topic == (record.topic if record.topic is not None else "customer.updated")
            assert "version 2" in stream.error
        rows = await load_generation(dsn)
        index = BlindIndex(author.store.service_keys)
        # By id, and ids made in one millisecond are in no order.
        assert {row["id"]: row["email"] for row in rows["customers"]} == {
            bad: index.hash_as_text(author.account, False, "email", "one@example.com"),
            good: index.hash_as_text(author.account, False, "email", "two@example.com"),
        }
        assert sorted(row["position"] for row in rows["feed"] if row["object_id"] != bad) == [2, 5, 6]

        async with open_engine(dsn) as engine:
            assert not await engine.retry("customers", bad, OPERATOR)
            assert await retry_automatically(dsn, author.store.codec) == []
            await store_record(dsn, 3, was)
            assert await engine.retry("customers", bad, OPERATOR)
        retried = await retry_automatically(dsn, author.store.codec)
        assert set(retried) == {ParkedIn(name, bad) for name in FOLLOWS_CUSTOMERS - {"customers"}}
        assert await load_parked(dsn) == {}
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await create_generation(conn)
        await catch_up(dsn)
        assert await load_generation(dsn, 2) == await load_generation(dsn)

    run_story(dsn, story)


def test_a_stream_is_applied_up_to_the_next_record_that_cannot_be_read(dsn: str) -> None:
    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")  # 1
        for name in ("Ada", "Grace", "Ida"):
            await author.update_customer(bad, name=name)  # 2 to 4
        was = [await store_record(dsn, at, UNREADABLE["no JSON"][0]) for at in (2, 4)]
        await catch_up(dsn)
        await store_record(dsn, 2, was[0])
        assert await retry_automatically(dsn, author.store.codec) == []
        parked = await load_parked(dsn)
        assert {name: each.position for name, (each,) in parked.items()} == dict.fromkeys(
            FOLLOWS_CUSTOMERS, 4
        )
        assert sorted(row["position"] for row in (await load_generation(dsn))["feed"]) == [1, 2, 3]

    run_story(dsn, story)


def test_a_first_record_that_cannot_be_read_parks_its_stream(dsn: str) -> None:
    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")  # 1
        await author.update_customer(bad, email="two@example.com")  # 2
        await store_record(dsn, 1, Record(None, b"?"))
        await catch_up(dsn)
        parked = await load_parked(dsn)
        assert {name: stream.position for name, (stream,) in parked.items()} == dict.fromkeys(
            FOLLOWS_CUSTOMERS, 1
        )
        assert (await load_generation(dsn))["customers"] == []

    run_story(dsn, story)


@pytest.mark.parametrize("batch_max", [1, 100])
def test_feed_and_audit_index_park_what_only_a_later_release_knows_and_all_others_pass_over_it(
    dsn: str, batch_max: int
) -> None:
    earlier = [event for event in EVENT_CLASSES if not event.TOPIC.startswith("customer.")]

    async def story(author: Author) -> None:
        # The record of an aggregate that is known neither by its own topic nor by that of its first record.
        payout = await author.create_customer(email="one@example.com")  # 1
        await author.update_customer(payout, email="two@example.com")  # 2
        await author.create_charge()  # 3
        mended = [await store_record(dsn, at, Record(f"payout.{at}", b"{}")) for at in (1, 2)]
        await catch_up(dsn, batch_max=batch_max)
        parked = await load_parked(dsn)
        assert {name: [each.position for each in streams] for name, streams in parked.items()} == {
            "audit_keys": [1],
            "feed": [1],
        }
        assert [row["position"] for row in (await load_generation(dsn))["feed"]] == [3]
        assert [row["position"] for row in (await load_generation(dsn))["charges"]] == [3]
        # The later release knows it, and so the feed has its Events.
        for position, was in enumerate(mended, 1):
            await store_record(dsn, position, was)
        assert await retry_automatically(dsn, Codec(KEY, earlier)) == []
        retried = await retry_automatically(dsn, author.store.codec)
        assert retried == [ParkedIn("audit_keys", payout), ParkedIn("feed", payout)]
        assert sorted(row["position"] for row in (await load_generation(dsn))["feed"]) == [1, 2, 3]

    run_story(dsn, story)


@pytest.mark.parametrize("batch_max", [1, 100])
def test_a_stream_whose_first_topic_is_unknown_is_parked_at_the_first_event_that_tells_its_aggregate(
    dsn: str, batch_max: int
) -> None:
    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")  # 1
        await author.update_customer(bad, name="Ada")  # 2
        await store_record(dsn, 1, Record("payout.created", b"{}"))
        await catch_up(dsn, batch_max=batch_max)
        parked = await load_parked(dsn)
        assert {name: (each.position, each.error) for name, (each,) in parked.items()} == {
            "audit_keys": (1, "unknown_topic: version 1, topic payout.created"),
            "feed": (1, "unknown_topic: version 1, topic payout.created"),
            "customers": (2, "unknown_topic: version 1, topic payout.created"),
            "payment_methods": (2, "unknown_topic: version 1, topic payout.created"),
        }
        assert (await load_generation(dsn))["customers"] == []

    run_story(dsn, story)


@settings(
    max_examples=8,
    derandomize=True,
    phases=[Phase.generate],  # shrinking takes minutes
)
@given(
    history=st.lists(
        st.tuples(st.sampled_from(sorted(COMMANDS)), st.integers(0, 5), st.integers(0, 30)),
        min_size=5,
        max_size=25,
    ),
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(ANYWHERE)), min_size=1, max_size=5),
    batch_max=st.integers(1, 9),
)
def test_any_unreadable_records_cost_no_other_stream_anything(
    cluster: Cluster, history: list[tuple[str, int, int]], damage: list[tuple[int, str]], batch_max: int
) -> None:
    async def story(author: Author) -> None:
        await author.run_command("create_customer", 0, 1)
        await author.run_command("create_charge", 0, 1)
        for command in history:
            await author.run_command(*command)
        await catch_up(author.dsn)
        expected = await load_generation(author.dsn)
        async with open_connection(author.dsn, "ledger_projector", name="test") as conn:
            streams = await load_streams(conn)
            applied = await create_generation(conn)
        mended: dict[int, Record] = {}
        for at, kind in damage:
            position = at % len(streams) + 1
            record = UNREADABLE[kind][0]
            if streams[position] not in [streams[earlier] for earlier in range(1, position)]:
                record = record._replace(topic=None)  # a first record's topic tells the aggregate
            was = await store_record(author.dsn, position, record)
            mended.setdefault(position, was)
        left_out = {streams[position] for position in mended}

        await catch_up(author.dsn, batch_max=batch_max)
        rows = await load_generation(author.dsn, applied)
        assert without_streams(rows, streams, left_out) == without_streams(expected, streams, left_out)
        parked = await load_parked(author.dsn, applied)
        assert {each.stream for some in parked.values() for each in some} <= left_out

        number = await begin_rebuild(author.dsn)
        assert (await drive_rebuild(author.dsn, number)).state in ("switched", "differing")
        backfilled = 1 + applied
        assert await load_generation(author.dsn, backfilled) == rows
        assert await load_parked(author.dsn, backfilled) == parked

        for position, was in mended.items():
            await store_record(author.dsn, position, was)
        await retry_automatically(author.dsn, author.store.codec, page=2)
        assert await load_parked(author.dsn, applied) == {}
        assert (
            await load_generation(author.dsn, applied)
            == await load_generation(author.dsn, backfilled)
            == expected
        )

    with cluster.create_database() as dsn:
        run_story(dsn, story)


@pytest.mark.parametrize("kind", ["topic of a later release", "no JSON", "fields that no aggregate has"])
def test_a_rebuild_goes_on_past_a_parked_record_and_is_promoted(dsn: str, kind: str) -> None:
    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")  # 1
        await author.create_customer(email="two@example.com")  # 2
        await author.update_customer(bad, name="Ada")  # 3
        await store_record(dsn, 3, UNREADABLE[kind][0])
        await catch_up(dsn)
        assert (await run_rebuild(dsn)).state == "switched"
        assert await load_parked(dsn, 2) == await load_parked(dsn)
        # One that is ahead of a new generation only.
        later = await author.create_customer(email="three@example.com")  # 4
        number = await begin_rebuild(dsn, [CUSTOMERS])
        assert await create_filler(dsn)(number, 0)
        await author.update_customer(later, name="Ada")  # 5
        await store_record(dsn, 5, UNREADABLE[kind][0])
        assert (await drive_rebuild(dsn, number)).state == "switched"
        assert [each.stream for each in (await load_parked(dsn, 3))["customers"]] == [bad, later]

    run_story(dsn, story)


def test_a_rebuild_that_lacked_a_record_is_promoted_once_that_is_restored(dsn: str) -> None:
    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")  # 1
        await author.update_customer(bad, name="Ada")  # 2
        await catch_up(dsn)
        was = await store_record(dsn, 2, UNREADABLE["no JSON"][0])  # once it is applied
        number = (await run_rebuild(dsn, [CUSTOMERS])).id
        await store_record(dsn, 2, was)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await records.resume(conn, number, OPERATOR)
        assert (await drive_rebuild(dsn, number)).state == "switched"
        assert await load_parked(dsn, 2) == {}

    run_story(dsn, story)


@pytest.mark.parametrize("kind", UNREADABLE)
def test_verify_goes_on_past_a_record_and_names_the_stream_that_it_left_out(dsn: str, kind: str) -> None:
    record, reason = UNREADABLE[kind]
    topic = "customer.updated" if record.topic is None else record.topic

    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")  # 1
        await author.create_customer(email="two@example.com")  # 2
        await author.update_customer(bad, name="Ada")  # 3
        await catch_up(dsn)
        await store_record(dsn, 3, record)  # once it is applied
        for sample in (None, 20):
            verified = await verify(dsn, Codec(KEY), Clock(movable=True), PROJECTIONS, sample=sample)
            found = {each.projection: each for each in verified}
            assert {name for name, each in found.items() if each.left_out} == FOLLOWS_CUSTOMERS
            assert not any(each.differing or each.error or each.parked for each in found.values())
            assert found["customers"].to_json()["left_out"] == [
                {"stream": bad, "position": 3, "topic": topic, "reason": reason}
            ]
            assert found["customers"].rows == 1
        # A rebuild tells what the live generation has and a replay has not: an operator decides.
        assert (await run_rebuild(dsn, [CUSTOMERS])).state == "differing"

    run_story(dsn, story)


def test_the_shell_names_the_stream_that_a_verification_left_out_and_fails(dsn: str, tmp_path: Path) -> None:
    async def story(author: Author) -> str:
        bad = await author.create_customer(email="one@example.com")  # 1
        await catch_up(dsn)
        await store_record(dsn, 1, UNREADABLE["no JSON"][0])
        return bad

    bad = run_story(dsn, story)
    arguments = ("projections", "verify", "customers", "charges")
    settings: dict[str, Any] = {"database_url": dsn, "secret_key": KEY.decode()}
    verified = run_ledger(tmp_path, *arguments, **settings)
    assert (verified.returncode, verified.stderr) == (1, "")
    assert f"customers: stream {bad} was left out: its record at position 1" in verified.stdout
    as_json = run_ledger(tmp_path, *arguments, "--json", **settings)
    customers, charges = json.loads(as_json.stdout)
    assert charges["left_out"] == []
    assert [each["stream"] for each in customers["left_out"]] == [bad]


def test_a_process_without_the_service_key_waits_and_parks_nothing(dsn: str) -> None:
    async def story(author: Author) -> None:
        sealed = await author.create_charge()
        without_key = open_other_engine(dsn, OTHER_KEY_CODEC)
        with pytest.raises(ServiceKeyMissing):
            await without_key.advance()
        await without_key.close()
        assert not any((await load_parked(dsn)).values())
        await catch_up(dsn)
        assert [row["id"] for row in (await load_generation(dsn))["charges"]] == [sealed]

    run_story(dsn, story)


def test_a_damaged_key_costs_the_streams_of_its_subject_only_until_it_is_mended(dsn: str) -> None:
    async def story(author: Author) -> None:
        sealed = await author.create_charge()
        dispute = await author.open_dispute(sealed)
        [(wrapped,)] = execute(dsn, "SELECT wrapped FROM ledger.data_keys WHERE subject = %s", sealed)
        put = "UPDATE ledger.data_keys SET wrapped = %s WHERE subject = %s RETURNING subject"
        execute(dsn, put, b"damaged" + wrapped, sealed)
        engine = open_other_engine(dsn, Codec(KEY))
        while not (await engine.advance()).caught_up:
            pass
        await engine.close()
        parked = await load_parked(dsn)
        assert {each.stream for some in parked.values() for each in some} == {sealed}
        assert {each.reason for some in parked.values() for each in some} == {"cannot_be_opened"}
        rows = await load_generation(dsn)
        assert (rows["charges"], [row["id"] for row in rows["disputes"]]) == ([], [dispute])
        execute(dsn, put, wrapped, sealed)
        assert {each.stream for each in await retry_automatically(dsn, Codec(KEY))} == {sealed}
        assert [row["id"] for row in (await load_generation(dsn))["charges"]] == [sealed]

    run_story(dsn, story)


def open_other_engine(dsn: str, codec: Codec) -> Engine:
    notifier = HeadNotifier(dsn, "ledger_projector")
    return Engine(dsn, codec, Clock(movable=True), notifier, projections=PROJECTIONS)


def execute(dsn: str, query: str, *values: Any) -> list[TupleRow]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        return conn.execute(query.encode(), values).fetchall()
