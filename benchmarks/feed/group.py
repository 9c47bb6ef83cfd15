"""Every figure of the feed by position: `python -m benchmarks --only feed`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.feed import cost, drain, latency
from benchmarks.http import EARLIER
from benchmarks.measurement import Effort
from benchmarks.report import Figure
from benchmarks.service import Build, run_service


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Streams of one service, then drains of a long log."""
    figures: list[Figure] = []
    with ExitStack() as stack:
        service = stack.enter_context(run_service(directory / "feed"))
        earlier = None
        if effort.against:
            build = Build(EARLIER, effort.against)
            earlier = stack.enter_context(run_service(directory / "feed_earlier", build=build))
        figures += _time("latency", partial(latency.measure, service, effort))
        figures += _time("cost", partial(cost.measure, service, effort, earlier=earlier))
    return figures + _time("drain", partial(drain.measure, directory, effort))


def _time(name: str, measure: Callable[[], list[Figure]]) -> list[Figure]:
    started = time.perf_counter()
    figures = measure()
    print(f"  {name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return figures
