"""Groups that measure inside their own process, side by side with another checkout of this repository.

Each round runs the group once by this checkout's `python -m benchmarks` and once by the other's, each in its
own environment; figures of the same work are compared within each round. The other checkout only has to know
the group: its figures may have other goals and yardsticks.
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
from benchmarks.report import Figure, Goal, compare
from benchmarks.service import THIS_BUILD, Build

GOALS = {("rebuild", "projections, events per CPU second"): Goal(2.0)}
"""By group and the end of the work."""

_COUNTED = re.compile(r"\d+ projections")


def measure_group(name: str, directory: Path, effort: Effort) -> list[Figure]:
    """Our figures of the group `name`, each divided by that of the checkout `effort.against`."""
    assert effort.against is not None
    builds = [THIS_BUILD, Build(EARLIER, effort.against)]
    runs: dict[str, list[Sequence[Mapping[str, Any]]]] = {build.name: [] for build in builds}
    for _ in range(effort.rounds):
        for build in builds:
            runs[build.name].append(_run_group(build, name, directory, effort))
    ours, earlier = (collect_values(runs[build.name]) for build in builds)
    return compare_builds(name, ours, earlier)


def collect_values(runs: Sequence[Sequence[Mapping[str, Any]]]) -> dict[tuple[str, str, str], list[float]]:
    """The values of one build by group, work and unit: one for each run. Of figures with the same work, which
    differ in the yardstick, only the first counts. How many projections there are is not part of the work."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for figures in runs:
        seen = set()
        for each in figures:
            key = (each["group"], _COUNTED.sub("projections", each["work"]), each["unit"])
            if key not in seen:
                seen.add(key)
                values.setdefault(key, []).append(each["value"])
    return values


def compare_builds(
    name: str,
    ours: Mapping[tuple[str, str, str], list[float]],
    earlier: Mapping[tuple[str, str, str], list[float]],
) -> list[Figure]:
    """One figure for each work that both builds measured in all rounds."""
    return [
        compare(
            f"{group}, against the {EARLIER}",
            work,
            values,
            EARLIER,
            earlier[group, work, unit],
            unit=unit,
            goal=next((goal for (of, end), goal in GOALS.items() if of == name and work.endswith(end)), None),
        )
        for (group, work, unit), values in ours.items()
        if len(earlier.get((group, work, unit), ())) == len(values)
    ]


def _run_group(build: Build, name: str, directory: Path, effort: Effort) -> Sequence[Mapping[str, Any]]:
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        file = Path(folder) / "figures.json"
        command = [
            build.python, "-m", "benchmarks", f"--only={name}", "--rounds=1", f"--events={effort.events}",
            f"--json={file}", f"--directory={directory}",
        ]  # fmt: skip
        subprocess.run(command, env=build.build_environment(), cwd=build.root, stdout=sys.stderr, check=True)
        figures: Sequence[Mapping[str, Any]] = json.loads(file.read_text())["figures"]
        return figures
