"""Checks an export by itself: without the database, without network, in memory that does not grow.

A line is refused where it stands if it does not fit its own leaf hash or its neighbours. Whoever changes
hashes too changes the root, which only the end of the file tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ledger.audit.exports.content import (
    FORMAT,
    ExportError,
    ExportHeader,
    ExportLine,
    ExportTrailer,
    cover_gap,
    get_record,
)
from ledger.audit.exports.ndjson import Part
from ledger.tlog.checkpoints import Checkpoint
from ledger.tlog.merkle import HASH_BYTES, Frontier, ProofError
from ledger.tree.records import derive_leaf_hash

OpenNote = Callable[[str], Checkpoint]
"""What a signed note says; raises ProofError for one that is not to be trusted."""


class VerifiedExport(NamedTuple):
    """What an export is proved to be.

    header      its last one, whose account, mode and filters are a statement and not proved
    after       the position after which its first part begins
    records     how many records it has
    """

    header: ExportHeader
    checkpoint: Checkpoint
    after: int
    records: int

    @property
    def is_complete(self) -> bool:
        """Whether it has every record of the log from `after` to `upto`."""
        return self.records == self.header.upto - self.after


def verify_export(parts: Iterable[tuple[str, Part]], open_note: OpenNote) -> VerifiedExport:
    """Check the parts of an export, each of which comes with its place in the file. Raises ExportError, which
    names the first place that is wrong."""
    verifier = _Verifier(open_note)
    place = "the beginning"
    for place, part in parts:
        try:
            verifier.add(part)
        except (ExportError, ProofError) as error:
            raise ExportError(f"{place}: {error}") from None
    return verifier.finish(place)


class _Verifier:
    """Follows the tree through the parts of one file."""

    def __init__(self, open_note: OpenNote) -> None:
        self._open_note = open_note
        self._frontier = Frontier()
        self._header: ExportHeader | None = None
        self._checkpoint: Checkpoint | None = None
        self._after = 0
        self._records = 0
        self._records_before_header = 0
        self._is_ended = False

    def add(self, part: Part) -> None:
        """Check the next part. Raises ExportError, ProofError."""
        if self._is_ended:
            raise ExportError("something follows the trailer")
        if isinstance(part, ExportHeader):
            self._add_header(part)
        elif self._header is None or self._checkpoint is None:
            raise ExportError("the file does not begin with a header")
        elif isinstance(part, ExportLine):
            self._add_line(self._header, part)
        else:
            self._add_trailer(self._checkpoint, part)

    def finish(self, place: str) -> VerifiedExport:
        """The result, after the last part. Raises ExportError for a file without a trailer."""
        if self._header is None or self._checkpoint is None or not self._is_ended:
            raise ExportError(f"{place}: the file ends without a trailer: it is truncated")
        return VerifiedExport(self._header, self._checkpoint, self._after, self._records)

    def _add_header(self, header: ExportHeader) -> None:
        if header.format != FORMAT:
            raise ExportError(f"the format is {header.format!r}, not {FORMAT!r}")
        checkpoint = self._open_note(header.checkpoint)
        if (header.account is None) != (header.livemode is None):
            raise ExportError("it needs both of account and livemode, or neither")
        if not 0 <= header.after <= header.upto <= checkpoint.size:
            raise ExportError("after and upto are no positions of the checkpoint's tree, in this order")
        before = Frontier()
        _append_gap(before, header.after + 1, header.skipped)
        if self._header is None:
            self._after = header.after
        else:
            self._check_continuation(self._header, header, checkpoint, before)
        self._frontier = before
        self._header, self._checkpoint = header, checkpoint
        self._records_before_header = self._records

    def _check_continuation(
        self, old: ExportHeader, new: ExportHeader, checkpoint: Checkpoint, before: Frontier
    ) -> None:
        """Check that a part begins where the one before it ended."""
        assert self._checkpoint is not None
        for name in ("account", "livemode", "filters"):
            if getattr(old, name) != getattr(new, name):
                raise ExportError(f"its {name} is not that of the part before it")
        if (checkpoint.origin, max(checkpoint.size, self._checkpoint.size)) != (
            self._checkpoint.origin,
            checkpoint.size,
        ):
            raise ExportError("its checkpoint is of another log, or older than that of the part before it")
        if before.size != self._frontier.size:
            raise ExportError(f"it begins after position {before.size}, not after {self._frontier.size}")
        if before.hashes != self._frontier.hashes:
            raise ExportError("the records before it are not those that it continues")

    def _add_line(self, header: ExportHeader, line: ExportLine) -> None:
        where = f"position {line.position}"
        if not self._frontier.size < line.position <= header.upto:
            raise ExportError(
                f"{where} does not follow position {self._frontier.size} within the export, which ends at "
                f"{header.upto}"
            )
        owner = (header.account, header.livemode)
        if header.account is not None and (line.account, line.livemode) != owner:
            raise ExportError(f"{where} is not of the header's account and mode")
        _append_gap(self._frontier, line.position, line.skipped)
        leaf_hash = derive_leaf_hash(get_record(line))
        if leaf_hash != line.leaf_hash:
            raise ExportError(f"{where} was changed: it does not have its leaf hash")
        self._frontier.append(leaf_hash)
        self._records += 1

    def _add_trailer(self, checkpoint: Checkpoint, trailer: ExportTrailer) -> None:
        found = self._records - self._records_before_header
        if trailer.records != found:
            raise ExportError(f"the trailer counts {trailer.records} records, and there are {found}")
        _append_gap(self._frontier, checkpoint.size + 1, trailer.skipped)
        if self._frontier.root != checkpoint.root:
            raise ExportError(
                "the records do not have the root of the checkpoint: one of them, or a hash of those left "
                "out, was changed together with its hash"
            )
        self._is_ended = True


def _append_gap(frontier: Frontier, next_position: int, skipped: Sequence[bytes]) -> None:
    """Append the hashes of the records before `next_position`. Raises ExportError."""
    nodes = cover_gap(frontier.size, next_position)
    if len(nodes) != len(skipped):
        raise ExportError(
            f"there are {len(skipped)} hashes instead of {len(nodes)} for the records left out after "
            f"position {frontier.size}"
        )
    for node, node_hash in zip(nodes, skipped, strict=True):
        if len(node_hash) != HASH_BYTES:
            raise ExportError(f"a hash has {len(node_hash)} bytes instead of {HASH_BYTES}")
        frontier.append(node_hash, node.level)
