"""An export as it is read from the log and the tree: page by page, in memory that does not grow.

A page holds a connection and a snapshot only while it is read, never while the client takes it. The log and
the tree only grow, so pages that are read one after another belong together all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from ledger.audit.auditor import Auditor
from ledger.audit.exports.content import ExportHeader, ExportLine, ExportTrailer, cover_gap, make_line
from ledger.audit.search.filters import LogFilters, PositionRange
from ledger.audit.search.pages import find_positions
from ledger.errors import DamagedTree, InvalidParameter, Unavailable
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.queries.context import QueryContext
from ledger.tlog.merkle import Node
from ledger.tree.storage import TreeHead, read_nodes, read_records_at, read_tree_head

SEAL_WAIT_SECONDS = 5.0
SEAL_POLL_SECONDS = 0.05
PAGE_RECORDS = 250
# A page of an account with few events among many others' examines so many and may find none.
PAGE_EXAMINED_MAX = 5000
# Of each node up to 127 hashes are computed, while nothing else runs.
NODES_PER_READ = 128

_HEAD = "SELECT position FROM ledger.head"
_POSITIONS = """
SELECT notification_id FROM ledger.events
WHERE notification_id > %(after)s AND notification_id <= %(upto)s
AND account = %(account)s AND livemode = %(livemode)s
ORDER BY notification_id LIMIT %(limit)s
"""

OnPage = Callable[[int, int], None]


class Encoder(Protocol):
    """Encodes the parts of an export in one format; each method returns the bytes that are ready."""

    media_type: str

    async def begin(self, header: ExportHeader) -> bytes:
        """The first bytes of the file."""

    async def add(self, lines: Sequence[ExportLine]) -> bytes:
        """More bytes."""

    async def end(self, trailer: ExportTrailer) -> bytes:
        """The last bytes of the file."""


class ExportPlan(NamedTuple):
    """An export that is about to begin: nothing about it can be refused any more.

    auditor  whose records it has; None for those of all accounts, without filters
    """

    auditor: Auditor | None
    filters: LogFilters
    header: ExportHeader
    size: int


async def plan_export(context: QueryContext, auditor: Auditor, filters: LogFilters) -> ExportPlan:
    """The export of the auditor's records that satisfy `filters`, up to the newest checkpoint. Waits for
    SEAL_WAIT_SECONDS at most until the checkpoint has all that was recorded before.

    Raises InvalidParameter; Unavailable also while no checkpoint has been signed.
    """
    filters.to_parameters()  # refuses unknown types before anything is waited for
    tree = await _wait_for_tree(context)

    async def run(conn: Conn) -> tuple[PositionRange, list[bytes]]:
        now = context.store.clock.now()
        searched = await filters.find_range(conn, context.store.codec, tree.size, now)
        _check_positions(filters, tree.size)
        # A time may lie after the last record of the checkpoint, and before later ones of the log.
        searched = searched._replace(after=min(searched.after, tree.size))
        nodes = cover_gap(0, searched.after + 1)
        hashes = await read_hashes(conn, nodes)
        return searched, [hashes[node] for node in nodes]

    searched, skipped = await context.reads.run_idempotent(run)
    header = ExportHeader(
        account=auditor.account,
        livemode=auditor.livemode,
        filters=state_filters(filters),
        after=searched.after,
        upto=max(searched.after, searched.upto),
        skipped=skipped,
        checkpoint=tree.note,
    )
    return ExportPlan(auditor, filters, header, tree.size)


async def stream_export(
    context: QueryContext, plan: ExportPlan, encoder: Encoder, *, on_page: OnPage | None = None
) -> AsyncIterator[bytes]:
    """The bytes of the file.

    on_page  called with the number of records and the position that the export has come to

    Raises Unavailable, and DamagedTree when records or hashes are missing; the file then has no end.
    """
    yield await encoder.begin(plan.header)
    count, last = 0, plan.header.after
    async for lines in read_lines(context, plan):
        count, last = count + len(lines), lines[-1].position
        if on_page is not None:
            on_page(count, last)
        if content := await encoder.add(lines):
            yield content
    nodes = cover_gap(last, plan.size + 1)
    hashes = await context.reads.run_idempotent(lambda conn: read_hashes(conn, nodes))
    if on_page is not None:
        on_page(count, plan.header.upto)
    yield await encoder.end(ExportTrailer(records=count, skipped=[hashes[node] for node in nodes]))


async def read_lines(context: QueryContext, plan: ExportPlan) -> AsyncIterator[list[ExportLine]]:
    """The lines, in pages that are not empty."""
    after: int | None = plan.header.after
    last = plan.header.after
    while after is not None and after < plan.header.upto:
        searched = PositionRange(after, plan.header.upto)
        if plan.auditor is None:
            end = min(searched.upto, searched.after + PAGE_RECORDS)
            positions, after = list(range(searched.after + 1, end + 1)), end
        elif plan.filters.to_parameters():
            positions, after = await find_positions(
                context, plan.auditor, plan.filters, searched,
                limit=PAGE_RECORDS, examined_max=PAGE_EXAMINED_MAX,
            )  # fmt: skip
        else:
            positions, after = await _find_all(context, plan.auditor, searched)
        if positions:
            yield await _read_page(context, positions, last)
            last = positions[-1]


async def _find_all(
    context: QueryContext, auditor: Auditor, searched: PositionRange
) -> tuple[list[int], int]:
    """The positions of a page without filters, and the last one that was looked at. In the log itself: no
    read model has a say in what a complete export holds."""
    upto = min(searched.upto, searched.after + PAGE_EXAMINED_MAX)
    parameters = {
        "after": searched.after,
        "upto": upto,
        "account": auditor.account,
        "livemode": auditor.livemode,
        "limit": PAGE_RECORDS,
    }
    rows = await context.reads.run_idempotent(lambda conn: fetch_all(conn, _POSITIONS, parameters))
    positions = [row[0] for row in rows]
    return positions, positions[-1] if len(positions) == PAGE_RECORDS else upto


def state_filters(filters: LogFilters) -> dict[str, str]:
    """The filters by name, as a header states them: without the position after which the export begins."""
    names = ("actor", "request", "idempotency_key", "object", "customer", "charge", "payment_intent", "event")
    stated = {name: getattr(filters, name) for name in names if getattr(filters, name) is not None}
    if filters.types:
        stated["type"] = ",".join(filters.types)
    stated |= {f"time[{comparison}]": text for comparison, text in filters.time.items()}
    stated |= {
        f"position[{comparison}]": str(position)
        for comparison, position in filters.position.items()
        if comparison.startswith("lt")
    }
    return stated


async def _wait_for_tree(context: QueryContext) -> TreeHead:
    """The sealed tree, with all that was recorded when this was called if it is sealed in time."""

    async def read_head(conn: Conn) -> int:
        row = await fetch_one(conn, _HEAD)
        assert row is not None
        return int(row[0])

    head = await context.pool.run_idempotent(read_head)
    deadline = time.monotonic() + SEAL_WAIT_SECONDS
    while True:
        tree = await context.pool.run_idempotent(read_tree_head)
        if (tree.note and tree.size >= head) or time.monotonic() > deadline:
            break
        await asyncio.sleep(SEAL_POLL_SECONDS)
    if not tree.note:
        raise Unavailable("no checkpoint has been signed yet: is a worker running?")
    return tree


def _check_positions(filters: LogFilters, size: int) -> None:
    for comparison, position in filters.position.items():
        if comparison.startswith("gt") and position - (comparison == "gte") > size:
            raise InvalidParameter(
                f"Position {position} is in the future: the last one of the newest checkpoint is {size}.",
                param=f"position[{comparison}]",
            )


async def _read_page(context: QueryContext, positions: Sequence[int], last: int) -> list[ExportLine]:
    """The lines at these positions, the first of which follows `last`."""
    gaps = [
        cover_gap(previous, position)
        for previous, position in zip((last, *positions), positions, strict=False)
    ]

    async def run(conn: Conn) -> list[ExportLine]:
        records = await read_records_at(conn, positions)
        if len(records) != len(positions):
            raise DamagedTree(f"records after position {last} are missing from the log")
        leaves = [Node(0, position - 1) for position in positions]
        hashes = await read_hashes(conn, [*leaves, *(node for gap in gaps for node in gap)])
        return [
            make_line(record, hashes[leaf], [hashes[node] for node in gap])
            for record, leaf, gap in zip(records, leaves, gaps, strict=True)
        ]

    return await context.reads.run_idempotent(run)


async def read_hashes(conn: Conn, nodes: Sequence[Node]) -> dict[Node, bytes]:
    """The hashes of any number of complete nodes of the tree. Raises psycopg.Error and DamagedTree."""
    hashes: dict[Node, bytes] = {}
    remaining = iter(nodes)
    while part := list(islice(remaining, NODES_PER_READ)):
        hashes |= await read_nodes(conn, part)
    return hashes
