"""A rebuild says what is live says, whatever stops it, and readers never see half of one."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Iterable

import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ledger.clock import Clock
from ledger.domain.aggregate import State
from ledger.errors import InvalidProjectionState
from ledger.keys.blind_index import BlindIndex
from ledger.postgres.connections import open_connection
from ledger.store.codec import Codec
from ledger.store.log import Recorded
from projections.engine import operations
from projections.engine.status import load_statuses
from projections.projection import Projection, Row
from projections.read_models.catalog import PROJECTIONS
from projections.read_models.feed import FEED
from projections.read_models.lists import CUSTOMERS, DISPUTES
from projections.rebuild import generations, promotion, records
from projections.rebuild.shards import BackfillFailed
from projections.rebuild.verification import verify
from tests.projections.histories import KEY, Author, catch_up, load_rows, open_engine, run_story
from tests.projections.history_commands import COMMANDS
from tests.projections.rebuilds import (
    OPERATOR,
    begin_rebuild,
    create_filler,
    drive_rebuild,
    load_live_generations,
    load_operations,
    load_rebuild,
    run_rebuild,
    slow_down_pages,
)
from tests.projections.releases import let_earlier_releases_run

SECRET = "jenny.rosen@example.com"

commands = st.lists(
    st.tuples(st.sampled_from(sorted(COMMANDS)), st.integers(0, 5), st.integers(0, 30)),
    min_size=5,
    max_size=30,
)


async def create_a_few_objects(author: Author) -> None:
    customer = await author.create_customer(email=SECRET)
    dispute = await author.open_dispute(await author.create_charge(customer=customer))
    await author.respond(dispute, submit=True, product_description="A book")
    await author.report_fact(dispute, "won")
    await author.update_customer(customer, description="a good one")


def replace_customers(**other: object) -> list[Projection]:
    """All projections, customers being another release's."""
    return [dataclasses.replace(CUSTOMERS, **other), *PROJECTIONS[1:]]  # type: ignore[arg-type]


@settings(
    max_examples=8,
    derandomize=True,
    phases=[Phase.generate],  # shrinking against a log that only grows takes minutes
)
@given(history=commands, workers=st.integers(1, 3), page_events=st.integers(2, 40))
def test_a_rebuild_of_any_history_gives_the_bytes_of_the_live_generation(
    dsn: str, history: list[tuple[str, int, int]], workers: int, page_events: int
) -> None:
    async def story(author: Author) -> None:
        await create_a_few_objects(author)
        for command in history:
            await author.run_command(*command)
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            before = await load_live_generations(conn)
            expected = {
                name: (await load_rows(conn, generation))[name] for name, generation in before.items()
            }
            number = await begin_rebuild(dsn, workers=workers)
            done = await drive_rebuild(dsn, number, fill=create_filler(dsn, page_events=page_events))
            assert (done.state, done.error, done.events) == ("switched", None, done.total)
            after = await load_live_generations(conn)
            assert all(after[name] > before[name] for name in before)
            assert {
                name: (await load_rows(conn, generation))[name] for name, generation in after.items()
            } == expected
            for name, generation in before.items():
                await generations.retire(conn, name, [generation], OPERATOR)

    run_story(dsn, story)


