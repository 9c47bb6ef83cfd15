"""Writes the tables of docs/benchmarks.md from measured figures: `python -m benchmarks.document RUN.json …`.

RUN.json is what `python -m benchmarks --json` wrote. The figures of each group in it replace those kept in
`figures/`, and each table of the document stands between two marks that name its group. Without a run the
tables are written again from what is kept. No figure is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import format_number

FIGURES = Path(__file__).resolve().parent / "figures"
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
END = "<!-- end of figures -->"
NOISY_LOAD = 2.0
NOISY_FLUSH_US = 300.0
COLUMNS = ("work", "figure", "range", "yardstick", "its figure", "ratio", "goal", "note")

_PLACE = re.compile(rf"<!-- figures: (?P<name>[\w-]+) -->\n.*?{END}", re.DOTALL)

Run = Mapping[str, Any]


def main() -> None:
    """Keep the figures of the given runs, then write the document."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.document", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN.json", help="what --json wrote")
    for file in parser.parse_args().runs:
        for name, run in split_run(json.loads(file.read_text())).items():
            kept = json.dumps(run, indent=1, ensure_ascii=False) + "\n"
            (FIGURES / f"{name}.json").write_text(kept)
    DOCUMENT.write_text(fill_document(DOCUMENT.read_text(), load_figures()))


def load_figures() -> dict[str, Run]:
    """The figures that are kept, by the name of their group."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(FIGURES.glob("*.json"))}


def split_run(run: Run) -> dict[str, Run]:
    """A run of several groups as one for each."""
    names = dict.fromkeys(each["benchmark"] for each in run["figures"])
    return {
        name: {**run, "figures": [each for each in run["figures"] if each["benchmark"] == name]}
        for name in names
    }


def fill_document(text: str, runs: Mapping[str, Run]) -> str:
    """The document with the tables of these runs. A place whose group has no figures becomes empty. Raises
    ValueError when a group has no place."""
    places = {match["name"] for match in _PLACE.finditer(text)}
    if missing := sorted(runs.keys() - places):
        raise ValueError(
            f"the document has no place for {', '.join(missing)}: <!-- figures: NAME --> and {END}"
        )

    def fill(match: re.Match[str]) -> str:
        lines = "".join(f"{line}\n" for line in _render_run(runs.get(match["name"])))
        return f"<!-- figures: {match['name']} -->\n{lines}{END}"

    return _PLACE.sub(fill, text)


def _render_run(run: Run | None) -> Iterator[str]:
    """When and where it was measured, then one table for each title."""
    if run is None:
        return
    machine = run["machine"]
    rounds = f"{run['rounds']} round{'s' * (run['rounds'] > 1)}"
    yield ""
    yield (
        f"{run['date']}, {rounds}, {machine['cpu']}, {machine['memory']}, {machine['system']}, "
        f"Python {machine['python']}, flush {machine['flush']}, load {machine['load']}."
        f"{_describe_noise(machine)}"
    )
    for group in dict.fromkeys(each["group"] for each in run["figures"]):
        yield ""
        yield f"**{group[0].upper()}{group[1:]}**"
        yield ""
        yield from _render_table([_render_cells(each) for each in run["figures"] if each["group"] == group])
    yield ""


def _describe_noise(machine: Mapping[str, str]) -> str:
    """A sentence for a run on a machine whose cores or disk other programs were using."""
    load, flush_us = float(machine["load"]), float(machine["flush"].partition(" ")[0])
    busy = ["cores"] * (load > NOISY_LOAD) + ["disk"] * (flush_us > NOISY_FLUSH_US)
    if not busy:
        return ""
    return f" **Other programs used the {' and the '.join(busy)}: the rates are too low.**"


def _render_table(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """A table of the columns in which any row has something."""
    columns = [column for column in COLUMNS if any(row[column] for row in rows)]
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "".join(f"| {row[column]} " if row[column] else "| " for column in columns) + "|"


def _render_cells(each: Mapping[str, Any]) -> dict[str, str]:
    unit = each["unit"] if each["unit"].startswith("/") else f" {each['unit']}".rstrip()
    spread = f"{format_number(each['lowest'])} to {format_number(each['highest'])}"
    has_yardstick = each["yardstick_value"] is not None
    return {
        "work": each["work"],
        "figure": f"{format_number(each['value'])}{unit}",
        "range": spread if each["lowest"] != each["highest"] else "",
        "yardstick": each["yardstick"],
        "its figure": f"{format_number(each['yardstick_value'])}{unit}" if has_yardstick else "",
        "ratio": f"{each['ratio']:.2f}" if each["ratio"] is not None else "",
        "goal": f"{each['goal']}, {'reached' if each['reached'] else 'missed'}" if each["goal"] else "",
        "note": each["note"],
    }


if __name__ == "__main__":
    main()
