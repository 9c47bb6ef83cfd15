"""A stream that a projection cannot apply is parked from that event on; nothing else waits for it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ledger.call import Cause
from ledger.domain.aggregate import State
from ledger.domain.customer import CustomerUpdated
from ledger.errors import InvalidProjectionState
from ledger.keys.documents import open_document
from ledger.postgres.connections import Conn, open_connection
from ledger.store.journal import Append, Change
from ledger.store.log import Recorded
from projections.engine.checkpoints import find_still_parked
from projections.engine.registration import register_missing
from projections.engine.status import load_statuses
from projections.projection import ParkedStream, Projection, Row
from projections.read_models.catalog import PROJECTIONS
from projections.read_models.lists import CUSTOMERS
from tests.keys.keyrings import read_keyring
from tests.projections.corruption import corrupt_event
from tests.projections.histories import (
    ACCOUNT,
    KEY,
    Author,
    catch_up,
    create_generation,
    load_rows,
    open_engine,
    run_story,
)
from tests.projections.rebuilds import (
    OPERATOR,
    begin_rebuild,
    create_filler,
    drive_rebuild,
    load_operations,
    run_rebuild,
)
from tests.projections.releases import let_earlier_releases_run
from tests.serving.process import run_ledger, run_refused

SECRET = "jenny.rosen@example.com"


def create_raising_projections(stream: str, version: int) -> list[Projection]:
    """All projections; the handler of customers raises for one event, and quotes it."""

    def apply(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
        if (after.id, after.version) == (stream, version):
            raise ValueError(f"refused {SECRET}")
        return CUSTOMERS.apply(before, recorded, after)

    return [dataclasses.replace(CUSTOMERS, apply=apply), *PROJECTIONS[1:]]


async def load_parked(dsn: str) -> dict[str, tuple[ParkedStream, ...]]:
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        return {
            f"{status.lag.projection}_g{status.lag.generation}": status.parked
            for status in await load_statuses(conn, now=0.0)
            if status.parked
        }


async def load_shapes(conn: Conn, stream: str) -> dict[int, int | None]:
    """By generation of the customers that has parked the stream: its shape."""
    found = await find_still_parked(conn, "customers", stream)
    return {generation: each.shape for generation, each in found.items()}


async def load_emails(dsn: str) -> dict[str, str]:
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        rows = (await load_rows(conn, 1))["customers"]
    keyring = read_keyring(dsn, KEY)
    states = {row["id"]: open_document(keyring, row["state"]) for row in rows}
    return {row_id: msgspec.json.decode(state or b"")["email"] for row_id, state in states.items()}


async def assert_rebuilt_equals_live(dsn: str) -> None:
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        generation = await create_generation(conn)
        await catch_up(dsn)
        assert await load_rows(conn, generation) == await load_rows(conn, 1)


def test_a_handler_that_raises_parks_its_stream_and_retry_applies_it(dsn: str) -> None:
    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")
        good = await author.create_customer(email="one@example.com")
        await author.update_customer(bad, email=SECRET)
        await author.update_customer(bad, email="three@example.com")
        await author.update_customer(good, email="two@example.com")
        await catch_up(dsn, projections=create_raising_projections(bad, 2))

        (stream_parked,) = (await load_parked(dsn))["customers_g1"]
        assert (stream_parked.stream, stream_parked.position) == (bad, 3)
        assert stream_parked.error.startswith("ValueError at ")
        assert "test_parked_streams" in stream_parked.error
        assert SECRET not in stream_parked.error
        assert list(await load_parked(dsn)) == ["customers_g1"]
        assert await load_emails(dsn) == {bad: "one@example.com", good: "two@example.com"}
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            assert len((await load_rows(conn, 1))["feed"]) == 5

        await author.update_customer(bad, email="four@example.com")
        await catch_up(dsn, projections=create_raising_projections(bad, 2))
        assert (await load_emails(dsn))[bad] == "one@example.com"
        async with open_engine(dsn, projections=create_raising_projections(bad, 2)) as unchanged:
            assert not await unchanged.retry("customers", bad, OPERATOR)
        async with open_engine(dsn, projections=create_raising_projections(bad, 4)) as other_fault:
            assert not await other_fault.retry("customers", bad, OPERATOR)
        assert [parking.position for parking in (await load_parked(dsn))["customers_g1"]] == [6]
        assert (await load_emails(dsn))[bad] == "three@example.com"

        async with open_engine(dsn) as repaired:
            was = await corrupt_event(dsn, 3)
            assert not await repaired.retry("customers", bad, OPERATOR)
            (unreadable,) = (await load_parked(dsn))["customers_g1"]
            assert unreadable.error == "not_json: version 2, topic customer.updated"
            await corrupt_event(dsn, 3, was)
            assert await repaired.retry("customers", bad, OPERATOR)
        assert await load_parked(dsn) == {}
        assert (await load_emails(dsn))[bad] == "four@example.com"
        await assert_rebuilt_equals_live(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            done = [(who, action, details) for who, action, _, _, _, details in await load_operations(conn)]
        assert done == [
            *[(OPERATOR.who, "retry", {"stream": bad, "healed": False})] * 3,
            (OPERATOR.who, "retry", {"stream": bad, "healed": True}),
        ]

    run_story(dsn, story)


def test_a_stream_that_is_not_parked_is_not_retried(dsn: str) -> None:
    async def story(author: Author) -> None:
        good = await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        async with open_engine(dsn) as each, open_connection(dsn, "ledger_projector", name="test") as conn:
            for stream in (good, "cus_nobody"):
                with pytest.raises(InvalidProjectionState, match=f"{stream} is not parked in"):
                    await each.retry("customers", stream, OPERATOR)
            assert await load_operations(conn) == []

    run_story(dsn, story)


def test_a_stream_parked_by_a_backfill_is_retried_after_the_generation_has_caught_up(dsn: str) -> None:
    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")
        faulty = create_raising_projections(bad, 1)
        await catch_up(dsn, projections=faulty)
        number = await begin_rebuild(dsn, faulty[:1])
        assert await create_filler(dsn, faulty)(number, 0)
        async with (
            open_engine(dsn) as repaired,
            open_connection(dsn, "ledger_projector", name="test") as conn,
        ):
            assert await load_shapes(conn, bad) == {1: 1, 2: None}
            assert await repaired.retry("customers", bad, OPERATOR)
            assert await load_shapes(conn, bad) == {2: None}
            with pytest.raises(
                InvalidProjectionState, match="generation 2 of customers, which is still being"
            ):
                await repaired.retry("customers", bad, OPERATOR)
            assert (await drive_rebuild(dsn, number, faulty)).state == "differing"
            assert await load_shapes(conn, bad) == {2: 1}
            assert await repaired.retry("customers", bad, OPERATOR)
            assert await load_shapes(conn, bad) == {}

    run_story(dsn, story)


def test_an_earlier_release_does_not_retry_in_a_generation_of_a_later_one(dsn: str) -> None:
    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        later = [dataclasses.replace(create_raising_projections(bad, 1)[0], shape=2)]
        assert (await run_rebuild(dsn, later, accept_differences=True)).state == "switched"
        async with open_engine(dsn) as earlier, open_engine(dsn, projections=later) as same:
            with pytest.raises(InvalidProjectionState, match="built by a later release"):
                await earlier.retry("customers", bad, OPERATOR)
            assert list(await load_parked(dsn)) == ["customers_g2"]
            assert not await same.retry("customers", bad, OPERATOR)
        async with open_engine(dsn, projections=[dataclasses.replace(CUSTOMERS, shape=2)]) as repaired:
            assert await repaired.retry("customers", bad, OPERATOR)
        assert await load_parked(dsn) == {}

    run_story(dsn, story)


def test_the_position_at_which_a_stream_is_parked_does_not_depend_on_the_batches(dsn: str) -> None:
    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")
        for number in range(4):
            await author.update_customer(bad, email=f"{number}@example.com")
        for size in (1, 2, 100):
            async with open_connection(dsn, "ledger_projector", name="test") as conn:
                await register_missing(conn, PROJECTIONS)
                await create_generation(conn)
            await catch_up(dsn, projections=create_raising_projections(bad, 3), batch_max=size)
        found = await load_parked(dsn)
        assert {parking.position for parkings in found.values() for parking in parkings} == {3}
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            states = [(await load_rows(conn, generation))["customers"] for generation in (1, 2, 3, 4)]
        assert states[0]
        assert states == [states[0]] * 4
        async with open_engine(dsn) as repaired:
            assert await repaired.retry("customers", bad, OPERATOR)
        assert await load_parked(dsn) == {}

    run_story(dsn, story)


def test_a_row_the_database_refuses_parks_its_stream_alone(dsn: str) -> None:
    async def story(author: Author) -> None:
        let_earlier_releases_run(dsn, True)  # else no column has the text
        good = [await author.create_customer(email=f"{number}@example.com") for number in range(5)]
        bad = await author.create_customer(email="was@example.com")
        await author.update_customer(bad, email="no\0text")  # JSON can hold it, a text column cannot
        await author.update_customer(good[0], email="last@example.com")
        await catch_up(dsn)
        (stream_parked,) = (await load_parked(dsn))["customers_g1"]
        assert (stream_parked.stream, stream_parked.position) == (bad, 7)
        assert list(await load_parked(dsn)) == ["customers_g1"]
        found = await load_emails(dsn)
        assert len(found) == 6
        assert found[bad] == "was@example.com"
        assert found[good[0]] == "last@example.com"

    run_story(dsn, story)


def test_a_row_that_cannot_be_encoded_parks_its_stream_alone(dsn: str) -> None:
    def apply(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
        rows = CUSTOMERS.apply(before, recorded, after)
        return [(*row[:-1], object()) if row[5] == SECRET else row for row in rows]

    async def story(author: Author) -> None:
        bad = await author.create_customer(email=SECRET)
        good = await author.create_customer(email="good@example.com")
        projections = [dataclasses.replace(CUSTOMERS, apply=apply), *PROJECTIONS[1:]]
        await catch_up(dsn, projections=projections)
        (stream_parked,) = (await load_parked(dsn))["customers_g1"]
        assert (stream_parked.stream, stream_parked.position) == (bad, 1)
        assert SECRET not in stream_parked.error
        assert await load_emails(dsn) == {good: "good@example.com"}

    run_story(dsn, story)


def test_a_stream_that_cannot_be_folded_is_parked_by_all_and_stops_none(dsn: str) -> None:
    async def story(author: Author) -> None:
        bad = await author.create_customer(email="was@example.com")
        await catch_up(dsn)
        unknown_field = CustomerUpdated(
            originator_id=bad, originator_version=2, at=author.now, changes={"no_such_field": 1}
        )
        cause = Cause(ACCOUNT, False, None, None, None)
        await author.store.journal.append(Append(cause, [Change(unknown_field, author.states[bad])]))
        good = await author.create_customer(email="is@example.com")
        await catch_up(dsn)
        followers = ["audit_keys_g1", "customers_g1", "feed_g1", "payment_methods_g1"]
        assert sorted(await load_parked(dsn)) == followers
        assert await load_emails(dsn) == {bad: "was@example.com", good: "is@example.com"}

        async with open_engine(dsn) as unchanged:
            assert not await unchanged.retry("feed", bad, OPERATOR)

        # A release cannot fold events that an earlier one has applied: it finds out at the next event.
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("DELETE FROM projections.parked")
        later = CustomerUpdated(originator_id=bad, originator_version=3, at=author.now, changes={})
        await author.store.journal.append(Append(cause, [Change(later, author.states[bad])]))
        await author.update_customer(good, email="will.be@example.com")
        await catch_up(dsn)
        assert [parking.position for parking in (await load_parked(dsn))["customers_g1"]] == [4]
        assert (await load_emails(dsn))[good] == "will.be@example.com"

    run_story(dsn, story)


def test_the_operator_retries_a_parked_stream(dsn: str, tmp_path: Path) -> None:
    async def story(author: Author) -> str:
        bad = await author.create_customer(email="one@example.com")
        await author.update_customer(bad, email="two@example.com")
        await catch_up(dsn, projections=create_raising_projections(bad, 2))
        assert list(await load_parked(dsn)) == ["customers_g1"]
        await author.create_charge()
        await author.advance_clock(days=1)
        return bad

    bad = run_story(dsn, story)
    settings: dict[str, Any] = {"database_url": dsn, "secret_key": KEY.decode(), "test_clock": True}
    status = run_ledger(tmp_path, "projections", "status", **settings)
    assert "stalled, 1 stream parked" in status.stdout
    assert (
        "stalled: audit_keys_g1, balance_changes_g1, balance_transactions_g1, charges_g1, " in status.stdout
    )
    assert f"ledger projections retry customers {bad}" in status.stdout
    retry = ("projections", "retry", "customers", bad)
    retried = run_ledger(tmp_path, *retry, "--reason", "it was mended", **settings)
    assert (retried.returncode, retried.stderr) == (0, "")
    assert f"{bad} is not parked in projection customers" in run_refused(tmp_path, *retry, **settings)
    assert asyncio.run(load_parked(dsn)) == {}
    assert asyncio.run(load_emails(dsn)) == {bad: "two@example.com"}
    assert "No such projection: 'nothing'" in run_refused(
        tmp_path, "projections", "retry", "nothing", bad, **settings
    )
