"""The progress of a rebuild as an operator sees it: a bar on a terminal, lines when piped, or JSON."""

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
from projections.rebuild.states import RebuildState

LINE_SECONDS = 5.0
# The rate is that of the last seconds, so that a pause does not count.
RATE_SECONDS = 30.0


def render_json(rebuild: Rebuild, size: int | None = None, rate: float | None = None) -> dict[str, Any]:
    """A rebuild as a JSON object, for the command line and HTTP, with these values derived:

    bytes              `size`: bytes of its new generations; None while unknown
    events_per_second  `rate`; by default that of its backfill processes since each of them started
    seconds_left       until the backfill is done, at this rate; None while unknown
    view               the projection being indexed or compared: its `name`, its `number`, `of` how many
    """
    if rate is None:
        rate = rebuild.rate
    seconds_left = None
    if rebuild.total is not None and rate:
        seconds_left = (
            max(0.0, (rebuild.total - rebuild.events) / rate)
            if rebuild.state is RebuildState.BACKFILLING
            else 0.0
        )
    document = asdict(rebuild) | {"builds": [build._asdict() for build in rebuild.builds]}
    derived = {"events_per_second": round(rate, 1), "seconds_left": seconds_left and round(seconds_left, 1)}
    del document["rate"]
    return document | {"bytes": size} | derived | {"view": _current_projection(rebuild)}


def render_line(rebuild: Rebuild, size: int | None = None, rate: float | None = None) -> str:
    """A rebuild in one line of text."""
    backfilling = rebuild.state is RebuildState.BACKFILLING
    percentage = f"{rebuild.events / rebuild.total:.0%} of " if backfilling and rebuild.total else ""
    line = ", ".join(
        [
            f"rebuild {rebuild.id} of {rebuild.label}: {rebuild.state}",
            *_render_parts(rebuild, percentage, size, rate),
        ]
    )
    if rebuild.paused:
        return f"{line} (paused{f': {rebuild.error}' if rebuild.error else ''})"
    return f"{line}: {rebuild.error}" if rebuild.error else line


class ProgressDisplay:
    """A display that shows each state of a rebuild it is given. A context manager."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._last_stage: tuple[str, bool] | None = None
        self._last_line_at = 0.0
        self._size: int | None = None
        self._samples: deque[tuple[float, int]] = deque()
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

    def __enter__(self) -> ProgressDisplay:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, rebuild: Rebuild, size: int | None) -> None:
        """Show a rebuild. `size` in bytes; None stands for the last one known."""
        now = time.monotonic()
        self._size = self._size if size is None else size
        rate = self._rate(now, rebuild.events)
        stage = rebuild.state, rebuild.paused
        if self._bar is not None:
            if self._last_stage is None:
                self._bar.console.print(f"Rebuild {rebuild.id} of {rebuild.label}", highlight=False)
            self._last_stage = stage
            parts = ", ".join(_render_parts(rebuild, "", self._size, rate))
            self._bar.update(
                self._task,
                description=rebuild.state,
                total=rebuild.total or None,
                completed=rebuild.events,
                parts=parts,
            )
        elif stage != self._last_stage or now - self._last_line_at >= LINE_SECONDS:
            self._last_stage, self._last_line_at = stage, now
            text = (
                json.dumps(render_json(rebuild, self._size, rate))
                if self._as_json
                else render_line(rebuild, self._size, rate)
            )
            print(text, flush=True)

    def _rate(self, now: float, events: int) -> float:
        """Events a second in the last RATE_SECONDS."""
        self._samples.append((now, events))
        while self._samples[0][0] < now - RATE_SECONDS:
            self._samples.popleft()
        since, before = self._samples[0]
        return (events - before) / (now - since) if now > since else 0.0


def _render_parts(rebuild: Rebuild, percentage: str, size: int | None, rate: float | None) -> list[str]:
    """The figures that belong to the state it is in."""
    document = render_json(rebuild, size, rate)
    parts = []
    backfilling = rebuild.state is RebuildState.BACKFILLING
    if backfilling and rebuild.total is None:
        parts = ["counting events"]
    elif rebuild.state is RebuildState.CATCHING_UP and rebuild.behind is not None:
        parts = [f"{rebuild.behind:,} events behind"]
    elif (current := document["view"]) is not None:
        parts = [f"projection {current['number']} of {current['of']}: {current['name']}"]
    elif backfilling:
        parts = [f"{percentage}{rebuild.total:,} events", f"{document['events_per_second']:,.0f}/s"]
        if document["seconds_left"]:
            parts.append(f"{_format_duration(document['seconds_left'])} left")
    return [*parts, decimal(size)] if size is not None else parts


def _current_projection(rebuild: Rebuild) -> dict[str, Any] | None:
    done_counts = {RebuildState.INDEXING: rebuild.indexed_count, RebuildState.COMPARING: rebuild.compared}
    done_count = done_counts.get(rebuild.state)
    if done_count is None or done_count == len(rebuild.builds):
        return None
    return {
        "name": rebuild.builds[done_count].projection,
        "number": done_count + 1,
        "of": len(rebuild.builds),
    }


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
