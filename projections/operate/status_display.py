"""The status of projections on a terminal, in a pipe or as JSON: once, or watched until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ledger.cli.shell import format_time, make_printable, print_table
from projections.engine.status import GenerationStatus
from projections.operate.progress import render_line
from projections.operate.reports import RebuildReport, StatusReport
from projections.operate.shell import CommandContext, run
from projections.operate.stalls import UNKNOWN
from projections.operate.watch import suggest_next_step
from projections.read_models.catalog import PROJECTIONS_BY_NAME

COLUMNS = ("projection", "generation", "state", "checkpoint", "lag (events)", "lag (s)", "rows")
PARKED_SHOWN_MAX = 20
WATCH_SECONDS = 1.0

Row = tuple[Any, ...]


def print_generations(statuses: Sequence[GenerationStatus]) -> None:
    """Print a table of generations, and what needs an operator below it."""
    print_table(COLUMNS, [_to_row(each) for each in statuses])
    for line in [*_format_stalled(statuses), *_format_parked(statuses)]:
        print(line)


def print_rebuilds(reports: Sequence[RebuildReport]) -> None:
    """Print open rebuilds, each with what an operator does next about it."""
    for line in _format_rebuilds(reports):
        print(line)


def _format_rows(each: GenerationStatus) -> str:
    lag = each.lag
    if lag.projection not in PROJECTIONS_BY_NAME:
        return "not of this release"
    stalled = "stalled" if each.stalled else ""
    parked = f"{lag.parked} {'stream' if lag.parked == 1 else 'streams'} parked" if lag.parked else ""
    differing = f"{lag.differing} {'row differs' if lag.differing == 1 else 'rows differ'}"
    return ", ".join(filter(None, [stalled, parked, differing if lag.differing else ""])) or "complete"


def _format_stalled(statuses: Sequence[GenerationStatus]) -> list[str]:
    """Which generations no process moves, and why: one line for each cause."""
    labels: dict[str, list[str]] = {}
    for each in statuses:
        if each.stalled and each.lag.projection in PROJECTIONS_BY_NAME:
            cause = (each.cause or UNKNOWN).message
            labels.setdefault(cause, []).append(f"{each.lag.projection}_g{each.lag.generation}")
    return [f"stalled: {', '.join(names)}: {cause}" for cause, names in labels.items()]


def _format_parked(statuses: Sequence[GenerationStatus]) -> list[str]:
    """The parked streams, each with the command that heals it."""
    lines = [
        f"{each.lag.projection} {each.lag.generation}: stream {parking.stream} is parked from position "
        f"{parking.position} (topic {parking.topic}; {parking.error}); once fixed: ledger projections retry "
        f"{each.lag.projection} {parking.stream}"
        for each in statuses
        for parking in each.parked
    ]
    more = len(lines) - PARKED_SHOWN_MAX
    return lines[:PARKED_SHOWN_MAX] + ([f"and {more} more; see all with --json"] if more > 0 else [])


def _format_rebuilds(reports: Sequence[RebuildReport]) -> list[str]:
    lines = []
    for report in reports:
        lines.append(render_line(report.rebuild, report.size_bytes))
        if (next_step := suggest_next_step(report.rebuild)) is not None:
            lines.append(f"  {next_step}")
    return lines


def watch_status(name: str | None, *, as_json: bool) -> None:
    """Show the status of projections, of one or of all, every second until Ctrl-C.

    Raises UnknownObject for a name that is none; SettingError and Unavailable as `run` does.
    """

    async def watch(context: CommandContext) -> None:
        show = _show_screen if sys.stdout.isatty() and not as_json else _ChangePrinter(as_json=as_json).show
        while True:
            await context.clock.refresh(context.conn)
            show(await context.actions.load_status(name))
            await asyncio.sleep(WATCH_SECONDS)

    with suppress(KeyboardInterrupt):  # this is how one stops watching
        run(watch)


def _show_screen(report: StatusReport) -> None:
    from rich.console import Console

    Console().clear()
    print_generations(report.generations)
    print_rebuilds(report.rebuilds)
    print(f"{format_time(time.time())}; Ctrl-C stops watching")


class _ChangePrinter:
    """Prints what has changed since it was last shown: the rows of generations, each with the time; or the
    whole document."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._shown: dict[tuple[str, int], Row] | None = None

    def show(self, report: StatusReport) -> None:
        """Print what has changed, that lag alone has grown older by a second apart."""
        rows = {(each.lag.projection, each.lag.generation): _to_row(each) for each in report.generations}
        before, self._shown = self._shown, rows
        changed = [row for key, row in rows.items() if _drop_age(row) != _drop_age((before or {}).get(key))]
        gone = [key for key in before or () if key not in rows]
        if self._as_json:
            if before is None or changed or gone:
                print(json.dumps(report.to_json()), flush=True)
            return
        if before is None:
            print("time", *COLUMNS, sep="\t")
        now = format_time(time.time())
        for row in [*changed, *((*key, "dropped") for key in gone)]:
            print(now, *map(make_printable, row), sep="\t")
        sys.stdout.flush()


def _drop_age(row: Row | None) -> Row | None:
    """A row without the seconds of its lag."""
    column = COLUMNS.index("lag (s)")
    return None if row is None else row[:column] + row[column + 1 :]


def _to_row(each: GenerationStatus) -> Row:
    lag = each.lag
    place = (lag.projection, lag.generation, each.state, lag.position)
    return (*place, lag.events, f"{lag.seconds:.1f}", _format_rows(each))