def test_events_appended_during_a_rebuild_are_applied_and_no_event_changes_its_id(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_a_few_objects(author)
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            number = await begin_rebuild(dsn)
            ids = [row["id"] for row in (await load_rows(conn, 1))["feed"]]
            await create_a_few_objects(author)
            assert (await drive_rebuild(dsn, number)).state == "switched"
            found = await load_rows(conn, 2)
            assert found == await load_rows(conn, 1)
            assert {row["id"] for row in found["feed"]} > set(ids)
            assert len(found["customers"]) == 2
            await author.create_customer(email="later@example.com")
            await catch_up(dsn)
            assert len((await load_rows(conn, 2))["customers"]) == 3, "the new one is kept up to date"
            assert len((await load_rows(conn, 1))["customers"]) == 3, "and so is the one to go back to"

    run_story(dsn, story)


def test_postgres_does_not_compress_rows_that_fit_into_a_page_live_and_rebuilt(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_charge()
        await author.create_customer(metadata={f"key{n}": secrets.token_hex(250) for n in range(10)})
        await catch_up(dsn)
        assert (await run_rebuild(dsn)).state == "switched"
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            cur = await conn.execute(
                "SELECT generation, octet_length(data), pg_column_compression(data) FROM projections.feed "
                "UNION ALL SELECT generation, length(state), pg_column_compression(state) "
                "FROM projections.customers"
            )
            found = await cur.fetchall()
        assert sorted(row[0] for row in found if row[1] > 2500) == [1, 1, 2, 2]
        assert {row[2] for row in found} == {None}

    run_story(dsn, story)


def test_a_second_rebuild_of_the_same_projection_is_refused(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_a_few_objects(author)
        number = await begin_rebuild(dsn, [CUSTOMERS, DISPUTES])
        with pytest.raises(
            InvalidProjectionState, match=f"rebuild {number} of disputes, started by ada@example at "
        ):
            await begin_rebuild(dsn, [DISPUTES, FEED])
        assert await begin_rebuild(dsn, [FEED]) > number

    run_story(dsn, story)


def test_a_rebuild_that_one_process_drives_is_not_driven_by_another(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_a_few_objects(author)
        number = await begin_rebuild(dsn)
        waiting, going_on = asyncio.Event(), asyncio.Event()

        async def slow(rebuild: int, share: int) -> bool:
            waiting.set()
            await going_on.wait()
            return await create_filler(dsn)(rebuild, share)

        first = asyncio.create_task(drive_rebuild(dsn, number, fill=slow))
        await waiting.wait()
        assert (await drive_rebuild(dsn, number)).state == "filling"
        going_on.set()
        assert (await first).state == "switched"

    run_story(dsn, story)


def test_a_backfill_process_that_dies_is_replaced_and_continues_after_its_last_page(dsn: str) -> None:
    slow_down_pages(dsn)

    async def story(author: Author) -> None:
        for _ in range(8):
            await create_a_few_objects(author)
        await catch_up(dsn)
        number = await begin_rebuild(dsn)
        deaths = 0

        async def mortal(rebuild: int, share: int) -> bool:
            nonlocal deaths
            task = asyncio.create_task(create_filler(dsn, page_events=6)(rebuild, share))
            before = (await load_rebuild(dsn, number)).events
            while deaths < 4 and not task.done():
                if (await load_rebuild(dsn, number)).events > before:
                    deaths += 1
                    task.cancel()
                    await asyncio.wait([task])
                    raise BackfillFailed("killed")
            return await task

        done = await drive_rebuild(dsn, number, fill=mortal)
        assert deaths == 4
        assert (done.state, done.events) == ("switched", done.total), "no page was filled twice"

    run_story(dsn, story)


def test_a_backfill_without_progress_pauses_the_rebuild_which_can_be_resumed(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_a_few_objects(author)
        await catch_up(dsn)
        number = await begin_rebuild(dsn, workers=2)

        async def hopeless(rebuild: int, share: int) -> bool:
            if share == 0:
                raise BackfillFailed("no space left")
            return await create_filler(dsn)(rebuild, share)

        stopped = await drive_rebuild(dsn, number, fill=hopeless)
        assert (stopped.state, stopped.paused, stopped.error) == (
            "filling",
            True,
            "backfill failed: no space left",
        )
        assert (await drive_rebuild(dsn, number)).paused, "paused, it is left alone"
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            last, *_ = await operations.list_operations(conn, CUSTOMERS.name)
            assert (last["action"], last["details"]["error"]) == ("fail", stopped.error)
            assert await records.list_runnable(conn, PROJECTIONS) == []
            await records.resume(conn, number, OPERATOR)
            assert await records.list_runnable(conn, PROJECTIONS) == [number]
        assert (await drive_rebuild(dsn, number)).state == "switched"

    run_story(dsn, story)


def test_a_rebuild_paused_between_two_pages_stops_and_continues_when_resumed(dsn: str) -> None:
    slow_down_pages(dsn)

    async def story(author: Author) -> None:
        for _ in range(6):
            await create_a_few_objects(author)
        await catch_up(dsn)
        number = await begin_rebuild(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:

            async def interrupted(rebuild: int, share: int) -> bool:
                task = asyncio.create_task(create_filler(dsn, page_events=6)(rebuild, share))
                for _ in range(1000):
                    if (await load_rebuild(dsn, number)).events:
                        break
                await records.pause(conn, number, OPERATOR)
                return await task

            paused = await drive_rebuild(dsn, number, fill=interrupted)
            assert (paused.state, paused.paused, paused.error) == ("filling", True, None)
            assert paused.total is not None
            assert 0 < paused.events < paused.total
            await conn.execute("UPDATE projections.rebuilds SET began_at = now() - interval '1 hour'")
            await records.resume(conn, number, OPERATOR)
            done = await drive_rebuild(dsn, number)
            assert (done.state, done.events) == ("switched", done.total)
            assert done.rate > 10 * done.events / 3600, "of its workers, not of the hour it was paused for"
            told = [(each[0], each[1]) for each in await load_operations(conn) if each[2] == "feed"]
            assert [action for _, action in told] == ["rebuild", "pause", "resume", "compare", "switch"]
            assert {who for who, _ in told} == {OPERATOR.who}

    run_story(dsn, story)


@pytest.mark.parametrize("stage", ["begun", "filled", "differing"])
def test_a_cancelled_rebuild_leaves_nothing_behind(dsn: str, stage: str) -> None:
    async def story(author: Author) -> None:
        await create_a_few_objects(author)
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'projections'::regnamespace"
            before = await (await conn.execute(tables)).fetchone()
            number = await begin_rebuild(dsn)
            if stage == "filled":
                await create_filler(dsn)(number, 0)
            if stage == "differing":
                await conn.execute("UPDATE projections.customers SET email = 'other'")
                assert (await drive_rebuild(dsn, number)).state == "differing"
            await records.cancel(conn, number, OPERATOR)
            assert await (await conn.execute(tables)).fetchone() == before
            assert set((await load_live_generations(conn)).values()) == {1}
            assert {status.lag.generation for status in await load_statuses(conn, now=0.0)} == {1}
            with pytest.raises(InvalidProjectionState, match="has ended"):
                await records.cancel(conn, number, OPERATOR)
            with pytest.raises(InvalidProjectionState, match="has ended"):
                await records.resume(conn, number, OPERATOR)
        assert (await run_rebuild(dsn)).state == ("differing" if stage == "differing" else "switched")

    run_story(dsn, story)


def test_differences_are_shown_without_personal_data_and_promoted_only_when_accepted(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_a_few_objects(author)
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute(
                "UPDATE projections.customers SET email = 'drifted@example.com', deleted = true"
            )
            await conn.execute("DELETE FROM projections.disputes")
            found = await run_rebuild(dsn, [CUSTOMERS, DISPUTES, FEED])
            assert found.state == "differing"
            assert set((await load_live_generations(conn)).values()) == {1}, (
                "of several views all are switched or none"
            )
            told = await generations.load_last_comparison(conn, "customers")
            (difference,) = told["differences"]
            assert difference["live"] == {"deleted": True, "email": "…"}
            assert difference["other"] == {"deleted": False, "email": "…"}
            (missing,) = (await generations.load_last_comparison(conn, "disputes"))["differences"]
            assert missing["live"] is None
            assert missing["other"]["state.status"] == "won"
            assert missing["other"]["state.evidence.product_description"] == "…"
            assert (await generations.load_last_comparison(conn, "feed"))["equal"]
            on_record = str(await load_operations(conn))
            assert not [text for text in (SECRET, "drifted", "A book") if text in on_record]

            await promotion.accept_differences(
                conn, found.id, operations.Operator("grace@example", "the old was wrong")
            )
            assert {
                (await load_live_generations(conn))[name] for name in ("customers", "disputes", "feed")
            } == {2}
            switched = [each for each in await load_operations(conn) if each[1] == "switch"]
            assert [(each[0], each[2], each[4], each[5]["accepted"]) for each in switched] == [
                ("grace@example", name, "the old was wrong", True)
                for name in ("customers", "disputes", "feed")
            ]
            with pytest.raises(InvalidProjectionState, match="no differences to accept"):
                await promotion.accept_differences(conn, found.id, OPERATOR)

    run_story(dsn, story)


def test_a_rebuild_with_differences_accepted_beforehand_is_promoted_and_recorded(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_a_few_objects(author)
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("UPDATE projections.customers SET email = 'drifted@example.com'")
            assert (await run_rebuild(dsn, [CUSTOMERS], accept_differences=True)).state == "switched"
            compare, switch = (await load_operations(conn))[-2:]
            assert (compare[1], compare[5]["equal"], len(compare[5]["differences"])) == ("compare", False, 1)
            assert (switch[1], switch[5]["from"], switch[5]["accepted"]) == ("switch", 1, True)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute("UPDATE projections.operations SET who = 'nobody'")

    run_story(dsn, story)


def test_a_stream_whose_handler_raises_is_parked_in_the_new_generation_too(dsn: str) -> None:
    async def story(author: Author) -> None:
        bad = await author.create_customer(email="one@example.com")
        await author.create_customer(email="good@example.com")
        await author.update_customer(bad, email="two@example.com")
        await author.update_customer(bad, email="three@example.com")

        def apply(before: State | None, recorded: Recorded, after: State) -> Iterable[Row]:
            if (after.id, after.version) == (bad, 2):
                raise ValueError(SECRET)
            return CUSTOMERS.apply(before, recorded, after)

        faulty = replace_customers(apply=apply)
        await catch_up(dsn, projections=faulty)
        assert (await run_rebuild(dsn, faulty)).state == "switched"
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            parked = [status for status in await load_statuses(conn, now=0.0) if status.parked]
            assert [(each.lag.generation, each.parked[0][:2]) for each in parked] == [
                (1, (bad, 3)),
                (2, (bad, 3)),
            ]
            assert await load_rows(conn, 2) == await load_rows(conn, 1)
            async with open_engine(dsn) as repaired:
                assert await repaired.retry("customers", bad, OPERATOR)
            index = BlindIndex(author.store.service_keys)
            assert {row["email"] for row in (await load_rows(conn, 2))["customers"]} == {
                index.hash_as_text(author.account, False, "email", f"{name}@example.com")
                for name in ("good", "three")
            }

    run_story(dsn, story)


def test_a_row_the_database_refuses_parks_its_stream_in_a_backfill_as_it_does_live(dsn: str) -> None:
    async def story(author: Author) -> None:
        let_earlier_releases_run(dsn, True)  # else no column has the text
        for number in range(5):
            await author.create_customer(email=f"{number}@example.com")
        bad = await author.create_customer(email="was@example.com")
        await author.update_customer(bad, email="no\0text")  # JSON bears it, a text column does not
        await catch_up(dsn)
        assert (await run_rebuild(dsn)).state == "switched"
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            parked = [status for status in await load_statuses(conn, now=0.0) if status.parked]
            assert [(each.lag.generation, each.parked[0][:2]) for each in parked] == [
                (1, (bad, 7)),
                (2, (bad, 7)),
            ]
            assert (await load_rows(conn, 2))["customers"] == (await load_rows(conn, 1))["customers"]

    run_story(dsn, story)


def test_a_rollback_returns_to_the_previous_generation_and_a_second_one_undoes_it(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_a_few_objects(author)
        await catch_up(dsn)
        await run_rebuild(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            with pytest.raises(InvalidProjectionState, match="is live"):
                await generations.retire(conn, "feed", [2], OPERATOR)
            await author.create_customer()
            await catch_up(dsn)
            assert await generations.roll_back(conn, "feed", OPERATOR) == 1
            assert (await load_live_generations(conn))["feed"] == 1
            assert (await load_live_generations(conn))["customers"] == 2
            assert await generations.list_older_generations(conn, "feed") == [], (
                "what may yet be gone forth to is kept"
            )
            again = OPERATOR._replace(idempotency_key="once")
            assert await generations.roll_back(conn, "feed", again) == 2
            assert await operations.find_done(conn, again, "rollback", "feed") is not None
            with pytest.raises(operations.AlreadyDone):
                await generations.roll_back(conn, "feed", again)
            assert (await load_live_generations(conn))["feed"] == 2
            assert await generations.list_older_generations(conn, "feed") == [1]
            await generations.retire(conn, "feed", [1], OPERATOR)
            with pytest.raises(InvalidProjectionState, match="no generation 1"):
                await generations.roll_back(conn, "feed", OPERATOR)
            with pytest.raises(InvalidProjectionState, match="no generation 7"):
                await generations.switch(conn, {"feed": 7}, OPERATOR)

    run_story(dsn, story)


def test_a_generation_that_is_behind_does_not_become_live(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_a_few_objects(author)
        await catch_up(dsn)
        await run_rebuild(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("UPDATE projections.checkpoints SET position = 1 WHERE generation = 1")
            with pytest.raises(InvalidProjectionState, match="events behind the live one"):
                await generations.roll_back(conn, "feed", OPERATOR)
            assert (await load_live_generations(conn))["feed"] == 2

    run_story(dsn, story)


def test_a_release_keeps_generations_of_earlier_releases_up_to_date_but_not_of_later_ones(
    dsn: str,
) -> None:
    async def story(author: Author) -> None:
        later = replace_customers(shape=2)
        await create_a_few_objects(author)
        await catch_up(dsn)
        assert (await run_rebuild(dsn, later)).state == "switched"
        await author.create_customer(email="for both@example.com")
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            assert len((await load_rows(conn, 1))["customers"]) == 2
            assert len((await load_rows(conn, 2))["customers"]) == 1, "the earlier release has not touched it"
            await catch_up(dsn, projections=later)
            assert await load_rows(conn, 2) == await load_rows(conn, 1)
            await author.create_customer(email="by the later@example.com")
            await catch_up(dsn, projections=later)
            assert len((await load_rows(conn, 1))["customers"]) == 3

    run_story(dsn, story)


def test_an_earlier_release_neither_drives_nor_replaces_nor_verifies_what_a_later_one_builds(
    dsn: str,
) -> None:
    async def story(author: Author) -> None:
        later = replace_customers(shape=2)
        await create_a_few_objects(author)
        await catch_up(dsn)
        number = await begin_rebuild(dsn, later[:1])
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            assert await records.list_runnable(conn, PROJECTIONS) == []
            assert await records.list_runnable(conn, later) == [number]
            with pytest.raises(InvalidProjectionState, match="by a later release"):
                await drive_rebuild(dsn, number)
            assert not (await load_rebuild(dsn, number)).paused, "whose workers are at it"
            assert (await drive_rebuild(dsn, number, later, create_filler(dsn, later))).state == "switched"
            with pytest.raises(
                InvalidProjectionState,
                match="generation 2 of customers is live and was built by a later release",
            ):
                await begin_rebuild(dsn, [CUSTOMERS])
            for projections, judged in ((PROJECTIONS, []), (later, ["customers"])):
                found = await verify(dsn, Codec(KEY), Clock(movable=True), projections[:1])
                assert [each.projection for each in found] == judged

    run_story(dsn, story)


def test_only_a_new_column_is_excluded_from_the_comparison(dsn: str) -> None:
    async def story(author: Author) -> None:
        *others, email, state = CUSTOMERS.columns
        later = replace_customers(shape=2, columns=(*others, email._replace(since_shape=2), state))
        await create_a_few_objects(author)
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("UPDATE projections.customers SET email = NULL")
            assert (await run_rebuild(dsn, later[:1])).state == "switched"
            assert (await generations.load_last_comparison(conn, "customers"))["added"] == ["email"]
            await conn.execute("UPDATE projections.customers SET email = NULL")
            assert (await run_rebuild(dsn, later[:1])).state == "differing", "both have it now"

    run_story(dsn, story)


def test_a_rebuild_builds_a_projection_that_is_new_to_a_log_with_history(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_a_few_objects(author)
        await catch_up(dsn, projections=PROJECTIONS[1:])
        done = await run_rebuild(dsn, [CUSTOMERS])
        assert done.state == "switched"
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            assert (await load_live_generations(conn))["customers"] == 2
            await catch_up(dsn)
            standing = await load_statuses(conn, now=0.0)
            customers = [each.lag.generation for each in standing if each.lag.projection == "customers"]
            assert customers == [2], "no other is begun beside it"
            assert len((await load_rows(conn, 2))["customers"]) == 1
            assert await generations.remove_projection(conn, "customers", OPERATOR) == [2]
            assert "customers" not in await load_live_generations(conn)

    run_story(dsn, story)


def test_a_rebuild_of_the_feed_makes_only_retained_events_and_skips_streams_that_ended_before(
    dsn: str,
) -> None:
    async def story(author: Author) -> None:
        await create_a_few_objects(author)
        old = await author.create_customer(email="old@example.com")
        await catch_up(dsn)
        await author.advance_clock(days=40)
        await author.update_customer(old, description="again")
        await author.create_customer(email="new@example.com")
        await catch_up(dsn)
        done = await run_rebuild(dsn, [FEED])
        assert done.state == "switched"
        assert done.events == 3, "two streams: one of two events, one of one"
        assert done.total == 3, "what is not read is not counted: the time that is left would be wrong"
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            found = (await load_rows(conn, 2))["feed"]
            assert [row["type"] for row in sorted(found, key=lambda row: row["position"])] == [
                "customer.updated",
                "customer.created",
            ]
            assert found == (await load_rows(conn, 1))["feed"]

    run_story(dsn, story)
