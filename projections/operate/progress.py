"""How a rebuild goes, for whoever watches: a bar on a terminal, a line now and then when piped, or JSON."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from dataclasses import asdict
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from projections.rebuild.records import Rebuild

LINE_SECONDS = 5.0
# Over what the rate is taken: a resumed rebuild's says nothing of the hours it was paused for.
RATE_SECONDS = 30.0


def told(found: Rebuild, size: int | None = None, rate: float | None = None) -> dict[str, Any]:
    """A rebuild as JSON has it, with what is derived.

    bytes              room its new generations take; None while that cannot be told
    events_per_second  `rate`; else that of its workers since each began
    seconds_left       that filling will yet take at this rate; None when that cannot be told
    view               which is being indexed or compared: its `name`, its `number` of how many (`of`)
    """
    if rate is None:
        rate = found.rate
    left = None
    if found.total is not None and rate:
        left = max(0.0, (found.total - found.events) / rate) if found.state == "filling" else 0.0
    known = asdict(found) | {"builds": [build._asdict() for build in found.builds]}
    derived = {"events_per_second": round(rate, 1), "seconds_left": left and round(left, 1)}
    del known["rate"]
    return known | {"bytes": size} | derived | {"view": _view(found)}


def plain(found: Rebuild, size: int | None = None, rate: float | None = None) -> str:
    """The same in a line."""
    share = f"{found.events / found.total:.0%} of " if found.state == "filling" and found.total else ""
    line = ", ".join(
        [f"rebuild {found.id} of {found.names}: {found.state}", *_parts(found, share, size, rate)]
    )
    if found.paused:
        return f"{line} (paused{f': {found.error}' if found.error else ''})"
    return f"{line}: {found.error}" if found.error else line


class Progress:
    """Shows each state it is given; a context."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._said: tuple[str, bool] | None = None
        self._said_at = 0.0
        self._size: int | None = None
        self._seen: deque[tuple[float, int]] = deque()
        self._bar: Bar | None = None
        if not as_json and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description:<11}"),
                BarColumn(bar_width=14),
                TaskProgressColumn(),
                TextColumn("{task.fields[parts]}"),
            )
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task("", total=None, parts="")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, found: Rebuild, size: int | None) -> None:
        """`size` in bytes; None is taken for the last one known."""
        now = time.monotonic()
        self._size = self._size if size is None else size
        rate = self._rate(now, found.events)
        stage = found.state, found.paused
        if self._bar is not None:
            if self._said is None:
                self._bar.console.print(f"Rebuild {found.id} of {found.names}", highlight=False)
            self._said = stage
            parts = ", ".join(_parts(found, "", self._size, rate))
            self._bar.update(
                self._task,
                description=found.state,
                total=found.total or None,
                completed=found.events,
                parts=parts,
            )
        elif stage != self._said or now - self._said_at >= LINE_SECONDS:
            self._said, self._said_at = stage, now
            text = (
                json.dumps(told(found, self._size, rate)) if self._as_json else plain(found, self._size, rate)
            )
            print(text, flush=True)

    def _rate(self, now: float, events: int) -> float:
        """Events a second, lately."""
        self._seen.append((now, events))
        while self._seen[0][0] < now - RATE_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        return (events - before) / (now - since) if now > since else 0.0


def _parts(found: Rebuild, share: str, size: int | None, rate: float | None) -> list[str]:
    """What there is to tell of the stage it is in."""
    known = told(found, size, rate)
    parts = []
    if found.state == "filling" and found.total is None:
        parts = ["counting events"]
    elif found.state == "catching up" and found.behind is not None:
        parts = [f"{found.behind:,} events behind"]
    elif (view := known["view"]) is not None:
        parts = [f"view {view['number']} of {view['of']}: {view['name']}"]
    elif found.state == "filling":
        parts = [f"{share}{found.total:,} events", f"{known['events_per_second']:,.0f}/s"]
        if known["seconds_left"]:
            parts.append(f"{_span(known['seconds_left'])} left")
    return [*parts, decimal(size)] if size is not None else parts


def _view(found: Rebuild) -> dict[str, Any] | None:
    done = {"indexing": found.indexed, "comparing": found.compared}.get(found.state)
    if done is None or done == len(found.builds):
        return None
    return {"name": found.builds[done].projection, "number": done + 1, "of": len(found.builds)}


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
