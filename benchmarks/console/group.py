"""Every figure of the console, on one service: `--events` is a tenth of the rows of each list."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.console import first_view, pages, screen
from benchmarks.console.ground import Ground, run_ground
from benchmarks.measurement import Effort
from benchmarks.report import Figure

ROWS_PER_EVENT = 10
"""A million rows by default."""


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Fill the ground, then measure one part after the other."""
    figures: list[Figure] = []
    with run_ground(directory, effort.events * ROWS_PER_EVENT) as ground:
        for name, measure in _PARTS.items():
            started = time.perf_counter()
            figures += measure(ground, effort)
            print(f"  {name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return figures


_PARTS: dict[str, Callable[[Ground, Effort], list[Figure]]] = {
    "pages": pages.measure,
    "first view": first_view.measure,
    "screen": screen.measure,
}
