"""Events as lines of a terminal: for people, or each as the JSON of the API."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ledger.cli.shell import format_time, make_printable
from ledger.webhooks.deliveries import Attempt
from ledger.wire.thin_events import OBJECT_TYPE

_COLUMNS = {"time": 20, "type": 43, "event": 31, "object": 0}
"""By name, the width on a terminal; 0: to the end of the line."""


def print_header() -> None:
    """Print the names of the columns."""
    _print_cells(list(_COLUMNS))


def print_event(event: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one Event or thin event, plain as by `to_plain`, at once."""
    if as_json:
        print(json.dumps(event), flush=True)
        return
    if event["object"] == OBJECT_TYPE:
        created = datetime.fromisoformat(event["created"]).timestamp()
        subject, connected = event["related_object"] or {}, event["context"]
    else:
        created, subject, connected = event["created"], event["data"]["object"], event.get("account")
    object_id = subject.get("id") or "-"
    if connected is not None:
        object_id = f"{object_id} of {connected}"
    _print_cells([format_time(created), event["type"], event["id"], object_id])


def print_attempt(event_id: str, attempt: Attempt, *, as_json: bool) -> None:
    """Print the outcome of a POST of an Event, at once."""
    if as_json:
        outcome = {"status": attempt.status, "error": attempt.error, "duration_ms": attempt.duration_ms}
        print(json.dumps({"object": "forward", "event": event_id, **outcome}), flush=True)
        return
    outcome_text = f"forwarded: {attempt.error or f'status {attempt.status}'}"
    _print_cells([format_time(attempt.at), outcome_text, event_id, f"{attempt.duration_ms} ms"])


def print_notice(text: str) -> None:
    """Print to standard error what is no Event."""
    print(f"ledger: {make_printable(text)}", file=sys.stderr, flush=True)


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
