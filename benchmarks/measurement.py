"""How a figure is taken so that its ratio means something on a noisy machine.

Contestants take turns, A B A B, and a ratio is the median of the ratios within each round: when the
machine slows down for a while, both sides of a round slow down with it. Every measurement is bounded in
time by a deadline and in count by the work it is given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import NamedTuple, TypeVar

Work = TypeVar("Work")
Rates = Sequence[float]
Contestant = Callable[[], float]
"""Runs once and says how many units a second it did."""


class Effort(NamedTuple):
    """How long to measure: `seconds` is the bound of one measurement, `rounds` how often each is taken."""

    seconds: float
    rounds: int
    events: int


def alternate(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """The rates of each contestant, one of every round, in the order of the rounds."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            rates[name].append(measure())
    return rates


def ratio(rates: Rates, yardstick_rates: Rates) -> float:
    """The median over rounds of ours / theirs in the same round."""
    return median(rate / yardstick_rate for rate, yardstick_rate in zip(rates, yardstick_rates, strict=True))


async def rate_of_callers(
    action: Callable[[Work], Awaitable[object]], work: Sequence[Work], *, callers: int, seconds: float
) -> float:
    """Units a second that `callers` tasks get done, each starting one when its last is answered."""
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
    """Units a second that `threads` threads get done, each starting one when its last is answered."""
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
