"""The comparison of the log with its stored tree: leaf by leaf, tile by tile, root by root.

It walks once, from left to right, and keeps the right edge of two trees: the one that follows from the
records, and the one that follows from the stored hashes of leaves. They are one and the same until the first
difference. So it takes the same memory for every length of the log. It may begin and end in the middle of the
tree: then stored hashes stand for what is before and after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from ledger.tlog.merkle import HASH_BYTES, Frontier, Node
from ledger.tlog.tiles import TILE_HEIGHT, TILE_WIDTH, hash_node

FINDINGS_MAX = 20
"""Differences of one kind that are kept; the others are counted."""
TILE_BYTES = TILE_WIDTH * HASH_BYTES
_UNKNOWN = bytes(HASH_BYTES)


class Finding(NamedTuple):
    """One difference.

    code     a word for programs
    message  one line for people
    after    the first position that differs is after this one …
    upto     … and not after this one; both None when the finding says nothing about positions
    """

    code: str
    message: str
    after: int | None = None
    upto: int | None = None


class Report:
    """The differences that are found, at most FINDINGS_MAX of each code."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self._counts: Counter[str] = Counter()

    def add(self, code: str, message: str, after: int | None = None, upto: int | None = None) -> None:
        """Add a finding."""
        self._counts[code] += 1
        if self._counts[code] <= FINDINGS_MAX:
            self._findings.append(Finding(code, message, after, upto))

    @property
    def findings(self) -> list[Finding]:
        """In order of position; those without one come last, with the number of those that were not kept."""
        ordered = sorted(self._findings, key=lambda each: (each.upto is None, each.upto or 0))
        for code, count in self._counts.items():
            if count > FINDINGS_MAX:
                ordered.append(Finding(code, f"{count - FINDINGS_MAX} more differences of the kind '{code}'"))
        return ordered


class SignedRoot(NamedTuple):
    """What a signed checkpoint says. `is_given`: it was kept elsewhere, out of reach of whoever changes the
    database and has its key."""

    size: int
    root: bytes
    is_given: bool = False


class Run(NamedTuple):
    """Positions in a row whose events differ from the stored hashes, or are missing."""

    is_missing: bool
    first: int
    last: int


class _Row(NamedTuple):
    """The hashes of one tile that follow from below: by the stored tiles, and by the records."""

    stored: list[bytes]
    recorded: list[bytes]


ReadTile = Callable[[int, int], Awaitable[bytes]]
"""The bytes of a stored tile, by level and number; b"" when there is none."""


class Start(NamedTuple):
    """Where a comparison begins: after a number of leaves that is a multiple of TILE_WIDTH.

    frontier  the edge of the stored tree of these leaves
    rows      hashes in the last tile of each upper level, from level 1 on
    """

    frontier: Frontier
    rows: Sequence[Sequence[bytes]] = ()


