"""Verifying finds every row that the log does not account for, and says so until it is mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.clock import Clock
from ledger.database import connected
from ledger.metrics import lags
from ledger.store.codec import Codec
from projections.projection import Projection
from projections.registry import PROJECTIONS
from projections.verifying import Verified, verify
from tests.projections.histories import KEY, Author, catch_up, running
from tests.projections.rebuilders import rebuilt
from tests.projections.unreadable import damaged
from tests.serving.process import ledger

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


async def checked(dsn: str, *, sample: int | None = None) -> dict[str, Verified]:
    found = await verify(dsn, Codec(KEY), Clock(movable=True), PROJECTIONS, sample=sample)
    return {each.projection: each for each in found}


async def differing(dsn: str) -> dict[str, int]:
    """What the metrics say."""
    async with connected(dsn, "ledger_api", name="test") as conn:
        return {lag.projection: lag.differing for lag in await lags(conn, 0.0) if lag.differing}


def names(projections: tuple[Projection, ...]) -> set[str]:
    return {projection.name for projection in projections}


@pytest.mark.parametrize("harm", sorted(HARM))
def test_a_row_that_was_harmed_is_named_and_a_rebuild_mends_it(dsn: str, harm: str) -> None:
    statement, view = HARM[harm]

    async def story(author: Author) -> None:
        victim = await author.customer(email="one@example.com")
        await author.customer(email="two@example.com")
        await author.charge("tok_createDispute", customer=victim)
        await catch_up(dsn)
        whole = await checked(dsn)
        assert set(whole) == names(PROJECTIONS)
        assert not any(each.differing for each in whole.values())
        assert (whole["customers"].rows, whole["customers"].position) == (2, 3)
        assert await differing(dsn) == {}

        async with connected(dsn, "ledger_projector", name="test") as conn:
            await conn.execute(statement.encode(), {"id": victim})
        found = await checked(dsn)
        harmed = {name: each for name, each in found.items() if each.differing}
        assert set(harmed) == {view}
        if view == "customers":
            assert harmed[view].keys == ["cus_stray" if harm == "stray" else victim]
        assert await differing(dsn) == {view: 1}
        await rebuilt(dsn, [each for each in PROJECTIONS if each.name == view], accept_differences=True)
        assert not any(each.differing for each in (await checked(dsn)).values())

    running(dsn, story)


def test_samples_add_up_and_only_a_full_check_forgets(dsn: str) -> None:
    async def story(author: Author) -> None:
        victim = await author.customer(email="one@example.com")
        await catch_up(dsn)
        async with connected(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("UPDATE projections.customers SET deleted = true")
            assert (await checked(dsn, sample=3))["customers"].keys == [victim]
            assert await differing(dsn) == {"customers": 1}
            await conn.execute("UPDATE projections.customers SET deleted = false")
            assert (await checked(dsn, sample=3))["customers"].differing == 0
            assert await differing(dsn) == {"customers": 1}
            await checked(dsn)
            assert await differing(dsn) == {}

    running(dsn, story)


def test_an_event_that_cannot_be_read_is_told_in_a_line_and_the_other_views_are_checked(
    dsn: str, tmp_path: Path
) -> None:
    async def story(author: Author) -> None:
        await author.customer(email="one@example.com")
        await author.charge()
        await catch_up(dsn)
        await damaged(dsn, 1)
        found = await checked(dsn)
        assert {name for name, each in found.items() if each.error} == {"customers", "feed"}
        assert found["charges"].rows == 1

    running(dsn, story)
    ended = ledger(
        tmp_path, "projections", "verify", "customers", "charges", database_url=dsn, secret_key=KEY.decode()
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "charges\t1\t2\t1\t0\t0" in ended.stdout
    assert "customers: not checked, an event cannot be read: DecodeError at " in ended.stdout


def test_it_is_of_one_position_whatever_is_appended_and_applied_meanwhile(dsn: str) -> None:
    async def story(author: Author) -> None:
        victim = await author.customer(email="one@example.com")
        await catch_up(dsn)
        await author.rename(victim, email="not applied yet@example.com")
        found = await checked(dsn)
        assert (found["customers"].position, found["customers"].differing) == (1, 0)

    running(dsn, story)
