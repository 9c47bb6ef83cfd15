"""Verifying finds every row that the log does not account for, and says so until it is mended."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ledger.clock import Clock
from ledger.domain import customer
from ledger.domain.aggregate import State
from ledger.domain.customer import Customer
from ledger.metrics.backlogs import Lag, Measured, read_lags
from ledger.metrics.prometheus import Metrics
from ledger.postgres.connections import open_connection
from ledger.store.codec import Codec, evolve
from ledger.store.log import Recorded
from projections.projection import Projection, Row
from projections.read_models.catalog import PROJECTIONS
from projections.read_models.lists import CHARGES, CUSTOMERS, DISPUTES, FILES, REFUNDS
from projections.rebuild.generations import load_last_comparison
from projections.rebuild.verification import SAMPLE_STREAM_EVENTS_MAX, Verification, verify
from tests.projections.histories import KEY, Author, catch_up, run_story
from tests.projections.rebuilds import run_rebuild
from tests.serving.process import run_ledger

HARM = {
    "changed": ("UPDATE projections.customers SET email = 'x' WHERE id = %(id)s", "customers"),
    "lost": ("DELETE FROM projections.customers WHERE id = %(id)s", "customers"),
    "stray": (
        "INSERT INTO projections.customers SELECT generation, 'cus_stray', account, livemode, created,"
        " position, deleted, email, state FROM projections.customers WHERE id = %(id)s",
        "customers",
    ),
    "moved": ("UPDATE projections.feed SET position = 999 WHERE object_id = %(id)s", "feed"),
    "lost event": ("DELETE FROM projections.feed WHERE object_id = %(id)s", "feed"),
}


async def run_verify(
    dsn: str, of: Sequence[Projection] = PROJECTIONS, *, sample: int | None = None
) -> dict[str, Verification]:
    found = await verify(dsn, Codec(KEY), Clock(movable=True), of, sample=sample)
    return {each.projection: each for each in found}


async def load_differing(dsn: str) -> dict[str, int]:
    """What the metrics say."""
    async with open_connection(dsn, "ledger_api", name="test") as conn:
        return {lag.projection: lag.differing for lag in await read_lags(conn, 0.0) if lag.differing}


def get_names(projections: tuple[Projection, ...]) -> set[str]:
    return {projection.name for projection in projections}


@pytest.mark.parametrize("harm", sorted(HARM))
def test_a_corrupted_row_is_reported_and_a_rebuild_corrects_it(dsn: str, harm: str) -> None:
    statement, name = HARM[harm]

    async def story(author: Author) -> None:
        victim = await author.create_customer(email="one@example.com")
        await author.create_customer(email="two@example.com")
        await author.create_charge("tok_createDispute", customer=victim)
        await catch_up(dsn)
        whole = await run_verify(dsn)
        assert set(whole) == get_names(PROJECTIONS)
        assert not any(each.differing for each in whole.values())
        assert (whole["customers"].rows, whole["customers"].position) == (2, 3)
        assert await load_differing(dsn) == {}

        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute(statement.encode(), {"id": victim})
        found = await run_verify(dsn)
        harmed = {name: each for name, each in found.items() if each.differing}
        assert set(harmed) == {name}
        if name == "customers":
            assert harmed[name].keys == ["cus_stray" if harm == "stray" else victim]
        assert await load_differing(dsn) == {name: 1}
        await run_rebuild(dsn, [each for each in PROJECTIONS if each.name == name], accept_differences=True)
        assert not any(each.differing for each in (await run_verify(dsn)).values())

    run_story(dsn, story)


def test_differing_rows_that_samples_find_are_kept_until_a_full_check(dsn: str) -> None:
    async def story(author: Author) -> None:
        one = await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("UPDATE projections.customers SET deleted = true")
            for _ in range(3):
                assert (await run_verify(dsn, [CUSTOMERS], sample=3))["customers"].keys == [one]
                assert await load_differing(dsn) == {"customers": 1}
            other = await author.create_customer(email="two@example.com")
            await catch_up(dsn)
            await conn.execute("UPDATE projections.customers SET deleted = true")
            while set((await run_verify(dsn, [CUSTOMERS], sample=20))["customers"].keys) != {one, other}:
                pass
            assert await load_differing(dsn) == {"customers": 2}
            await conn.execute("UPDATE projections.customers SET deleted = false")
            assert (await run_verify(dsn, [CUSTOMERS], sample=20))["customers"].differing == 0
            assert await load_differing(dsn) == {"customers": 2}
            rows = "SELECT rows FROM projections.verified WHERE projection = 'customers'"
            assert (await (await conn.execute(rows)).fetchone()) == (2,), "of one check, not of all"
            await run_verify(dsn, [CUSTOMERS])
            assert await load_differing(dsn) == {}

    run_story(dsn, story)


def test_differing_rows_in_a_kept_generation_raise_no_alarm(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("UPDATE projections.customers SET email = 'x'")
            await run_verify(dsn, [CUSTOMERS])
            assert list_alarms(await read_lags(conn, 0.0)) == {("customers", "1")}
            await run_rebuild(dsn, [CUSTOMERS], accept_differences=True)
            assert list_alarms(await read_lags(conn, 0.0)) == set()
            kept = [
                lag for lag in await read_lags(conn, 0.0) if lag.projection == "customers" and not lag.live
            ]
            assert [lag.differing for lag in kept] == [1], (
                "an operator who rolls back to it sees the difference"
            )

    run_story(dsn, story)


def list_alarms(standing: list[Lag]) -> set[tuple[str, str]]:
    """Projection and generation of each for which the metrics show differing rows."""
    exposed = Metrics().render(Measured(standing)).decode()
    return {
        (projection, generation)
        for generation, projection, rows in re.findall(
            r'^ledger_differing_rows{generation="(\d+)",projection="(\w+)"} (\S+)$', exposed, re.MULTILINE
        )
        if float(rows)
    }


def test_a_sample_finds_rare_streams_and_leaves_long_ones_to_a_full_check(dsn: str, tmp_path: Path) -> None:
    async def story(author: Author) -> None:
        busy = await author.create_customer(email="one@example.com")
        await author.open_dispute(await author.create_charge(customer=busy))
        state, events = author.states[busy], []
        for number in range(SAMPLE_STREAM_EVENTS_MAX + 200):
            assert isinstance(state, Customer)
            events += customer.update(state, {"description": str(number)}, card_id="card", now=author.now)
            state = evolve(state, events[-1])
        for start in range(0, len(events), 1000):
            await author.append(events[start : start + 1000])
        await catch_up(dsn)
        for _ in range(3):
            found = await run_verify(dsn, [CUSTOMERS, DISPUTES, FILES], sample=1)
            assert (found["disputes"].rows, found["customers"].rows, found["files"].rows) == (1, 0, 0)
        assert (await run_verify(dsn, [CUSTOMERS]))["customers"].rows == 1

    run_story(dsn, story)
    ended = run_ledger(
        tmp_path, "projections", "verify", "disputes", "files", "--sample", "3", database_url=dsn,
        secret_key=KEY.decode(),
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "files: nothing was verified" in ended.stdout
    assert "disputes: nothing" not in ended.stdout


def test_a_parked_stream_is_compared_as_of_its_parking_and_stray_rows_are_still_found(
    dsn: str,
) -> None:
    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")
        good = await author.create_customer(email="good@example.com")
        await author.update_customer(bad, email="two@example.com")

        def apply(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
            if (after.id, after.version) == (bad, 2):
                raise ValueError
            return [*CUSTOMERS.apply(before, recorded, after)]

        await catch_up(dsn, projections=[dataclasses.replace(CUSTOMERS, apply=apply)])
        for sample in (None, 20):
            found = (await run_verify(dsn, [CUSTOMERS], sample=sample))["customers"]
            assert (found.rows, found.parked, found.differing) == (2, 1, 0)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("UPDATE projections.customers SET deleted = true WHERE id = %s", (bad,))
            statement, _ = HARM["stray"]
            await conn.execute(statement.encode(), {"id": good})
        found = (await run_verify(dsn, [CUSTOMERS]))["customers"]
        assert found.keys == [bad, "cus_stray"]

    run_story(dsn, story)


def test_a_full_check_returns_the_digest_of_the_rows_it_compared(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        before = (await run_verify(dsn, [CUSTOMERS]))["customers"].digest
        assert (await run_verify(dsn, [CUSTOMERS], sample=1))["customers"].digest is None
        await run_rebuild(dsn, [CUSTOMERS])
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            compared = await load_last_comparison(conn, "customers")
        assert (await run_verify(dsn, [CUSTOMERS]))["customers"].digest == before == compared["digest"]

    run_story(dsn, story)


def test_a_projection_that_cannot_be_verified_is_reported_and_the_others_are_verified(
    dsn: str, tmp_path: Path
) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await author.create_charge()
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("DROP TABLE projections.refunds_g1")
        found = await run_verify(dsn, [REFUNDS, CHARGES])
        assert found["refunds"].error is not None
        assert "UndefinedTable" in found["refunds"].error
        assert found["charges"].rows == 1

    run_story(dsn, story)
    ended = run_ledger(
        tmp_path, "projections", "verify", "refunds", "charges", database_url=dsn, secret_key=KEY.decode()
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "charges\t1\t2\t1\t0\t0" in ended.stdout
    assert "refunds: not verified: UndefinedTable" in ended.stdout


def test_a_check_reads_one_position_whatever_is_appended_and_applied_meanwhile(dsn: str) -> None:
    async def story(author: Author) -> None:
        victim = await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        await author.update_customer(victim, email="not applied yet@example.com")
        found = await run_verify(dsn)
        assert (found["customers"].position, found["customers"].differing) == (1, 0)

    run_story(dsn, story)
