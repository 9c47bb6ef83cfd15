"""Nothing unlooked-at goes live, nothing at work is taken away, and what stops a rebuild for a moment does
not stop it for good: an operator, a worker or the database comes between."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from ledger.errors import IdempotencyKeyReused, InvalidProjectionState
from ledger.postgres.connections import Conn, open_connection
from projections.engine import operations
from projections.engine.assignment import is_other_release_running
from projections.engine.engine import Engine
from projections.operate.progress import render_line
from projections.read_models.catalog import PROJECTIONS
from projections.read_models.feed import FEED
from projections.read_models.lists import CHARGES, CUSTOMERS, DISPUTES
from projections.rebuild import comparison, driver, generations, promotion, records
from projections.rebuild.records import Rebuild
from projections.rebuild.shards import BackfillShard
from projections.rebuild.states import TransitionRefused
from projections.worker import RebuildSupervisor
from tests.projections.histories import Author, catch_up, open_engine, run_story
from tests.projections.rebuilds import (
    OPERATOR,
    begin_rebuild,
    create_filler,
    drive_rebuild,
    load_live_generations,
    load_operations,
    load_rebuild,
    run_rebuild,
)

WAIT_SECONDS = 60.0
# What does this waits for the test, which holds that lock.
GATE = """
CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NEW; END $$;
"""
AT_COMPARING = """
CREATE TRIGGER gate BEFORE INSERT ON projections.operations FOR EACH ROW WHEN (NEW.action = 'compare')
EXECUTE FUNCTION public.gate()
"""
IN_AN_INDEX = """
CREATE FUNCTION public.slow(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN $1; END $$;
CREATE INDEX slow ON ONLY projections.customers (public.slow(id));
"""
HELD_UP = """
SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database AND datname = current_database()
WHERE locktype = 'advisory' AND objid = 7 AND NOT granted
"""
DRIVER = """
SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database AND datname = current_database()
WHERE locktype = 'advisory' AND classid = hashtext('projections.rebuild')::oid
"""

Conn = Conn


def run_rebuild_with_gate(
    dsn: str, where: str, meanwhile: Callable[[Author, Conn, int], Awaitable[None]]
) -> Rebuild:
    """A rebuild of customers that comes to `where`, and then sees what happened `meanwhile`."""
    done: list[Rebuild] = []

    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        await run_rebuild(dsn, [CUSTOMERS])
        async with (
            await Conn.connect(dsn, autocommit=True) as holder,
            open_connection(dsn, "ledger_projector", name="test") as conn,
        ):
            await holder.execute(GATE.encode())
            await holder.execute(where.encode())
            await holder.execute("SELECT pg_advisory_lock(7)")
            number = await begin_rebuild(dsn, [CUSTOMERS])
            driver = asyncio.create_task(drive_rebuild(dsn, number, [CUSTOMERS]))
            await wait_for_row(holder, HELD_UP)
            await meanwhile(author, conn, number)
            await holder.execute("SELECT pg_advisory_unlock(7)")
            done.append(await driver)

    run_story(dsn, story)
    return done[0]


@asynccontextmanager
async def run_worker(author: Author, fill: BackfillShard) -> AsyncIterator[None]:
    """A worker's part in rebuilds, in this process."""
    store = author.store
    worker = RebuildSupervisor(
        store,
        lambda: Engine(store.dsn, store.codec, store.clock, store.notifier, projections=PROJECTIONS),
        fill,
    )
    await worker.start()
    try:
        yield
    finally:
        await worker.close()


async def wait_for_row(conn: AsyncConnection[Any], query: str) -> Any:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            row = await (await conn.execute(query.encode())).fetchone()
            if row is not None:
                return row[0]
            await asyncio.sleep(0.01)


async def table_exists(conn: Conn, table: str) -> bool:
    row = await (
        await conn.execute("SELECT to_regclass(%s) IS NOT NULL", (f"projections.{table}",))
    ).fetchone()
    assert row is not None
    return bool(row[0])


def render_freeze_trigger(generation: int) -> str:
    """SQL for a trigger that keeps the checkpoint of customers from moving."""
    return f"""
        CREATE FUNCTION public.freeze_checkpoint() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER freeze_checkpoint BEFORE UPDATE ON projections.checkpoints FOR EACH ROW
        WHEN (OLD.projection = 'customers' AND OLD.generation = {generation})
        EXECUTE FUNCTION public.freeze_checkpoint()
    """


async def assert_refused(wanted: Awaitable[Any], message: str) -> None:
    with pytest.raises(InvalidProjectionState, match=message):
        await wanted


def test_a_generation_that_is_being_built_is_neither_switched_to_nor_dropped(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("UPDATE projections.customers SET email = 'drifted'")
            found = await run_rebuild(dsn, [CUSTOMERS])
            assert found.state == "differing"
            building = f"rebuild {found.id} is building generation 2 of customers: accept or cancel"
            await assert_refused(generations.switch(conn, {"customers": 2}, OPERATOR), building)
            await assert_refused(generations.retire(conn, "customers", [2], OPERATOR), building)
            await assert_refused(generations.remove_projection(conn, "customers", OPERATOR), building)
            await assert_refused(records.pause(conn, found.id, OPERATOR), "waits for a decision")
            await assert_refused(
                begin_rebuild(dsn, [CUSTOMERS]), f"rebuild {found.id} of customers, .* waiting for a decision"
            )
            assert (await load_live_generations(conn))["customers"] == 1
            assert await table_exists(conn, "customers_g2")
            # As an older release could have it.
            await conn.execute("UPDATE projections.live SET generation = 2 WHERE projection = 'customers'")
            await assert_refused(
                records.cancel(conn, found.id, OPERATOR), "generation 2 of customers is live"
            )
            await conn.execute("UPDATE projections.live SET generation = 1 WHERE projection = 'customers'")
            await conn.execute("DELETE FROM projections.checkpoints WHERE generation = 2")
            await records.resume(conn, found.id, OPERATOR)
            gone = await drive_rebuild(dsn, found.id)
            assert (gone.paused, gone.error) == (
                True,
                "generation 2 of customers no longer exists: cancel this rebuild.",
            )
            assert await records.cancel(conn, found.id, OPERATOR)

    run_story(dsn, story)


def test_a_rebuild_paused_during_its_comparison_does_not_switch(dsn: str) -> None:
    async def meanwhile(author: Author, conn: Conn, number: int) -> None:
        await records.pause(conn, number, OPERATOR)
        assert (await load_rebuild(dsn, number)).driven

    found = run_rebuild_with_gate(dsn, AT_COMPARING, meanwhile)
    assert (found.state, found.paused, found.error) == ("comparing", True, None)


def test_a_rebuild_compares_again_after_a_rollback_during_its_comparison(dsn: str) -> None:
    async def meanwhile(author: Author, conn: Conn, number: int) -> None:
        await conn.execute("UPDATE projections.customers SET email = 'drifted' WHERE generation = 1")
        assert await generations.roll_back(conn, "customers", OPERATOR) == 1

    assert run_rebuild_with_gate(dsn, AT_COMPARING, meanwhile).state == "differing"


def test_differences_from_a_generation_that_is_no_longer_live_cannot_be_accepted(
    dsn: str,
) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        assert (await run_rebuild(dsn, [CUSTOMERS])).state == "switched"
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("UPDATE projections.customers SET email = 'drifted' WHERE generation = 2")
            found = await run_rebuild(dsn, [CUSTOMERS])
            assert found.state == "differing"
            await generations.roll_back(conn, "customers", OPERATOR)
            await assert_refused(
                promotion.accept_differences(conn, found.id, OPERATOR),
                "generation 1 of customers is live now; the comparison was with generation 2",
            )
            assert (await load_live_generations(conn))["customers"] == 1
            await records.resume(conn, found.id, OPERATOR)
            assert (await drive_rebuild(dsn, found.id)).state == "switched", "it says what generation 1 says"

    run_story(dsn, story)


def test_a_stalled_live_generation_is_reported_and_not_replaced(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "LIVE_STALLED_SECONDS", 0.2)

    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        with psycopg.connect(dsn, autocommit=True) as owner:
            owner.execute(render_freeze_trigger(1).encode())
        await author.create_customer(email="two@example.com")
        found = await run_rebuild(dsn, [CUSTOMERS])
        reason = "customers could not be compared: its live generation 1 is stalled at position 1"
        assert (found.state, found.paused, found.error) == ("differing", False, reason)
        assert render_line(found).endswith(f"differing: {reason}")
        assert reason in promotion.explain_not_promoted(found)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            compared = await generations.load_last_comparison(conn, "customers")
            assert (compared["compared"], compared["live"], compared["live_position"]) == (False, 1, 1)
            assert (await load_live_generations(conn))["customers"] == 1
            await promotion.accept_differences(conn, found.id, OPERATOR)
            assert (await load_live_generations(conn))["customers"] == 2

    run_story(dsn, story)


@pytest.mark.parametrize("slow_statement", ["", ", pg_sleep(0.5) AS slept"])
def test_generations_that_reach_no_common_position_pause_the_rebuild_with_the_reason(
    slow_statement: str, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "COMMON_POSITION_SECONDS_MAX", 0.2)
    positions = comparison._POSITIONS.replace(
        "FROM projections.checkpoints", f"FROM projections.checkpoints{slow_statement}"
    )
    monkeypatch.setattr(comparison, "_POSITIONS", positions)

    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        number = await begin_rebuild(dsn, [CUSTOMERS])
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("UPDATE projections.checkpoints SET shape = 9")
        await author.create_customer(email="nobody here keeps the live one up to date")
        assert (await drive_rebuild(dsn, number, [CUSTOMERS])).error == (
            "generations 1 and 2 of customers did not reach a common position within 0 s"
        )

    run_story(dsn, story)


@pytest.mark.parametrize("sqlstate", ["53100", "55P03", "57014", "40P01", "53200"])
def test_a_database_error_pauses_the_rebuild_with_the_reason(dsn: str, sqlstate: str) -> None:
    fault = f"""
        CREATE FUNCTION public.fault() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'it is' USING ERRCODE = '{sqlstate}'; END $$;
        CREATE TRIGGER fault BEFORE INSERT ON projections.checkpoints FOR EACH ROW
        EXECUTE FUNCTION public.fault()
    """

    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        with psycopg.connect(dsn, autocommit=True) as owner:
            owner.execute(fault.encode())
        found = await run_rebuild(dsn, [CUSTOMERS])
        assert (found.state, found.paused) == ("indexing", True)
        assert sqlstate in str(found.error)

    run_story(dsn, story)


def test_a_rebuild_whose_rows_violate_a_constraint_is_refused(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        broken = "SELECT 'there is ' || email FROM projections.customers WHERE generation = %(generation)s"
        found = await run_rebuild(dsn, [dataclasses.replace(CUSTOMERS, violation_query=broken)])
        assert (found.state, found.paused) == ("comparing", True)
        assert found.error is not None
        assert found.error.startswith("customers: there is hash:")

    run_story(dsn, story)


def test_a_shard_that_stopped_for_a_pause_continues_while_another_is_within_its_page(dsn: str) -> None:
    async def story(author: Author) -> None:
        for _ in range(6):
            await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        number = await begin_rebuild(dsn, [CUSTOMERS], workers=2)
        stopped, again, page = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def fill(rebuild: int, share: int) -> bool:
            if share == 0:
                await page.wait()
            elif stopped.is_set():
                again.set()
            else:
                await records.pause(conn, number, OPERATOR)
                is_done = await create_filler(dsn, [CUSTOMERS])(rebuild, share)
                assert not is_done, "a paused rebuild fills nothing"
                stopped.set()
                return is_done
            return await create_filler(dsn, [CUSTOMERS])(rebuild, share)

        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            driver = asyncio.create_task(drive_rebuild(dsn, number, [CUSTOMERS], fill))
            await stopped.wait()
            await asyncio.sleep(0.1)
            await records.resume(conn, number, OPERATOR)
            async with asyncio.timeout(WAIT_SECONDS):
                await again.wait()
                page.set()
                found = await driver
            assert (found.state, found.error, found.events) == ("switched", None, found.total)

    run_story(dsn, story)


def test_a_driver_that_lost_its_connection_stops_its_backfill_processes(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        number = await begin_rebuild(dsn, [CUSTOMERS])
        filling, ended = asyncio.Event(), asyncio.Event()

        async def fill(rebuild: int, share: int) -> bool:
            filling.set()
            try:
                await asyncio.sleep(3600)
            finally:
                ended.set()
            return False

        driver = asyncio.create_task(drive_rebuild(dsn, number, [CUSTOMERS], fill))
        await filling.wait()
        async with await Conn.connect(dsn, autocommit=True) as owner:
            driver_pid = await wait_for_row(owner, DRIVER)
            await owner.execute("SELECT pg_terminate_backend(%s)", (driver_pid,))
        async with asyncio.timeout(WAIT_SECONDS):
            with pytest.raises(psycopg.OperationalError):
                await driver
        assert ended.is_set()
        assert not (await load_rebuild(dsn, number)).paused
        assert (await drive_rebuild(dsn, number, [CUSTOMERS])).state == "switched"

    run_story(dsn, story)


def test_cancelling_ends_an_index_build_at_once_and_leaves_no_table(dsn: str) -> None:
    async def meanwhile(author: Author, conn: Conn, number: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            assert await records.cancel(conn, number, OPERATOR)
        assert not await table_exists(conn, "customers_g3")

    assert run_rebuild_with_gate(dsn, IN_AN_INDEX, meanwhile).state == "cancelled"


def test_tables_that_a_cancelled_rebuild_could_not_drop_are_dropped_later(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "DROP_ATTEMPTS_MAX", 1)

    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        number = await begin_rebuild(dsn, [CUSTOMERS, FEED])
        async with (
            await Conn.connect(dsn) as reader,
            open_connection(dsn, "ledger_projector", name="test") as conn,
        ):
            await reader.execute("SELECT FROM projections.customers_g2")
            assert not await records.cancel(conn, number, OPERATOR)
            assert (await table_exists(conn, "customers_g2"), await table_exists(conn, "feed_g2")) == (
                True,
                False,
            )
            assert not await records.drop_cancelled_generations(conn)
            await reader.rollback()
            assert await records.drop_cancelled_generations(conn)
            assert not await table_exists(conn, "customers_g2")

    run_story(dsn, story)


def test_retiring_waits_for_a_reader(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "DROP_PAUSE_SECONDS", 0.1)

    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        assert (await run_rebuild(dsn, [CUSTOMERS])).state == "switched"
        async with (
            await Conn.connect(dsn) as reader,
            open_connection(dsn, "ledger_projector", name="test") as conn,
        ):
            await reader.execute("SELECT FROM projections.customers_g1")
            await assert_refused(
                generations.retire(conn, "customers", [1], OPERATOR),
                "long transactions are reading customers",
            )
            assert await table_exists(conn, "customers_g1")
            retiring = asyncio.create_task(generations.retire(conn, "customers", [1], OPERATOR))
            await asyncio.sleep(0.3)
            await reader.rollback()
            await retiring
            assert not await table_exists(conn, "customers_g1")

    run_story(dsn, story)


def test_of_an_acceptance_and_a_cancellation_at_once_one_is_refused(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        async with (
            open_connection(dsn, "ledger_projector", name="test") as conn,
            open_connection(dsn, "ledger_projector", name="test") as other,
            open_connection(dsn, "ledger_projector", name="test") as holder,
        ):
            await conn.execute("UPDATE projections.customers SET email = 'drifted'")
            found = await run_rebuild(dsn, [CUSTOMERS])
            async with holder.transaction():
                await holder.execute("SELECT FROM projections.rebuilds FOR UPDATE")
                both = [
                    asyncio.create_task(promotion.accept_differences(conn, found.id, OPERATOR)),
                    asyncio.create_task(records.cancel(other, found.id, OPERATOR)),
                ]
                await asyncio.sleep(0.2)
            results = await asyncio.gather(*both, return_exceptions=True)
            assert [type(each) for each in results].count(TransitionRefused) == 1, results
            assert (await load_rebuild(dsn, found.id)).is_over

    run_story(dsn, story)


def test_an_idempotency_key_used_for_another_action_is_refused(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        by = OPERATOR._replace(idempotency_key="night-shift", fingerprint="this")
        await begin_rebuild(dsn, [DISPUTES])
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            (number,) = await records.list_open(conn)
            await records.pause(conn, number, by)
            done = await operations.find_done(conn, by, "pause", "disputes")
            assert done is not None
            assert done.details == {"rebuild": number}
            assert "asked" not in str(await operations.list_operations(conn, "disputes"))
            for action in ("pause", "resume"):
                with pytest.raises(IdempotencyKeyReused):
                    await operations.find_done(conn, by._replace(fingerprint="that"), action, "disputes")
            # As an older release kept it.
            await load_operations(conn)
            old = by._replace(idempotency_key="older")
            await conn.execute(
                "INSERT INTO projections.operations "
                "(who, action, projection, generation, position, reason, idempotency_key, details) "
                "SELECT who, action, projection, generation, position, reason, 'older', details - 'asked' "
                "FROM projections.operations WHERE idempotency_key = 'night-shift'"
            )
            assert await operations.find_done(conn, old, "pause", "disputes") is not None
            assert await operations.find_done(conn, old, "resume", "disputes") is None

    run_story(dsn, story)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (IN_AN_INDEX, "indexing, projection 2 of 3: customers"),
        (AT_COMPARING, "comparing, projection 1 of 3: charges"),
    ],
)
def test_each_stage_reports_its_progress(dsn: str, where: str, said: str) -> None:
    views = [CHARGES, CUSTOMERS, DISPUTES]

    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        async with await Conn.connect(dsn, autocommit=True) as holder:
            await holder.execute(GATE.encode())
            await holder.execute(where.encode())
            await holder.execute("SELECT pg_advisory_lock(7)")
            number = await begin_rebuild(dsn, views)
            driver = asyncio.create_task(drive_rebuild(dsn, number, views))
            await wait_for_row(holder, HELD_UP)
            assert said in render_line(await load_rebuild(dsn, number))
            await holder.execute("SELECT pg_advisory_unlock(7)")
            assert render_line(await driver).endswith("switched")

    run_story(dsn, story)


def test_a_rebuild_that_catches_up_reports_how_far_behind_it_is(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        number = await begin_rebuild(dsn, [CUSTOMERS])
        for _ in range(3):
            await author.create_customer(email="two@example.com")
        async with await Conn.connect(dsn, autocommit=True) as conn:
            await conn.execute(render_freeze_trigger(2).encode())
            driver = asyncio.create_task(drive_rebuild(dsn, number, [CUSTOMERS]))
            await wait_for_row(conn, "SELECT 1 FROM projections.rebuilds WHERE state = 'catching up'")
            assert "catching up, 3 events behind" in render_line(await load_rebuild(dsn, number))
            await records.pause(conn, number, OPERATOR)
            assert (await driver).paused

    run_story(dsn, story)


def test_a_worker_drives_all_requested_rebuilds_at_once(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        numbers = {await begin_rebuild(dsn, [CUSTOMERS]), await begin_rebuild(dsn, [DISPUTES])}
        filling: set[int] = set()
        both = asyncio.Event()

        async def fill(rebuild: int, share: int) -> bool:
            filling.add(rebuild)
            if filling == numbers:
                both.set()
            await both.wait()
            return await create_filler(dsn)(rebuild, share)

        async with run_worker(author, fill), asyncio.timeout(WAIT_SECONDS):
            await both.wait()
            async with open_connection(dsn, "ledger_projector", name="test") as conn:
                await wait_for_row(
                    conn, "SELECT 1 FROM projections.rebuilds HAVING every(state = 'switched')"
                )

    run_story(dsn, story)


def test_a_worker_cleans_up_after_a_cancelled_first_build(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "DROP_ATTEMPTS_MAX", 1)

    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn, projections=PROJECTIONS[1:])
        number = await begin_rebuild(dsn, [CUSTOMERS])
        async with (
            open_connection(dsn, "ledger_projector", name="test") as conn,
            run_worker(author, create_filler(dsn)),
        ):
            await records.pause(conn, number, OPERATOR)
            async with await Conn.connect(dsn) as reader:
                await reader.execute("SELECT FROM projections.customers_g2")
                assert not await records.cancel(conn, number, OPERATOR)
            await wait_for_row(conn, "SELECT generation FROM projections.live WHERE projection = 'customers'")
            await wait_for_row(conn, "SELECT 1 WHERE to_regclass('projections.customers_g2') IS NULL")

    run_story(dsn, story)


def test_a_runner_of_another_release_is_noticed(dsn: str) -> None:
    async def story(author: Author) -> None:
        shapes = {projection.name: projection.shape for projection in PROJECTIONS}
        async with open_connection(dsn, "ledger_projector", name="test") as conn, open_engine(dsn) as own:
            await author.create_customer(email="one@example.com")
            await own.advance()
            assert not await is_other_release_running(conn, shapes)
            assert await is_other_release_running(conn, {**shapes, "customers": 2})

    run_story(dsn, story)
