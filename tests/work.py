"""The work that a function does, counted: the same on a busy machine, unlike the time it takes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, FunctionType

from ledger.keys.erasure_watch import SELECT_EPOCH


def count_calls(work: Callable[[], object]) -> int:
    """How many Python and C functions `work` calls. Garbage is not collected meanwhile: whoever listens to
    that, as Hypothesis does, would be counted too."""
    calls = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    was_enabled = gc.isenabled()
    gc.disable()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        if was_enabled:
            gc.enable()
    return calls


def _is_watch(frame: FrameType) -> bool:
    text = getattr(frame.f_locals.get("statement"), "text", frame.f_locals.get("text"))
    return text == SELECT_EPOCH.text


@contextmanager
def record_runs(*functions: Callable[..., object]) -> Iterator[list[FrameType]]:
    """The runs of these functions in this thread, while the context is open. A coroutine is one run however
    often it is resumed. Those of the watch over erasures do not count: it asks by itself, twice a second."""
    runs: list[FrameType] = []
    codes = {function.__code__ for function in functions if isinstance(function, FunctionType)}
    assert len(codes) == len(functions)

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in codes and frame not in runs and not _is_watch(frame):
            runs.append(frame)

    sys.setprofile(profile)
    try:
        yield runs
    finally:
        sys.setprofile(None)
