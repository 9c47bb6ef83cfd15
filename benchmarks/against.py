"""Groups that measure inside their own process, side by side with another checkout of this repository.

Each round runs the group once by this checkout's `python -m benchmarks` and once by the other's, each in its
own environment; figures of the same work are compared within each round. The other checkout's figures may
have other goals and yardsticks, and the names of an earlier time. What it does not measure has a note instead
of a ratio.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.http import EARLIER
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, compare, figure
from benchmarks.service import THIS_BUILD, Build

GOALS = {("rebuild", "projections, events per CPU second"): Goal(2.0)}
"""By group and the end of the work."""

FORMER_NAMES = {
    "views": "projections",
    "by the second of computing": "events per CPU second",
    "the customers alone": "customers only",
    "computing for 1,000 events": "CPU for 1,000 events",
    "append of ready events, one an append": "append of decided events, one per append",
    "aggregates remembered": "aggregates cached",
    "catch-up of all projections from nothing": "catch-up of all projections from an empty generation",
    "appending these in bulk": "bulk append of these events",
}
"""What groups and works were called in builds of 2026-11-26 and before."""
NOT_MEASURED = f"the {EARLIER} does not measure this"

_COUNTED = re.compile(r"\d+ projections")

Key = tuple[str, str, str]
"""Group, work and unit of a figure."""


def measure_group(name: str, directory: Path, effort: Effort) -> list[Figure]:
    """Our figures of the group `name`, each divided by that of the checkout `effort.against`."""
    assert effort.against is not None
    builds = [THIS_BUILD, Build(EARLIER, effort.against)]
    runs: dict[str, list[Sequence[Mapping[str, Any]]]] = {build.name: [] for build in builds}
    for _ in range(effort.rounds):
        for build in builds:
            runs[build.name].append(_run_group(build, name, directory, effort))
    ours, earlier = (collect_values(runs[build.name]) for build in builds)
    counts = "; ".join(
        f"{build.name}: {count}" for build in builds if (count := find_count(runs[build.name]))
    )
    return compare_builds(name, ours, earlier, projections_note=counts)


def find_count(runs: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """How many projections a build has, as `11 projections`, from the names of its works."""
    works = (use_present_names(each["work"]) for figures in runs for each in figures)
    return next((match[0] for work in works if (match := _COUNTED.search(work))), "")


def collect_values(runs: Sequence[Sequence[Mapping[str, Any]]]) -> dict[Key, list[float]]:
    """The values of one build: one for each run. Of figures with the same work, which differ in the
    yardstick, only the first counts. How many projections there are is not part of the work."""
    values: dict[Key, list[float]] = {}
    for figures in runs:
        seen = set()
        for each in figures:
            group, work = use_present_names(each["group"]), use_present_names(each["work"])
            key = (group, _COUNTED.sub("projections", work), each["unit"])
            if key not in seen:
                seen.add(key)
                values.setdefault(key, []).append(each["value"])
    return values


def use_present_names(text: str) -> str:
    """The group or work with the names of FORMER_NAMES replaced."""
    for former, present in FORMER_NAMES.items():
        text = text.replace(former, present)
    return text


def compare_builds(
    name: str,
    ours: Mapping[Key, list[float]],
    earlier: Mapping[Key, list[float]],
    *,
    projections_note: str = "",
) -> list[Figure]:
    """One figure for each work, with the ratio where both builds measured it in all rounds. The note is for
    works of all projections."""
    return [
        _compare_work(
            name, key, values, earlier.get(key, []), projections_note if "projections" in key[1] else ""
        )
        for key, values in ours.items()
    ]


def _compare_work(name: str, key: Key, ours: Sequence[float], earlier: Sequence[float], note: str) -> Figure:
    group, work, unit = key
    title = f"{group}, against the {EARLIER}"
    if len(earlier) != len(ours):
        return figure(title, work, ours, unit, note=NOT_MEASURED)
    goal = next((goal for (of, end), goal in GOALS.items() if of == name and work.endswith(end)), None)
    return compare(title, work, ours, EARLIER, earlier, unit=unit, goal=goal, note=note)


def _run_group(build: Build, name: str, directory: Path, effort: Effort) -> Sequence[Mapping[str, Any]]:
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        file = Path(folder) / "figures.json"
        command = [
            build.python, "-m", "benchmarks", f"--only={name}", "--rounds=1", f"--events={effort.events}",
            f"--json={file}", f"--directory={directory}",
        ]  # fmt: skip
        # An earlier build without this group, or without a library that it needs, has no figures.
        subprocess.run(
            command,
            env=build.build_environment(),
            cwd=build.root,
            stdout=sys.stderr,
            check=build == THIS_BUILD,
        )
        if not file.exists():
            return []
        figures: Sequence[Mapping[str, Any]] = json.loads(file.read_text())["figures"]
        return figures
