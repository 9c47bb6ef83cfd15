"""Prints figures beside their yardsticks, as a table for people, and writes them as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.measurement import Effort, Rates, ratio

FLUSHES = 200


@dataclass(frozen=True, slots=True)
class Goal:
    """The goal of a ratio, or of a figure that has no yardstick: at least `bound`, or at most."""

    bound: float
    is_maximum: bool = False

    def is_reached(self, value: float) -> bool:
        """Whether the ratio or figure `value` reaches the goal."""
        return value <= self.bound if self.is_maximum else value >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.is_maximum else '≥'} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: the work, our figure, and the yardstick's figure from the same rounds.
    `reached` says whether the goal was, where there is one."""

    group: str
    work: str
    value: float
    unit: str
    lowest: float
    highest: float
    yardstick: str = ""
    yardstick_value: float | None = None
    ratio: float | None = None
    goal: str = ""
    note: str = ""
    reached: bool | None = None


def figure(
    group: str, work: str, values: Rates, unit: str = "/s", *, goal: Goal | None = None, note: str = ""
) -> Figure:
    """A figure without a yardstick: the median of the measured values."""
    value = median(values)
    return Figure(
        group,
        work,
        value,
        unit,
        min(values),
        max(values),
        goal=str(goal or ""),
        note=note,
        reached=goal.is_reached(value) if goal else None,
    )


def compare(
    group: str,
    work: str,
    values: Rates,
    yardstick: str,
    yardstick_values: Rates,
    *,
    unit: str = "/s",
    goal: Goal | None = None,
    note: str = "",
) -> Figure:
    """A rate or a cost beside its yardstick's. Both are medians over the rounds; `ratio` says how the ratio
    is taken."""
    quotient = ratio(values, yardstick_values)
    return Figure(
        group,
        work,
        median(values),
        unit,
        min(values),
        max(values),
        yardstick,
        median(yardstick_values),
        quotient,
        str(goal or ""),
        note,
        goal.is_reached(quotient) if goal else None,
    )


def describe_machine(directory: Path) -> dict[str, str]:
    """Facts about the machine. `load` is the load average of the minute before the run and should be near
    zero. `flush` is how long 8 KiB written to `directory` take to be durable: the least that a commit
    takes."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "flush": f"{measure_flush_seconds(directory) * 1e6:.0f} µs",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def measure_flush_seconds(directory: Path) -> float:
    """How long 8 KiB written to `directory` take to be durable: the median of FLUSHES times."""
    file = directory / "flush"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        durations = []
        for _ in range(FLUSHES):
            os.pwrite(descriptor, bytes(8192), 0)
            started = time.perf_counter()
            os.fsync(descriptor)
            durations.append(time.perf_counter() - started)
    finally:
        os.close(descriptor)
        file.unlink()
    return median(durations)


def show(figures: Sequence[Figure]) -> None:
    """Print a table on a terminal, aligned plain text when piped."""
    header = ("work", "figure", "range", "yardstick", "yardstick's figure", "ratio", "goal", "note")
    rows = [(item.group, _format_cells(item)) for item in figures]
    if not sys.stdout.isatty():
        _show_plain(header, rows)
        return
    console = Console()
    for group in dict(rows):
        table = Table(*header, title=group, title_justify="left", title_style="bold")
        for column in (1, 2, 4, 5, 6):
            table.columns[column].justify = "right"
        for row in (cells for name, cells in rows if name == group):
            table.add_row(*row)
        console.print(table)


def write_json(
    path: Path, facts: Mapping[str, str], effort: Effort, figures: Mapping[str, Sequence[Figure]]
) -> None:
    """Write the figures as `{"machine": {…}, "date": …, "rounds": …, "events": …, "figures": [{…}, …]}`.
    Each figure has the name of its benchmark."""
    document = {
        "machine": facts,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "rounds": effort.rounds,
        "events": effort.events,
        "figures": [{"benchmark": name, **asdict(item)} for name, group in figures.items() for item in group],
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _show_plain(header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    widths = [
        max(len(cells[column]) for cells in (header, *(row for _, row in rows)))
        for column in range(len(header))
    ]
    current_group = ""
    for group, cells in rows:
        if group != current_group:
            current_group = group
            print(f"\n{group}")
            print(
                "  "
                + "  ".join(name.ljust(width) for name, width in zip(header, widths, strict=True)).rstrip()
            )
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def _format_cells(item: Figure) -> tuple[str, ...]:
    return (
        item.work,
        f"{format_number(item.value)} {item.unit}",
        ""
        if item.lowest == item.highest
        else f"{format_number(item.lowest)} - {format_number(item.highest)}",
        item.yardstick,
        "" if item.yardstick_value is None else f"{format_number(item.yardstick_value)} {item.unit}",
        "" if item.ratio is None else f"{item.ratio:.2f}",
        item.goal,
        item.note,
    )


def format_number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
