"""What an export consists of, in either format: a header, lines, a trailer (docs/audit/exports.md).

Together they have the hashes of the whole tree that the header's checkpoint is of: each line stands for its
own record, and its `skipped` for the records before it that the export leaves out, as the hashes of the
complete nodes that cover them. So the root can be computed again, whatever was left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ledger.errors import LedgerError
from ledger.tlog.merkle import Leaves, Node, cover
from ledger.tree.records import Record

FORMAT = "ledger-export/1"


class ExportError(LedgerError):
    """An export is damaged, incomplete or changed; `str()` is one line that says where and how."""


class ExportHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The beginning of an export.

    account, livemode  whose records these are; None in an archive, which has those of all accounts and modes
    filters            the filters of the request by name, but not the position after which it begins
    after, upto        the positions after `after`, and none after `upto`, were searched
    skipped            hashes of the nodes that cover the records up to `after`
    checkpoint         the signed note of the tree that the export is verified against
    """

    format: str = FORMAT
    account: str | None
    livemode: bool | None
    filters: dict[str, str]
    after: int
    upto: int
    skipped: list[bytes]
    checkpoint: str


class ExportLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One record: its columns as in `Record`, the hash of its leaf, and the hashes of the nodes that cover
    the records left out between the line before and this one.

    state         the stored bytes, if they are UTF-8
    state_base64  the stored bytes, if they are not
    """

    position: int
    stream: str
    version: int
    topic: str
    account: str
    livemode: bool
    actor: str | None
    request_id: str | None
    idempotency_key: str | None
    causation: str | None
    customer: str | None
    charge: str | None
    payment_intent: str | None
    recorded_at: int
    leaf_hash: bytes
    skipped: list[bytes]
    state: str | None = None
    state_base64: bytes | None = None


class ExportTrailer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The end of an export: how many lines there were since the header, and the hashes of the nodes that
    cover the records after the last one."""

    records: int
    skipped: list[bytes]


COLUMNS = tuple(name for name in Record.__struct_fields__ if name != "state")
"""The columns that a line has as they are."""


def make_line(record: Record, leaf_hash: bytes, skipped: Iterable[bytes]) -> ExportLine:
    """The line of a record. `leaf_hash`: that of the sealed tree, so that an export of a record that was
    changed in the database shows it."""
    columns: dict[str, Any] = {name: getattr(record, name) for name in COLUMNS}
    try:
        columns["state"] = record.state.decode()
    except UnicodeDecodeError:
        columns["state_base64"] = record.state
    return ExportLine(**columns, leaf_hash=leaf_hash, skipped=list(skipped))


def get_record(line: ExportLine) -> Record:
    """The record of a line. Raises ExportError for a line that has no stored bytes, or both forms of them."""
    if (line.state is None) == (line.state_base64 is None):
        raise ExportError("it needs one of state and state_base64")
    state = line.state.encode() if line.state is not None else line.state_base64
    assert state is not None
    columns: dict[str, Any] = {name: getattr(line, name) for name in COLUMNS}
    return Record(**columns | {"state": state})


def cover_gap(position: int, next_position: int) -> list[Node]:
    """The nodes that cover the records between two positions, without both; 0 is before the first."""
    return cover(Leaves(position, next_position - 1))
