"""For how long each background loop of a service has finished no step, whichever of its processes runs it.

The processes of one `ledger serve` share a piece of memory, in which each writes its own figures every
second: so the API shows the loops of the worker, also while that one is stopped or its event loop is blocked.
"""

from __future__ import annotations

import asyncio
import mmap
import time
from collections.abc import Mapping

import msgspec

from ledger.background import measure_loops

WRITE_SECONDS = 1.0
SLOT_BYTES = 8192
READ_ATTEMPTS_MAX = 3


class _Figures(msgspec.Struct):
    """What a process wrote: seconds by loop, and when (seconds of the system's monotonic clock)."""

    at: float
    seconds: dict[str, float]


class LoopBoard:
    """The figures of up to `processes_max` processes, each of which is forked after this was made."""

    def __init__(self, processes_max: int = 1) -> None:
        self._memory = mmap.mmap(-1, processes_max * SLOT_BYTES)
        self._processes_max = processes_max
        self._slot = 0
        self._timer: asyncio.TimerHandle | None = None

    def take_slot(self, number: int) -> None:
        """Let this process, forked just now, write in the slot of this number, from 0."""
        self._slot = number

    async def start(self) -> None:
        """Begin to write what other processes read."""
        self._write()

    async def close(self) -> None:
        """Write no more: the loops of this process end."""
        if self._timer is not None:
            self._timer.cancel()
        self._put(b"")

    def measure(self) -> dict[str, float]:
        """Seconds by name of each loop: of this process as they are, of others as they wrote them last. Of
        loops with one name the worst."""
        worst = measure_loops()
        for number in range(self._processes_max):
            if number != self._slot and (figures := self._read(number)) is not None:
                silent_seconds = max(0.0, time.monotonic() - figures.at - WRITE_SECONDS)
                for name, seconds in figures.seconds.items():
                    worst[name] = max(worst.get(name, 0.0), seconds + silent_seconds)
        return dict(sorted(worst.items()))

    def _write(self) -> None:
        seconds = measure_loops()
        while len(text := _encode(seconds)) > SLOT_BYTES:
            del seconds[min(seconds, key=seconds.__getitem__)]
        self._put(text)
        self._timer = asyncio.get_running_loop().call_later(WRITE_SECONDS, self._write)

    def _put(self, text: bytes) -> None:
        start = self._slot * SLOT_BYTES
        self._memory[start : start + SLOT_BYTES] = text.ljust(SLOT_BYTES)

    def _read(self, number: int) -> _Figures | None:
        """What a process wrote; None if it has written nothing, or is just writing."""
        start = number * SLOT_BYTES
        for _ in range(READ_ATTEMPTS_MAX):
            text = self._memory[start : start + SLOT_BYTES].strip(b"\0 ")
            if not text:
                return None
            try:
                return msgspec.json.decode(text, type=_Figures)
            except msgspec.DecodeError:
                continue
        return None


def _encode(seconds: Mapping[str, float]) -> bytes:
    rounded = {name: round(value, 1) for name, value in seconds.items()}
    return msgspec.json.encode(_Figures(time.monotonic(), rounded))
