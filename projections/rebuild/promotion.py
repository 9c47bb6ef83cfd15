"""The gate between what was rebuilt and what readers see: it is passed by what says the same as what is live,
or by an operator who has looked at how it differs.

What was compared with has to be live yet when it is switched, and nobody may have paused or cancelled
meanwhile: all of it is looked at in the transaction that switches, behind the lock on the rebuild's row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.errors import InvalidProjectionState
from ledger.postgres.connections import Conn
from projections.engine.operations import Operator
from projections.rebuild import generations, records
from projections.rebuild.records import Rebuild

_LOCK_REBUILD = """
SELECT FROM projections.rebuilds WHERE id = %(rebuild)s AND state = %(state)s AND NOT paused FOR UPDATE
"""
_MARK_SWITCHED = """
WITH ended AS (UPDATE projections.builds SET ended = true WHERE rebuild = %(rebuild)s)
UPDATE projections.rebuilds SET state = 'switched', error = NULL, changed_at = now() WHERE id = %(rebuild)s
"""


async def promote(
    conn: Conn,
    rebuild: Rebuild,
    operator: Operator,
    details: Mapping[str, Mapping[str, Any]],
) -> bool:
    """Make all generations of a rebuild live and end it; False when it does not stand any more as `rebuild`.

    details  what came of comparing, by view; `live` is the generation that was compared with

    Raises LiveGenerationChanged, InvalidProjectionState; then nothing has changed.
    """
    async with conn.transaction():
        # Nothing of its views is locked before, as by whoever cancels it: else each would wait for the other.
        cur = await conn.execute(_LOCK_REBUILD, {"rebuild": rebuild.id, "state": rebuild.state})
        if cur.rowcount == 0:
            return False
        promoted = {build.projection: build.generation for build in rebuild.builds}
        compared_with = {name: details[name]["live"] for name in promoted}
        await generations.switch(
            conn, promoted, operator, details, rebuild_id=rebuild.id, compared_with=compared_with
        )
        await conn.execute(_MARK_SWITCHED, {"rebuild": rebuild.id})
    return True


async def accept_differences(conn: Conn, rebuild_id: int, operator: Operator) -> None:
    """Switch to what was found to differ, for an operator who has looked. Raises InvalidProjectionState, also
    when another generation has become live since."""
    rebuild = await records.load(conn, rebuild_id)
    if rebuild.state != "differing":
        raise InvalidProjectionState(f"rebuild {rebuild_id} is {rebuild.state}: there is nothing to accept.")
    details = {}
    for build in rebuild.builds:
        comparison = await generations.load_last_comparison(conn, build.projection)
        if comparison["rebuild"] != rebuild_id or "live" not in comparison:  # as an older release has it
            raise InvalidProjectionState(f"rebuild {rebuild_id} has to compare again: resume it.")
        details[build.projection] = {"rebuild": rebuild_id, "live": comparison["live"], "accepted": True}
    if not await promote(conn, rebuild, operator, details):
        raise InvalidProjectionState(f"rebuild {rebuild_id} is not what it was a moment ago: look again.")


def explain_not_promoted(rebuild: Rebuild) -> str:
    """Why a rebuild has not been switched to, and what can be done about it."""
    if rebuild.state != "differing":
        paused = " (paused)" if rebuild.paused else ""
        return (
            f"rebuild {rebuild.id} of {rebuild.label} is {rebuild.state}{paused}: it is compared first, and "
            "switched to if it says the same as what is live."
        )
    why = rebuild.error or "what was rebuilt differs from what is live"
    return (
        f"rebuild {rebuild.id} of {rebuild.label}: {why}; look at the differences, then accept them with a "
        "reason, resume to compare again, or cancel."
    )
