"""Any number of runners share the projections evenly, and one that fails is replaced within seconds."""

from __future__ import annotations

import asyncio
import random
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from ledger.postgres.connections import Conn, open_connection
from projections.engine.assignment import REFRESH_SECONDS, TAKEOVER_SECONDS, WorkAssignment
from projections.engine.batch import GenerationKey
from projections.engine.engine import IDLE_SECONDS_MAX, Engine
from projections.engine.status import load_statuses
from projections.read_models.catalog import PROJECTIONS
from tests.forks import ForkedProcess
from tests.projections.histories import Author, create_generation, load_rows, open_engine, run_story
from tests.projections.histories import catch_up as apply_all
from tests.projections.runner_process import run
from tests.webhooks.receiver import wait_until

ROUNDS = 20
RUNNERS = 3
TAKEOVER_SECONDS_MAX = 5.0


class RunnerProcess(ForkedProcess):
    """A runner in a process of its own, which says when it runs."""

    def __init__(self, dsn: str, place: Path, stop_position: int = 0) -> None:
        self._output = place / uuid.uuid4().hex
        super().__init__(run, dsn, stop_position, output=self._output)

    def wait_until_ready(self) -> None:
        wait_until(lambda: self._output.exists() and self._output.read_text() == "ready\n")


@contextmanager
def run_processes(
    dsn: str, place: Path, count: int = RUNNERS, *, stop_position: int = 0
) -> Iterator[list[RunnerProcess]]:
    """Runners in processes of their own. All that are in the list at the end are killed."""
    processes = [RunnerProcess(dsn, place, stop_position) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def wait_until_caught_up(conn: Conn, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if not any(each.lag.events for each in await load_statuses(conn, now=0.0)):
                return
            await asyncio.sleep(0.02)


async def count_moved(conn: Conn, act: Callable[[], Awaitable[object]]) -> int:
    """How many checkpoints move while `act` runs."""
    before = [status.lag.position for status in await load_statuses(conn, now=0.0)]
    await act()
    after = [status.lag.position for status in await load_statuses(conn, now=0.0)]
    return sum(one != other for one, other in zip(before, after, strict=True))


def test_projections_match_the_log_after_twenty_kills_at_random_times(dsn: str, tmp_path: Path) -> None:
    chance = random.Random(20)

    async def story(author: Author) -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await author.run_command("create_customer", 0, 1)
            with run_processes(dsn, tmp_path) as processes:
                for process in processes:
                    process.wait_until_ready()
                for number in range(ROUNDS):
                    appending = asyncio.create_task(append(author, number))
                    await asyncio.sleep(chance.random() * 0.1)
                    doomed = processes.pop(chance.randrange(len(processes)))
                    doomed.kill()
                    doomed.wait()
                    await appending
                    # While its successor starts, the two that are left take over its projections.
                    processes.append(RunnerProcess(dsn, tmp_path))
                    await wait_until_caught_up(conn, TAKEOVER_SECONDS_MAX)
                    processes[-1].wait_until_ready()
            expected = await load_rows(conn, 1)
            assert len(expected["feed"]) > ROUNDS
            generation = await create_generation(conn)
            await apply_all(dsn)
            assert await load_rows(conn, generation) == expected
            assert not any(each.parked for each in await load_statuses(conn, now=0.0))

    async def append(author: Author, number: int) -> None:
        for step in range(6):
            await author.run_command("create_charge", number, step)
            await author.run_command("update_customer", number, step)
            await author.run_command("open_dispute", number, step)

    run_story(dsn, story)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_runners_share_the_projections_evenly_and_none_is_applied_twice(dsn: str, count: int) -> None:
    async def advance_in_turn(conn: Conn, engines: list[Engine]) -> list[int]:
        """By engine: how many checkpoints its batch moved."""
        return [await count_moved(conn, engine.advance) for engine in engines]

    async def story(author: Author) -> None:
        async with AsyncExitStack() as stack:
            conn = await stack.enter_async_context(open_connection(dsn, "ledger_projector", name="test"))
            engines = [await stack.enter_async_context(open_engine(dsn)) for _ in range(count)]
            for engine in engines:
                await engine.advance()
            await asyncio.sleep(REFRESH_SECONDS)  # from now on each knows of all
            await author.create_customer()
            moved = await advance_in_turn(conn, engines)
            assert sum(moved) == len(PROJECTIONS)
            assert max(moved) - min(moved) <= 1
            await engines.pop().close()
            await asyncio.sleep(REFRESH_SECONDS)
            await author.create_customer()
            assert sum(await advance_in_turn(conn, engines)) == (len(PROJECTIONS) if engines else 0)

    run_story(dsn, story)


def test_runners_of_two_releases_both_work_on_everything(dsn: str) -> None:
    lagging = {GenerationKey("customers", 1): 0, GenerationKey("feed", 1): 0}

    async def story(author: Author) -> None:
        async with AsyncExitStack() as stack:
            for shapes in ({"customers": 1, "feed": 1}, {"customers": 2, "feed": 1}):
                conn = await stack.enter_async_context(open_connection(dsn, "ledger_projector", name="test"))
                assert await WorkAssignment(shapes).select_assigned(conn, shapes, lagging) == lagging

    run_story(dsn, story)


@pytest.mark.parametrize("failure", ["killed", "stopped between batches", "stopped within a batch"])
def test_a_runner_that_fails_is_replaced_within_five_seconds(dsn: str, tmp_path: Path, failure: str) -> None:
    async def story(author: Author) -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn, open_engine(dsn) as other:
            # The process comes first, so the projection of customers is its own.
            stop_position = 2 if failure == "stopped within a batch" else 0
            with run_processes(dsn, tmp_path, 1, stop_position=stop_position) as (process,):
                process.wait_until_ready()
                await other.start()
                await asyncio.sleep(REFRESH_SECONDS)
                await author.create_customer()
                await wait_until_caught_up(conn, TAKEOVER_SECONDS_MAX)
                if failure != "stopped within a batch":
                    process.send_signal(signal.SIGKILL if failure == "killed" else signal.SIGSTOP)
                started = time.monotonic()
                await author.create_customer()
                await wait_until_caught_up(conn, TAKEOVER_SECONDS_MAX)
                print(f"takeover from a runner {failure}: {time.monotonic() - started:.2f} s")

    run_story(dsn, story)


def test_a_runner_that_is_stopped_for_long_delays_nothing_and_works_again_later(
    dsn: str, tmp_path: Path
) -> None:
    async def story(author: Author) -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn, open_engine(dsn) as other:
            with run_processes(dsn, tmp_path, 1) as (stopped,):
                stopped.wait_until_ready()
                await other.start()
                await asyncio.sleep(REFRESH_SECONDS)
                stopped.send_signal(signal.SIGSTOP)
                await author.run_command("create_customer", 0, 1)
                await wait_until_caught_up(conn, TAKEOVER_SECONDS_MAX)
                # The server ends its connection, and with that its share: nothing waits for a takeover.
                await asyncio.sleep(max(0.0, IDLE_SECONDS_MAX - TAKEOVER_SECONDS + REFRESH_SECONDS + 0.5))
                for number in range(5):
                    await author.run_command("create_charge", number, 1)
                    await author.run_command("update_customer", number, number)
                    await wait_until_caught_up(conn, TAKEOVER_SECONDS / 4)
                # Continued, it connects again and takes a slot.
                stopped.send_signal(signal.SIGCONT)
                await author.run_command("create_charge", 0, 1)
                await wait_until_caught_up(conn, TAKEOVER_SECONDS_MAX)
                await other.close()
                await author.run_command("create_charge", 0, 1)
                await wait_until_caught_up(conn, TAKEOVER_SECONDS_MAX)

    run_story(dsn, story)
