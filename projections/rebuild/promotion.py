"""The gate between what was rebuilt and what readers see: it is passed by what says the same as what is live,
or by an operator who has looked at how it differs.

What was compared with has to be live yet when it is switched, and nobody may have paused or cancelled
meanwhile: all of it is looked at in the transaction that switches, behind the lock on the rebuild's row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.errors import OperationRefused
from projections.engine.operations import Operator
from projections.rebuild import generations, records
from projections.rebuild.records import Rebuild

_HOLD = """
SELECT FROM projections.rebuilds WHERE id = %(rebuild)s AND state = %(state)s AND NOT paused FOR UPDATE
"""
_SWITCHED = """
WITH ended AS (UPDATE projections.builds SET ended = true WHERE rebuild = %(rebuild)s)
UPDATE projections.rebuilds SET state = 'switched', error = NULL, changed_at = now() WHERE id = %(rebuild)s
"""


async def switch(
    conn: AsyncConnection[TupleRow],
    found: Rebuild,
    operator: Operator,
    details: Mapping[str, Mapping[str, Any]],
) -> bool:
    """Make all generations of a rebuild live and end it; False when it does not stand any more as `found`.

    details  what came of comparing, by view; `live` is the generation that was compared with

    Raises LiveChanged, OperationRefused; then nothing has changed.
    """
    async with conn.transaction():
        # Nothing of its views is locked before, as by whoever cancels it: else each would wait for the other.
        held = await conn.execute(_HOLD, {"rebuild": found.id, "state": found.state})
        if held.rowcount == 0:
            return False
        to = {build.projection: build.generation for build in found.builds}
        compared_with = {name: details[name]["live"] for name in to}
        await generations.switch(conn, to, operator, details, rebuild=found.id, compared_with=compared_with)
        await conn.execute(_SWITCHED, {"rebuild": found.id})
    return True


async def accept(conn: AsyncConnection[TupleRow], rebuild: int, operator: Operator) -> None:
    """Switch to what was found to differ, for an operator who has looked. Raises OperationRefused, also
    when another generation has become live since."""
    found = await records.load(conn, rebuild)
    if found.state != "differing":
        raise OperationRefused(f"rebuild {rebuild} is {found.state}: there is nothing to accept.")
    told = {}
    for build in found.builds:
        compared = await generations.last_comparison(conn, build.projection)
        if compared["rebuild"] != rebuild or "live" not in compared:  # as an older release has it
            raise OperationRefused(f"rebuild {rebuild} has to compare again: resume it.")
        told[build.projection] = {"rebuild": rebuild, "live": compared["live"], "accepted": True}
    if not await switch(conn, found, operator, told):
        raise OperationRefused(f"rebuild {rebuild} is not what it was a moment ago: look again.")


def undecided(found: Rebuild) -> str:
    """Why a rebuild has not been switched to, and what can be done about it."""
    if found.state != "differing":
        paused = " (paused)" if found.paused else ""
        return (
            f"rebuild {found.id} of {found.names} is {found.state}{paused}: it is compared first, and "
            "switched to if it says the same as what is live."
        )
    why = found.error or "what was rebuilt differs from what is live"
    return (
        f"rebuild {found.id} of {found.names}: {why}; look at the differences, then accept them with a "
        "reason, resume to compare again, or cancel."
    )
