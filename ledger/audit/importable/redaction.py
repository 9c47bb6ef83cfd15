"""Takes the personal data of erased objects out of the lines of an export, as an export without it has them.

What stays of a line is listed here by name, so that a member which is added later does not stay by oversight.
Which lines are of an erased object follows from the ids in the file: it has whole objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from ledger.audit.importable.lines import Line
from ledger.domain.evidence import list_files

_KEPT: dict[str, frozenset[str]] = {
    "customer": frozenset(
        {"op", "id", "created", "balance", "invoice_prefix", "next_invoice_sequence", "tax_exempt"}
    ),
    "charge": frozenset({
        "op", "id", "amount", "currency", "amount_captured", "captured", "created", "customer",
        "failure_code", "payment_intent", "status", "transfer_group",
    }),
    "refund": frozenset({"op", "id", "charge", "amount", "created", "reason"}),
    "dispute": frozenset({
        "op", "id", "charge", "kind", "reason", "network_reason_code", "amount", "created", "due_by",
        "reference",
    }),
    "response": frozenset({"op", "dispute", "submission", "past_due", "closed"}),
    "fact": frozenset({
        "op", "dispute", "fact", "reference", "amount", "created", "due_by",
    }),
    "deletion": frozenset({"op", "customer"}),
}  # fmt: skip
# A response that says nothing else any more is left out.
_EMPTY = {"op", "dispute"}
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class NotAnExport(Exception):
    """A file that `ledger export` has not written, or not to its end; `str()` says where it differs."""


def find_erased(source: BinaryIO, roots: set[str]) -> set[str]:
    """The ids of these objects and of all that belongs to them in the file. Raises NotAnExport."""
    erased, size = set(roots), 0
    while len(erased) > size:
        size = len(erased)
        source.seek(0)
        for line in _read_lines(source):
            if _is_erased(line, erased):
                erased.update(_list_own_ids(line))
    return erased


def rewrite(source: BinaryIO, target: BinaryIO, erased: set[str]) -> int:
    """Write the file without the personal data of these objects; returns how many lines have changed. Raises
    NotAnExport."""
    changed = 0
    source.seek(0)
    for line in _read_lines(source):
        kept: Line | None = line
        if _is_erased(line, erased):
            kept = redact_line(line)
            changed += kept != line
        if kept is not None:
            target.write(_encode(kept) + b"\n")
    return changed


def redact_line(line: Line) -> Line | None:
    """What stays of a line; None: nothing."""
    kept = _KEPT.get(line["op"])
    if kept is None:
        return None
    members = {name: value for name, value in line.items() if name in kept}
    return None if line["op"] == "response" and members.keys() <= _EMPTY else members


def _read_lines(source: BinaryIO) -> Iterator[Line]:
    for number, content in enumerate(source, 1):
        try:
            line = _decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            line = {}
        if not isinstance(line.get("op"), str) or not content.endswith(b"\n"):
            raise NotAnExport(f"line {number} is not one of an export")
        yield line


def _is_erased(line: Line, erased: set[str]) -> bool:
    return not erased.isdisjoint(_list_ids(line))


def _list_ids(line: Line) -> Iterator[str]:
    """The ids that make a line one of an erased object: its own, and those of what it belongs to."""
    for holder in (line, line.get("object")):
        if isinstance(holder, dict):
            for name in ("id", "customer", "charge", "payment_intent", "dispute"):
                value = holder.get(name)
                value = value.get("id") if isinstance(value, dict) else value
                if isinstance(value, str):
                    yield value


def _list_own_ids(line: Line) -> Iterator[str]:
    """The ids of an erased line to which others may belong: the object's own, and the files of evidence."""
    if isinstance(line.get("id"), str):
        yield line["id"]
    evidence = line.get("evidence")
    if isinstance(evidence, dict):
        yield from (file_id for _, file_id in list_files(evidence))
