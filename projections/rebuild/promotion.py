"""Promotion: make the generations that a rebuild built the live ones.

The driver promotes generations whose rows equal the live ones; an operator promotes the others after looking
at the differences. Both check in the promoting transaction, with the rebuild's row locked, that the
generation compared with is still live and that nobody has paused or cancelled the rebuild.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.errors import InvalidProjectionState
from ledger.postgres.connections import Conn
from projections.engine.operations import Operator
from projections.rebuild import generations, records
from projections.rebuild.records import Rebuild
from projections.rebuild.states import RebuildAction, RebuildState, transition

_END_BUILDS = "UPDATE projections.builds SET ended = true WHERE rebuild = %(rebuild)s"


async def promote(
    conn: Conn, rebuild: Rebuild, operator: Operator, details: Mapping[str, Mapping[str, Any]]
) -> None:
    """Make all generations of a rebuild live and end it, for the driver that compared them.

    details  result of the comparison by projection; `live` is the generation compared with

    Raises TransitionRefused when the rebuild was paused or cancelled meanwhile, LiveGenerationChanged,
    InvalidProjectionState; then nothing has changed.
    """
    async with conn.transaction():
        await transition(conn, rebuild.id, RebuildAction.PROMOTE)
        await _switch(conn, rebuild, operator, details)


async def accept_differences(conn: Conn, rebuild_id: int, operator: Operator) -> None:
    """Make all generations of a rebuild live although they differ, for an operator who accepts that.

    Raises TransitionRefused when the rebuild has no differences to accept, LiveGenerationChanged when another
    generation has become live since the comparison, InvalidProjectionState, AlreadyDone; then nothing has
    changed.
    """
    async with conn.transaction():
        await transition(conn, rebuild_id, RebuildAction.ACCEPT_DIFFERENCES)
        rebuild = await records.load(conn, rebuild_id)
        details = {}
        for build in rebuild.builds:
            comparison = await generations.load_last_comparison(conn, build.projection)
            # An older release did not record which generation it compared with.
            if comparison["rebuild"] != rebuild_id or "live" not in comparison:
                raise InvalidProjectionState(f"rebuild {rebuild_id} must be compared again first: resume it.")
            details[build.projection] = {"rebuild": rebuild_id, "live": comparison["live"], "accepted": True}
        await _switch(conn, rebuild, operator, details)


async def _switch(
    conn: Conn, rebuild: Rebuild, operator: Operator, details: Mapping[str, Mapping[str, Any]]
) -> None:
    promoted = {build.projection: build.generation for build in rebuild.builds}
    compared_with = {name: details[name]["live"] for name in promoted}
    await generations.switch(
        conn, promoted, operator, details, rebuild_id=rebuild.id, compared_with=compared_with
    )
    await conn.execute(_END_BUILDS, {"rebuild": rebuild.id})


def explain_not_promoted(rebuild: Rebuild) -> str:
    """Why the generations of an open rebuild are not live yet, and which commands come next."""
    if rebuild.state is not RebuildState.DIFFERING:
        paused = " (paused)" if rebuild.paused else ""
        return (
            f"rebuild {rebuild.id} of {rebuild.label} is {rebuild.state}{paused}: it is compared first, and "
            "promoted if its rows equal the live ones."
        )
    why = rebuild.error or "the rebuilt rows differ from the live rows"
    return (
        f"rebuild {rebuild.id} of {rebuild.label}: {why}. Look at the differences with `diff`; then accept "
        "them with a reason, `resume` to compare again, or `cancel`."
    )
