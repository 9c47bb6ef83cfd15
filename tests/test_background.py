"""The background loop: when its steps run, what it logs, and how it ends. Real time, real tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from ledger.background import BackgroundLoop, Closers
from ledger.errors import Unavailable
from ledger.metrics.loops import LoopBoard

LONG_SECONDS = 30.0
SHORT_SECONDS = 0.02


class Steps:
    """Steps that do what a list says: return seconds, or raise. The last one is repeated."""

    def __init__(self, *outcomes: float | Exception | None) -> None:
        self._outcomes = list(outcomes)
        self._changed = asyncio.Event()
        self.begun_at: list[float] = []

    async def step(self) -> float | None:
        self.begun_at.append(time.monotonic())
        self._changed.set()
        self._changed = asyncio.Event()
        outcome = self._outcomes[0] if len(self._outcomes) == 1 else self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.begun_at) < count:
                await self._changed.wait()


def run(story: Callable[[], Awaitable[None]]) -> list[Any]:
    """Run a story; what was logged meanwhile."""
    with capture_logs() as logged:
        asyncio.run(asyncio.wait_for(story(), LONG_SECONDS))
    return logged


def test_a_step_follows_the_wait_that_the_one_before_returned() -> None:
    async def story() -> None:
        steps = Steps(0.1, 0, LONG_SECONDS)
        loop = BackgroundLoop("test", steps.step)
        await loop.start()
        await steps.wait_for(3)
        first, second, third = steps.begun_at
        assert 0.1 <= second - first < 5
        assert third - second < 0.1
        await loop.close()
        assert len(steps.begun_at) == 3

    assert run(story) == []


@pytest.mark.parametrize("seconds", [LONG_SECONDS, None])
def test_wake_ends_the_wait(seconds: float | None) -> None:
    async def story() -> None:
        steps = Steps(seconds)
        loop = BackgroundLoop("test", steps.step)
        await loop.start()
        await steps.wait_for(1)
        await asyncio.sleep(SHORT_SECONDS)
        assert len(steps.begun_at) == 1
        loop.wake()
        await steps.wait_for(2)
        await loop.close()

    run(story)


def test_a_step_with_much_to_do_leaves_the_rest_to_the_next_one() -> None:
    """It is not abandoned, and does not count as one that hangs."""

    async def story() -> None:
        left = 10

        async def step() -> float:
            nonlocal left
            while left and not loop.step_should_end:
                await asyncio.sleep(SHORT_SECONDS)
                left -= 1
            if not left:
                done.set()
            return LONG_SECONDS if not left else 0

        done = asyncio.Event()
        loop = BackgroundLoop("test", step, step_timeout_seconds=6 * SHORT_SECONDS)
        assert not loop.step_should_end
        await loop.start()
        await done.wait()
        await loop.close()
        assert loop.step_should_end

    assert run(story) == []


def test_a_wake_during_a_step_is_not_lost() -> None:
    async def story() -> None:
        count = 0

        async def step() -> float:
            nonlocal count
            count += 1
            if count == 1:
                loop.wake()
            else:
                done.set()
            return LONG_SECONDS

        done = asyncio.Event()
        loop = BackgroundLoop("test", step)
        await loop.start()
        await asyncio.wait_for(done.wait(), 5)
        await loop.close()
        assert count == 2

    run(story)


def test_steps_without_a_wait_let_other_tasks_run() -> None:
    async def story() -> None:
        steps = Steps(0)
        loop = BackgroundLoop("test", steps.step)
        await loop.start()
        for _ in range(10):
            await asyncio.sleep(0)
        await loop.close()
        assert len(steps.begun_at) > 1

    run(story)


def test_the_backoff_doubles_to_its_maximum_and_starts_over_after_a_success() -> None:
    async def story() -> None:
        down = Unavailable("down")
        steps = Steps(down, down, down, down, 0, down, LONG_SECONDS)
        loop = BackgroundLoop("test", steps.step, backoff_seconds_min=0.1, backoff_seconds_max=0.3)
        await loop.start()
        await steps.wait_for(7)
        await loop.close()
        waits = [after - before for before, after in zip(steps.begun_at, steps.begun_at[1:], strict=False)]
        for wait, least in zip(waits, (0.1, 0.2, 0.3, 0.3, 0, 0.1), strict=True):
            assert wait >= least
        assert waits[3] < 0.8  # the fourth without a maximum
        assert waits[5] < 0.3  # the fifth if it did not start over

    run(story)


def test_a_wake_does_not_end_a_backoff() -> None:
    async def story() -> None:
        steps = Steps(Unavailable("down"), LONG_SECONDS)
        loop = BackgroundLoop("test", steps.step, backoff_seconds_min=0.2)
        await loop.start()
        await steps.wait_for(1)
        await asyncio.sleep(SHORT_SECONDS)
        loop.wake()
        await steps.wait_for(2)
        assert steps.begun_at[1] - steps.begun_at[0] >= 0.2
        await loop.close()

    run(story)


def test_a_failure_is_logged_once_a_reason_and_again_after_a_recovery() -> None:
    async def story() -> None:
        down, full = psycopg.OperationalError("to Ada Lovelace"), Unavailable("Ada's disk is full")
        steps = Steps(down, down, full, full, 0, down, ValueError("Ada"), LONG_SECONDS)
        loop = BackgroundLoop("sweep", steps.step, backoff_seconds_min=0.001)
        await loop.start()
        await steps.wait_for(8)
        await asyncio.sleep(SHORT_SECONDS)
        await loop.close()

    logged = run(story)
    assert [(entry["event"], entry["reason"].partition(" ")[0]) for entry in logged] == [
        ("background_work_delayed", "OperationalError"),
        ("background_work_delayed", "Unavailable"),
        ("background_work_recovered", "Unavailable"),
        ("background_work_delayed", "OperationalError"),
        ("background_work_failed", "ValueError"),
        ("background_work_recovered", "ValueError"),
    ]
    assert {entry["loop"] for entry in logged} == {"sweep"}
    assert not any("Ada" in str(entry["reason"]) for entry in logged)
    assert [entry["log_level"] for entry in logged] == [
        "warning",
        "warning",
        "info",
        "warning",
        "error",
        "info",
    ]


def test_close_lets_the_step_under_way_finish() -> None:
    async def story() -> None:
        begun = asyncio.Event()
        closing: list[bool] = []

        async def step() -> float:
            closing.append(loop.closing)
            begun.set()
            await asyncio.sleep(0.1)
            closing.append(loop.closing)
            return 0

        loop = BackgroundLoop("test", step)
        await loop.start()
        await begun.wait()
        await loop.close()
        assert closing == [False, True]

    assert run(story) == []


def test_close_cancels_a_step_that_takes_too_long() -> None:
    async def story() -> None:
        begun, cancelled = asyncio.Event(), False

        async def step() -> float:
            nonlocal cancelled
            begun.set()
            try:
                await asyncio.sleep(LONG_SECONDS)
            except asyncio.CancelledError:
                cancelled = True
                raise
            return 0

        loop = BackgroundLoop("test", step, close_timeout_seconds=0.1)
        await loop.start()
        await begun.wait()
        started = time.monotonic()
        await loop.close()
        assert cancelled
        assert 0.1 <= time.monotonic() - started < 1

    run(story)


@pytest.mark.parametrize("failing", [False, True])
def test_close_ends_a_wait_and_a_backoff_at_once(failing: bool) -> None:
    async def story() -> None:
        steps = Steps(Unavailable("down") if failing else LONG_SECONDS)
        loop = BackgroundLoop("test", steps.step, backoff_seconds_min=LONG_SECONDS)
        await loop.start()
        await steps.wait_for(1)
        await asyncio.sleep(SHORT_SECONDS)
        started = time.monotonic()
        await loop.close()
        await loop.close()
        assert time.monotonic() - started < 1
        assert len(steps.begun_at) == 1

    run(story)


def test_a_step_that_raises_at_the_end_is_logged_and_does_not_make_close_raise() -> None:
    async def story() -> None:
        begun = asyncio.Event()

        async def step() -> float:
            begun.set()
            await asyncio.sleep(0.05)
            raise ValueError("Ada")

        loop = BackgroundLoop("test", step)
        await loop.start()
        await begun.wait()
        await loop.close()

    assert [entry["event"] for entry in run(story)] == ["background_work_failed"]


def test_a_loop_that_was_never_started_can_be_woken_and_closed() -> None:
    async def story() -> None:
        steps = Steps(0)
        loop = BackgroundLoop("test", steps.step)
        loop.wake()
        await loop.close()
        assert steps.begun_at == []

    run(story)


async def hang() -> None:
    await asyncio.Event().wait()


def test_a_step_that_hangs_is_abandoned_and_begun_again_and_logged_once() -> None:
    async def story() -> None:
        begun_at: list[float] = []
        ended = asyncio.Event()

        async def step() -> float:
            begun_at.append(time.monotonic())
            if len(begun_at) < 3:
                await hang()
            asyncio.get_running_loop().call_later(SHORT_SECONDS, ended.set)
            return LONG_SECONDS

        loop = BackgroundLoop("follower", step, backoff_seconds_min=SHORT_SECONDS, step_timeout_seconds=0.1)
        await loop.start()
        await asyncio.sleep(0.09)
        assert 0.05 < loop.seconds_since_last_step < 5
        async with asyncio.timeout(5):
            await ended.wait()
        # It counts from the first step that did not end, and while it waits after one that did, not at all.
        assert loop.seconds_since_last_step == 0
        assert begun_at[1] - begun_at[0] >= 0.1
        assert begun_at[2] - begun_at[0] < 5
        await loop.close()

    logged = run(story)
    assert [entry["event"] for entry in logged] == ["background_work_delayed", "background_work_recovered"]
    assert all(entry["reason"].startswith("StepAbandoned at ") for entry in logged)


def test_the_time_without_a_step_grows_over_steps_that_fail() -> None:
    async def story() -> None:
        steps = Steps(Unavailable("away"))
        loop = BackgroundLoop("follower", steps.step, backoff_seconds_min=SHORT_SECONDS)
        await loop.start()
        await steps.wait_for(3)
        assert loop.seconds_since_last_step >= 3 * SHORT_SECONDS
        await loop.close()
        assert loop.seconds_since_last_step == 0

    run(story)


def test_the_time_of_a_loop_is_known_in_other_processes() -> None:
    async def story() -> None:
        board = LoopBoard(2)
        loop = BackgroundLoop("elsewhere", hang, close_timeout_seconds=0)
        await loop.start()
        await asyncio.sleep(0.2)
        board.take_slot(1)
        await board.start()
        await loop.close()  # this process has the loop no more, so what is read is what was written
        board.take_slot(0)
        assert board.measure()["elsewhere"] >= 0.2
        board.take_slot(1)
        await board.close()
        board.take_slot(0)
        assert "elsewhere" not in board.measure()

    run(story)


def test_everything_is_closed_within_one_time_though_a_part_hangs_and_another_fails() -> None:
    async def story() -> None:
        closed: list[str] = []

        async def close_database() -> None:
            closed.append("database")

        async def fail() -> None:
            raise ValueError("Ada")

        closers = Closers()
        closers.add("database", close_database)
        closers.add("follower", hang)
        closers.add("sender", fail)
        started = time.monotonic()
        await closers.close(0.2)
        assert 0.2 <= time.monotonic() - started < 5
        assert closed == ["database"]

    assert [(entry["event"], entry["what"]) for entry in run(story)] == [
        ("close_failed", "sender"),
        ("close_abandoned", "follower"),
    ]


def test_services_are_closed_even_if_one_of_them_fails_to() -> None:
    """Nothing that they use, and was opened before them, is closed under them."""

    class Opened:
        def __init__(self, close_seconds: float, error: Exception | None = None) -> None:
            self.close_seconds, self.error = close_seconds, error

        async def start(self) -> None:
            pass

        async def close(self) -> None:
            await asyncio.sleep(self.close_seconds)
            if self.error is not None:
                raise self.error
            closed.append("slow service")

    closed: list[str] = []

    async def close_database() -> None:
        closed.append("database")

    async def story() -> None:
        closers = Closers()
        closers.add("database", close_database)
        await closers.start([Opened(SHORT_SECONDS), Opened(0, ValueError())])
        await closers.close(LONG_SECONDS)
        assert closed == ["slow service", "database"]

    assert [entry["event"] for entry in run(story)] == ["close_failed"]
