"""Writing what a pass derived, so that one row the database refuses costs its own stream and no more.

First everything together. Only if that fails is the batch done again with each projection apart; where
data is at fault, halves of it, until the stream and its first refused event are found and parked. A
projection that fails as a whole (a table that is missing, say) is left where it stands; the others go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import CheckViolation
from psycopg.rows import TupleRow

from ledger.errors import LedgerError
from projections.passing import Key, Member
from projections.projection import Step, described, merged


class PartitionMissing(LedgerError):
    """A row belongs into a partition that is not there."""


async def write_together(conn: AsyncConnection[TupleRow], members: Sequence[Member]) -> dict[Key, str]:
    """Write the steps of all members in the transaction under way, which any failure ends.

    Raises psycopg.Error and PartitionMissing.
    """
    for member in members:
        await _write(conn, member, member.steps)
    return {}


async def write_apart(conn: AsyncConnection[TupleRow], members: Sequence[Member]) -> dict[Key, str]:
    """The same, but each member parks the streams that cannot be written.

    Returns the members that could not be written at all, and why. Raises PartitionMissing, and
    psycopg.Error when the connection is lost.
    """
    failed: dict[Key, str] = {}
    for member in members:
        try:
            async with conn.transaction():
                await _write_what_can_be(conn, member, member.steps)
        except psycopg.Error as error:
            if conn.broken:
                raise
            failed[member.key] = described(error)
    return failed


async def _write_what_can_be(conn: AsyncConnection[TupleRow], member: Member, steps: list[Step]) -> None:
    try:
        async with conn.transaction():
            await _write(conn, member, steps)
        return
    except Exception as error:
        if not _rows_at_fault(error):
            raise
    streams = list(dict.fromkeys(step.stream for step in steps))
    if len(streams) == 1:
        await _write_stream(conn, member, steps)
        return
    first = set(streams[: len(streams) // 2])
    await _write_what_can_be(conn, member, [step for step in steps if step.stream in first])
    await _write_what_can_be(conn, member, [step for step in steps if step.stream not in first])


async def _write_stream(conn: AsyncConnection[TupleRow], member: Member, steps: list[Step]) -> None:
    """Event by event, up to the one that is refused."""
    for position, group in groupby(steps, key=attrgetter("position")):
        try:
            async with conn.transaction():
                await _write(conn, member, list(group))
        except Exception as error:
            if not _rows_at_fault(error):
                raise
            member.park(steps[0].stream, position, error)
            return


def _rows_at_fault(error: Exception) -> bool:
    """What else fails is the trouble of the projection's statement, or of the connection."""
    if isinstance(error, psycopg.Error):
        return isinstance(error, psycopg.DataError | psycopg.IntegrityError)
    return not isinstance(error, PartitionMissing)


async def _write(conn: AsyncConnection[TupleRow], member: Member, steps: list[Step]) -> None:
    if not steps:
        return
    try:
        await member.projection.write(conn, member.generation, merged(steps))
    except CheckViolation as error:
        # "no partition of relation found for row": the only check violation without a constraint's name.
        if error.diag.constraint_name is None:
            raise PartitionMissing from error
        raise
