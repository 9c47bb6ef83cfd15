"""How a figure is measured, so that its ratio means something on a noisy machine.

Contestants take turns, A B A B, and a ratio is the median of the ratios within each round: when the machine
slows down for a while, both sides of a round slow down with it. Each measurement ends at a deadline, or when
the work prepared for it is done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

Work = TypeVar("Work")
Rates = Sequence[float]
Contestant = Callable[[], float]
"""Runs once and returns the units per second."""


class Effort(NamedTuple):
    """How much to measure.

    seconds  bound of one measurement
    rounds   how often each contestant is measured
    events   size of the history that projections and rebuilds work on
    against  another checkout of this repository, measured in turns with this one
    mixed_seconds  how long the mixed load runs
    """

    seconds: float
    rounds: int
    events: int
    against: Path | None = None
    mixed_seconds: float = 60.0


def alternate(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """Measure the contestants in turns. Returns each one's rates, one per round, in the order of the
    rounds."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            rates[name].append(measure())
    return rates


def ratio(rates: Rates, yardstick_rates: Rates) -> float:
    """The median, over the rounds, of our rate divided by the yardstick's in the same round."""
    return median(rate / yardstick_rate for rate, yardstick_rate in zip(rates, yardstick_rates, strict=True))


async def rate_of_callers(
    action: Callable[[Work], Awaitable[object]], work: Sequence[Work], *, callers: int, seconds: float
) -> float:
    """Units per second that `callers` tasks complete. Each starts a unit when its last one is answered."""
    remaining = iter(work)
    done = 0
    loop = asyncio.get_running_loop()
    started = loop.time()
    deadline = started + seconds

    async def call() -> None:
        nonlocal done
        for unit in remaining:
            await action(unit)
            done += 1
            if loop.time() >= deadline:
                return

    await asyncio.gather(*(call() for _ in range(callers)))
    return done / (loop.time() - started)


def rate_of_threads(
    action: Callable[[Work], object], work: Sequence[Work], *, threads: int, seconds: float
) -> float:
    """Units per second that `threads` threads complete. Each starts a unit when its last one is answered."""
    remaining = iter(work)
    started = time.perf_counter()
    deadline = started + seconds

    def call(_: int) -> int:
        done = 0
        for unit in remaining:
            action(unit)
            done += 1
            if time.perf_counter() >= deadline:
                break
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(call, range(threads)))
        return done / (time.perf_counter() - started)


async def time_ms(action: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds that `action` takes."""
    started = time.perf_counter()
    await action()
    return (time.perf_counter() - started) * 1000
