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


def start(folder: str) -> None:
    """Sample this process until it ends."""
    file = os.open(f"{folder}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def sample(_: int, frame: FrameType | None) -> None:
        modules: list[str] = []
        while frame is not None:
            name = frame.f_globals.get("__name__", "")
            if not modules or modules[-1] != name:
                modules.append(name)
            frame = frame.f_back
        os.write(file, f"{time.monotonic():.3f} {' '.join(modules)}\n".encode())

    signal.signal(signal.SIGPROF, sample)
    signal.siginterrupt(signal.SIGPROF, False)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)


if "BENCHMARK_SAMPLES" in os.environ:
    start(os.environ["BENCHMARK_SAMPLES"])
