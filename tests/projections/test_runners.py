"""Any number of runners: the views are spread over them, and one that dies is replaced in seconds."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from ledger.postgres.connections import Conn, open_connection
from projections.engine.assignment import REFRESH_SECONDS, STALLED_SECONDS, WorkAssignment
from projections.engine.engine import IDLE_SECONDS_MAX
from projections.engine.registry import PROJECTIONS, load_statuses
from tests.projections.histories import Author, create_generation, load_rows, open_engine, run_story
from tests.projections.histories import catch_up as apply_all

ROUNDS = 20
RUNNERS = 3
REPLACED_SECONDS = 5.0


@contextmanager
def runners(dsn: str, count: int = RUNNERS) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that run; whatever is in the list at the end is ended."""
    found = [begun(dsn) for _ in range(count)]
    try:
        yield found
    finally:
        for process in found:
            process.kill()
            process.wait()


def begun(dsn: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(Path(__file__).with_name("runner_process.py")), dsn]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


async def caught_up(conn: Conn, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if not any(each.lag.events for each in await load_statuses(conn, now=0.0)):
                return
            await asyncio.sleep(0.02)


def test_killed_at_random_twenty_times_and_the_views_are_those_of_the_log(dsn: str) -> None:
    chance = random.Random(20)

    async def story(author: Author) -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await author.run_command("create_customer", 0, 1)
            with runners(dsn) as processes:
                for process in processes:
                    ready(process)
                for number in range(ROUNDS):
                    appending = asyncio.create_task(append(author, number))
                    await asyncio.sleep(chance.random() * 0.1)
                    doomed = processes.pop(chance.randrange(len(processes)))
                    doomed.kill()
                    doomed.wait()
                    await appending
                    # While its successor starts, the two that are left take over what was its own.
                    processes.append(begun(dsn))
                    await caught_up(conn, REPLACED_SECONDS)
                    ready(processes[-1])
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


def test_each_runner_has_views_of_its_own_and_alone_it_has_all(dsn: str) -> None:
    names = sorted(projection.name for projection in PROJECTIONS)
    behind = {(name, 1): 0 for name in names}

    async def story(author: Author) -> None:
        async with AsyncExitStack() as stack:
            seats = []
            for _ in range(RUNNERS):
                conn = await stack.enter_async_context(open_connection(dsn, "ledger_projector", name="test"))
                seats.append((WorkAssignment({}), conn))
            first, conn = seats[0]
            assert await first.select_assigned(conn, names, behind) == behind
            for seat, conn in seats[1:]:
                await seat.select_assigned(conn, names, behind)
            await asyncio.sleep(0.6)
            shares = [set(await seat.select_assigned(conn, names, behind)) for seat, conn in seats]
            assert set.union(*shares) == set(behind)
            assert sum(map(len, shares)) == len(behind)
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
            await seats[2][1].close()
            await asyncio.sleep(0.6)
            shares = [set(await seat.select_assigned(conn, names, behind)) for seat, conn in seats[:2]]
            assert set.union(*shares) == set(behind)

    run_story(dsn, story)


def test_runners_of_two_releases_leave_each_other_nothing(dsn: str) -> None:
    behind = {("customers", 1): 0, ("feed", 1): 0}

    async def story(author: Author) -> None:
        async with AsyncExitStack() as stack:
            for shapes in ({"customers": 1, "feed": 1}, {"customers": 2, "feed": 1}):
                conn = await stack.enter_async_context(open_connection(dsn, "ledger_projector", name="test"))
                assert await WorkAssignment(shapes).select_assigned(conn, shapes, behind) == behind

    run_story(dsn, story)


def test_a_view_whose_runner_hangs_is_taken_over(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_engine(dsn) as hanging, open_engine(dsn) as other:
            await hanging.advance()
            await author.create_customer()
            started = time.monotonic()
            while not (await other.advance()).caught_up:
                assert time.monotonic() - started < REPLACED_SECONDS
                await asyncio.sleep(0.05)

    run_story(dsn, story)


def test_the_views_of_a_runner_that_is_stopped_go_on_elsewhere_as_if_it_were_gone(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn, open_engine(dsn) as other:
            with runners(dsn, 1) as (stopped,):
                ready(stopped)
                following = asyncio.create_task(other.run())
                await asyncio.sleep(REFRESH_SECONDS)
                await author.run_command("create_customer", 0, 0)
                await caught_up(conn, REPLACED_SECONDS)
                stopped.send_signal(signal.SIGSTOP)
                await author.run_command("create_customer", 0, 1)
                await caught_up(conn, REPLACED_SECONDS)
                await asyncio.sleep(max(0.0, IDLE_SECONDS_MAX - STALLED_SECONDS + REFRESH_SECONDS + 0.5))
                for number in range(5):
                    await author.run_command("create_charge", number, 1)
                    await author.run_command("update_customer", number, number)
                    await caught_up(conn, STALLED_SECONDS / 4)
                # Woken, it takes a seat again.
                stopped.send_signal(signal.SIGCONT)
                await author.run_command("create_charge", 0, 1)
                await caught_up(conn, REPLACED_SECONDS)
                await other.close()
                await following
                assert other.stats.failures == 0
                await author.run_command("create_charge", 0, 1)
                await caught_up(conn, REPLACED_SECONDS)

    run_story(dsn, story)
