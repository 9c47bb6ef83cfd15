"""How a rebuild goes, for whoever watches: a bar on a terminal, a line now and then when piped, or JSON."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from projections.rebuilds import Rebuild

LINE_SECONDS = 5.0


def told(found: Rebuild) -> dict[str, Any]:
    """A rebuild as JSON has it: with the rate in events a second and the seconds it will yet take to fill,
    None when that cannot be told."""
    rate = found.events / found.seconds if found.seconds else 0.0
    left = None
    if found.total is not None and rate:
        left = max(0.0, (found.total - found.events) / rate) if found.state == "filling" else 0.0
    known = asdict(found) | {"builds": [build._asdict() for build in found.builds]}
    return known | {"events_per_second": round(rate, 1), "seconds_left": left and round(left, 1)}


def plain(found: Rebuild) -> str:
    """The same in a line."""
    known = told(found)
    share = f"{found.events / found.total:.0%}" if found.total else f"{found.events:,}"
    line = f"rebuild {found.id} of {found.names}: {found.state}"
    if found.state == "filling":
        line += f", {share} of {found.total or 0:,} events, {known['events_per_second']:,.0f}/s"
        if known["seconds_left"]:
            line += f", {_span(known['seconds_left'])} left"
    if found.paused:
        line += f" (paused{f': {found.error}' if found.error else ''})"
    return line


class Progress:
    """Shows each state it is given; a context."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._said: tuple[str, bool] | None = None
        self._said_at = 0.0
        self._bar: Bar | None = None
        if not as_json and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, found: Rebuild) -> None:
        if self._bar is not None:
            self._bar.update(
                self._task, description=plain(found), total=found.total or None, completed=found.events
            )
            return
        now = time.monotonic()
        stage = found.state, found.paused
        if stage != self._said or now - self._said_at >= LINE_SECONDS:
            self._said, self._said_at = stage, now
            print(json.dumps(told(found)) if self._as_json else plain(found), flush=True)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
