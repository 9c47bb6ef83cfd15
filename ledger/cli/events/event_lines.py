"""Events as lines of a terminal: for people, or each as the JSON of the API."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from ledger.cli.shell import format_time, make_printable

_COLUMNS = {"time": 20, "type": 40, "event": 28, "object": 0}
"""By name, the width on a terminal; 0: to the end of the line."""


def print_header() -> None:
    """Print the names of the columns."""
    _print_cells(list(_COLUMNS))


def print_event(event: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one Event, plain as by `to_plain`, at once."""
    if as_json:
        print(json.dumps(event), flush=True)
        return
    _print_cells(
        [format_time(event["created"]), event["type"], event["id"], event["data"]["object"].get("id") or "-"]
    )


def to_plain(event: Mapping[str, Any]) -> dict[str, Any]:
    """An Event as plain JSON values: a rendered one has text that is encoded already."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(event))
    return plain


def _print_cells(cells: list[str]) -> None:
    cells = [make_printable(cell) for cell in cells]
    if sys.stdout.isatty():
        print(
            "  ".join(
                f"{cell:{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True)
            ).rstrip()
        )
    else:
        print(*cells, sep="\t", flush=True)