class TreeComparison:
    """Compares a log with its stored tree, which is given tile by tile, and reports what differs."""

    def __init__(self, read_tile: ReadTile, report: Report, start: Start | None = None) -> None:
        """`start`: None at the first leaf."""
        self._read_tile = read_tile
        self._report = report
        # By `is_given`: the size of the last checkpoint whose root the records or the tiles have.
        self._agreed_sizes = {False: 0, True: 0}
        self._disagreed: set[bool] = set()
        self._records = self._tiles = start.frontier if start else Frontier()
        self._runs: list[Run] = []
        self._rows = [_Row(list(row), list(row)) for row in (start.rows if start else ())]

    @property
    def size(self) -> int:
        """How many leaves were compared."""
        return self._records.size

    @property
    def root(self) -> bytes:
        """The root of the records that were compared."""
        return self._records.root

    async def add_tile(
        self, leaves: Sequence[bytes | None], stored: bytes, roots: Sequence[SignedRoot]
    ) -> None:
        """Compare the next tile of leaves; all but the last one are full.

        leaves  the leaf hashes of the records, None for one that is missing
        stored  the stored tile
        roots   of the checkpoints that end in this tile
        """
        number, held = self.size // TILE_WIDTH, len(stored) // HASH_BYTES
        if held < len(leaves):
            self._report_short_tile(0, number, held, len(leaves), span=1)
        row = _Row([], [])
        for place, leaf in enumerate(leaves):
            tile_hash = stored[place * HASH_BYTES : (place + 1) * HASH_BYTES] if place < held else None
            position = self.size + place + 1
            if leaf is None:
                self._extend_runs(position, is_missing=True)
            elif tile_hash not in (leaf, None):
                self._extend_runs(position, is_missing=False)
            row.stored.append(tile_hash or leaf or _UNKNOWN)
            row.recorded.append(leaf or tile_hash or _UNKNOWN)
        self._append(row, roots)
        if len(leaves) == TILE_WIDTH:
            await self._climb(0, row)

    async def finish(self, newest: SignedRoot | None, rest: Sequence[tuple[Node, bytes]] = ()) -> None:
        """Compare what is left, and say of each difference which side is wrong.

        newest  that of the newest signed checkpoint; None when there is none that can be trusted
        rest    the complete nodes from here up to the end of the tree, as they are stored
        """
        for level, row in enumerate(self._rows, start=1):
            if row.stored:
                await self._compare_row(level, (self.size >> TILE_HEIGHT * level) // TILE_WIDTH, row)
        frontiers = [self._records] if self._records is self._tiles else [self._records, self._tiles]
        for node, node_hash in rest:
            for frontier in frontiers:
                frontier.append(node_hash, node.level)
        if newest and newest.size == self.size:
            self.check_root(newest)
        for run in self._runs:
            self._report_run(run, newest.root if newest else None)

    def check_root(self, signed: SignedRoot) -> None:
        """Compare a signed root of the size that was reached. Of those that differ only the first one is
        reported: all after it do. Kept checkpoints prove nothing about a given one: both may be forged."""
        if signed.root in (self._records.root, self._tiles.root):
            self._agreed_sizes[signed.is_given] = signed.size
        elif signed.is_given not in self._disagreed:
            self._disagreed.add(signed.is_given)
            after = self._agreed_sizes[signed.is_given]
            what = "given" if signed.is_given else "signed"
            message = f"events after position {after}, up to {signed.size}, were rewritten with the tree: "
            message += f"it is not that of the {what} checkpoint of {signed.size} events"
            self._report.add("rewritten", message, after, signed.size)

    def _append(self, row: _Row, roots: Sequence[SignedRoot]) -> None:
        """Append a tile of leaves to the trees; at once, where no checkpoint ends in the middle of it."""
        if row.stored != row.recorded and self._records is self._tiles:
            self._tiles = Frontier(self._records.size, self._records.hashes)
        sides = [(self._records, row.recorded)]
        if self._records is not self._tiles:
            sides.append((self._tiles, row.stored))
        width = len(row.recorded)
        if width == TILE_WIDTH and all(each.size == self.size + width for each in roots):
            for frontier, hashes in sides:
                frontier.append(hash_node(b"".join(hashes)), TILE_HEIGHT)
            self._check_roots(roots)
            return
        for place in range(width):
            for frontier, hashes in sides:
                frontier.append(hashes[place])
            self._check_roots(roots)

    def _check_roots(self, roots: Sequence[SignedRoot]) -> None:
        for signed in roots:
            if signed.size == self.size:
                self.check_root(signed)

    async def _climb(self, level: int, row: _Row) -> None:
        """Add the hashes of a full tile to the row above, and compare that one when it is full too."""
        stored = hash_node(b"".join(row.stored))
        recorded = stored if row.stored == row.recorded else hash_node(b"".join(row.recorded))
        if level == len(self._rows):
            self._rows.append(_Row([], []))
        above = self._rows[level]
        above.stored.append(stored)
        above.recorded.append(recorded)
        if len(above.stored) < TILE_WIDTH:
            return
        self._rows[level] = _Row([], [])
        number = (self.size >> TILE_HEIGHT * (level + 1)) // TILE_WIDTH - 1
        await self._climb(level + 1, await self._compare_row(level + 1, number, above))

    async def _compare_row(self, level: int, number: int, row: _Row) -> _Row:
        """Compare a stored tile of an upper level with the tiles below it, and return what it hands up."""
        held = await self._read_tile(level, number)
        span = TILE_WIDTH**level
        count = len(held) // HASH_BYTES
        if count < len(row.stored):
            self._report_short_tile(level, number, count, len(row.stored), span)
        hashes = [held[place * HASH_BYTES : (place + 1) * HASH_BYTES] for place in range(len(row.stored))]
        for place, (tile_hash, pair) in enumerate(zip(hashes, zip(*row, strict=True), strict=True)):
            if tile_hash and tile_hash not in pair:
                after = (number * TILE_WIDTH + place) * span
                message = (
                    f"the stored tile {number} of level {level} is not made of the tiles below it at the "
                )
                message += f"positions {after + 1} to {after + span}"
                self._report.add("tile", message, after, after + span)
        stored = [one or other for one, other in zip(hashes, row.stored, strict=True)]
        return _Row(stored, row.recorded)

    def _report_short_tile(self, level: int, number: int, held: int, width: int, span: int) -> None:
        what = f"has {held} hashes instead of {width}" if held else "is missing"
        after = (number * TILE_WIDTH + held) * span
        message = f"the stored tile {number} of level {level} {what}, from position {after + 1}"
        self._report.add("tile", message, after, after + span)

    def _extend_runs(self, position: int, *, is_missing: bool) -> None:
        last = self._runs[-1] if self._runs else None
        if last and last.last == position - 1 and last.is_missing == is_missing:
            self._runs[-1] = last._replace(last=position)
        elif len(self._runs) <= FINDINGS_MAX:
            self._runs.append(Run(is_missing, position, position))

    def _report_run(self, run: Run, root: bytes | None) -> None:
        one = run.first == run.last
        events = f"event at position {run.first}" if one else f"events at positions {run.first} to {run.last}"
        if run.is_missing:
            code, message = "missing", f"the {events} {'is' if one else 'are'} missing"
        elif root == self._records.root:
            code, message = (
                "tile",
                f"the stored tree lacks the {events}, which the checkpoint confirms",
            )
        elif root == self._tiles.root:
            ending = "is not the one that was sealed" if one else "are not those that were sealed"
            code, message = "event", f"the {events} {ending}"
        else:
            code, message = "event", f"the {events} and the stored tree differ"
        self._report.add(code, message, run.first - 1, run.first)
