"""Samples what a Python process does per CPU time, for `benchmarks.layers`; Python imports this by itself at
the start when this folder is in PYTHONPATH.

Every few milliseconds of CPU the kernel sends SIGPROF. The handler appends one line to a file of the process
in the folder BENCHMARK_SAMPLES: the monotonic time, then the modules of the stack from the innermost outward.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

INTERVAL_SECONDS = 0.002


def start() -> None:
    """Sample this process until it ends, and the children that it forks."""
    signal.signal(signal.SIGPROF, _sample)
    signal.siginterrupt(signal.SIGPROF, False)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)


def _sample(_: int, frame: FrameType | None) -> None:
    modules: list[str] = []
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not modules or modules[-1] != name:
            modules.append(name)
        frame = frame.f_back
    # A descriptor that stays open would not survive a fork: the service closes those that it does not know.
    with open(f"{os.environ['BENCHMARK_SAMPLES']}/{os.getpid()}", "ab", buffering=0) as file:
        file.write(f"{time.monotonic():.3f} {' '.join(modules)}\n".encode())


if "BENCHMARK_SAMPLES" in os.environ:
    start()
    os.register_at_fork(after_in_child=start)  # a fork does not inherit the timer
