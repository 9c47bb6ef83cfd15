"""Every figure of erasure: requests beside an earlier build (`--against`), and a large customer erased."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.erasure import large_customer, throughput
from benchmarks.measurement import Effort
from benchmarks.report import Figure

_PARTS = {"throughput": throughput.measure, "large customer": large_customer.measure}


def run(directory: Path, effort: Effort) -> list[Figure]:
    """One part after the other, each on services of its own."""
    figures: list[Figure] = []
    for name, measure in _PARTS.items():
        started = time.perf_counter()
        figures += measure(directory, effort)
        print(f"  {name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return figures
