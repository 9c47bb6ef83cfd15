"""Live generations: switch readers to another generation, switch back, and drop old generations.

A switch is one UPDATE, and every change is recorded in `projections.operations` with the operator and the
reason. The engine keeps a generation that is no longer live up to date until it is retired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from psycopg.errors import LockNotAvailable

from ledger.errors import InvalidProjectionState
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from projections.engine import partitions
from projections.engine.operations import Operator, record
from projections.engine.partitions import StoredGeneration

ReturnValue = TypeVar("ReturnValue")

# A generation that is behind is usually in the middle of a batch. The live checkpoint stays locked meanwhile.
CATCH_UP_SECONDS_MAX = 2.0
CATCH_UP_POLL_SECONDS = 0.01
# While an attempt waits for its lock, new readers of the projection wait behind it: so attempts are short and
# spaced out.
DROP_ATTEMPTS_MAX = 5
DROP_PAUSE_SECONDS = 1.0

_LOCK_LIVE = "SELECT generation FROM projections.live WHERE projection = %(projection)s FOR UPDATE"
_LOCK_CHECKPOINT = """
SELECT position FROM projections.checkpoints
WHERE projection = %(projection)s AND generation = %(generation)s FOR UPDATE
"""
_SELECT_POSITION = """
SELECT position FROM projections.checkpoints
WHERE projection = %(projection)s AND generation = %(generation)s
"""
_SELECT_ACTIVE_BUILD = """
SELECT rebuild, generation FROM projections.builds
WHERE projection = %(projection)s AND generation = ANY (%(generations)s) AND NOT ended LIMIT 1
"""
_SWITCH = """
INSERT INTO projections.live (projection, generation) VALUES (%(projection)s, %(generation)s)
ON CONFLICT ON CONSTRAINT live_projection DO UPDATE SET generation = excluded.generation
"""
_LAST_SWITCH = """
SELECT (details ->> 'from')::integer FROM projections.operations
WHERE projection = %(projection)s AND action IN ('switch', 'rollback') ORDER BY id DESC LIMIT 1
"""
_LAST_COMPARISON = """
SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), details FROM projections.operations
WHERE projection = %(projection)s AND action = 'compare' ORDER BY id DESC LIMIT 1
"""
# Not later ones: after a rollback, the operator may still switch forward to them.
_SELECT_OLDER = """
SELECT c.generation FROM projections.checkpoints c
JOIN projections.live l ON l.projection = c.projection AND c.generation < l.generation
WHERE c.projection = %(projection)s ORDER BY 1
"""
_DELETE_CHECKPOINT = """
WITH checkpoint AS (
    DELETE FROM projections.checkpoints
    WHERE projection = %(projection)s AND generation = %(generation)s RETURNING position)
, parked AS (
    DELETE FROM projections.parked WHERE projection = %(projection)s AND generation = %(generation)s)
SELECT position FROM checkpoint
"""
_SELECT_GENERATIONS = (
    "SELECT generation FROM projections.checkpoints WHERE projection = %(projection)s ORDER BY 1"
)
_NO_GENERATION = "{} has no generation {}."
_DELETE_LIVE = "DELETE FROM projections.live WHERE projection = %(projection)s"


class LiveGenerationChanged(InvalidProjectionState):
    """The live generation is no longer the one that was compared with."""


async def switch(
    conn: Conn,
    generations: Mapping[str, int],
    operator: Operator,
    details: Mapping[str, Any] | None = None,
    *,
    action: str = "switch",
    rebuild_id: int | None = None,
    compared_with: Mapping[str, int | None] | None = None,
) -> None:
    """Make these generations, by projection, live: all or none.

    details        what to record with each, by projection
    rebuild_id     the rebuild that built them, when it is being promoted
    compared_with  the generation that must still be live, by projection

    Raises InvalidProjectionState for a generation that does not exist, is live already, is behind the live
    one, or is being built by another rebuild than `rebuild_id`; LiveGenerationChanged, AlreadyDone.
    """
    async with conn.transaction():
        for name, generation in sorted(generations.items()):
            live = await lock_live_generation(conn, name)
            if compared_with is not None and compared_with[name] != live:
                raise LiveGenerationChanged(
                    f"generation {live} of {name} is live now; the comparison was with generation "
                    f"{compared_with[name]}: resume the rebuild to compare again."
                )
            if live == generation:
                raise InvalidProjectionState(f"generation {generation} of {name} is already live.")
            await _refuse_if_building(conn, name, generation, except_rebuild_id=rebuild_id)
            live_position = None if live is None else await _lock_checkpoint(conn, name, live)
            position = await _wait_for_position(conn, name, generation, live_position or 0)
            if position is None:
                raise InvalidProjectionState(_NO_GENERATION.format(name, generation))
            if live_position is not None and position < live_position:
                raise InvalidProjectionState(
                    f"generation {generation} of {name} is {live_position - position} events behind the live "
                    "one."
                )
            await conn.execute(_SWITCH, {"projection": name, "generation": generation})
            operation_details = {"from": live, **((details or {}).get(name) or {})}
            await record(conn, operator, action, name, generation, position, operation_details)


async def roll_back(conn: Conn, name: str, operator: Operator) -> int:
    """Make the generation live that was live before the last switch; its number.

    Calling it again switches forward. Raises InvalidProjectionState when there is no earlier one or it is
    behind, AlreadyDone.
    """
    row = await fetch_one(conn, _LAST_SWITCH, {"projection": name})
    if row is None or row[0] is None:
        raise InvalidProjectionState(f"{name} has never been switched: there is nothing to roll back to.")
    await switch(conn, {name: row[0]}, operator, action="rollback")
    return int(row[0])


async def retire(conn: Conn, name: str, generations: Sequence[int], operator: Operator) -> None:
    """Drop generations of a projection: all or none. Raises InvalidProjectionState for the live one, one that
    is being built, one that does not exist, or one that a long transaction is reading; AlreadyDone."""

    async def drop_if_unused() -> None:
        async with conn.transaction():
            live = await lock_live_generation(conn, name)
            if live in generations:
                raise InvalidProjectionState(
                    f"generation {live} of {name} is live: switch to another generation first."
                )
            await _refuse_if_building(conn, name, *generations)
            await _drop_generations(conn, name, generations, operator)

    await _retry_while_locked(name, drop_if_unused)


async def preview_retirement(
    conn: Conn, name: str, *, generation: int | None = None, removed: bool = False
) -> list[StoredGeneration]:
    """What would be dropped, unless it is refused: `generation`, or with `removed` all generations, or all
    that are older than the live one. Nothing for a name or generation that there is not."""
    if generation is None and not removed:
        numbers = await list_older_generations(conn, name)
    else:
        numbers = [n for n in await list_generations(conn, name) if generation in (None, n)]
    return [await partitions.measure(conn, name, number) for number in numbers]


async def remove_projection(conn: Conn, name: str, operator: Operator) -> list[int]:
    """Drop all generations of a projection that no release has any more; their numbers. A migration drops
    its parent table. Raises InvalidProjectionState when there is none, one is being built, or a long
    transaction is reading one; AlreadyDone."""

    async def drop_all() -> list[int]:
        async with conn.transaction():
            await conn.execute(_DELETE_LIVE, {"projection": name})
            generations = await list_generations(conn, name)
            if not generations:
                raise InvalidProjectionState(f"{name} has no generations.")
            await _refuse_if_building(conn, name, *generations)
            await _drop_generations(conn, name, generations, operator)
            return generations

    return await _retry_while_locked(name, drop_all)


async def list_generations(conn: Conn, name: str) -> list[int]:
    """All generations, oldest first."""
    return [row[0] for row in await fetch_all(conn, _SELECT_GENERATIONS, {"projection": name})]


async def list_older_generations(conn: Conn, name: str) -> list[int]:
    """The generations older than the live one, oldest first."""
    return [row[0] for row in await fetch_all(conn, _SELECT_OLDER, {"projection": name})]


async def load_last_comparison(conn: Conn, name: str) -> dict[str, Any]:
    """The last comparison of a projection with a rebuild of it, as recorded, and when (`at`, UTC). Raises
    InvalidProjectionState when there was none."""
    row = await fetch_one(conn, _LAST_COMPARISON, {"projection": name})
    if row is None:
        raise InvalidProjectionState(f"{name} has not been compared with a rebuild yet.")
    return {"at": row[0], **row[1]}


async def lock_live_generation(conn: Conn, name: str) -> int | None:
    """The live generation, locked until the transaction ends; None for a projection that has none yet."""
    row = await fetch_one(conn, _LOCK_LIVE, {"projection": name})
    return None if row is None else int(row[0])


async def _drop_generations(conn: Conn, name: str, generations: Sequence[int], operator: Operator) -> None:
    for generation in generations:
        parameters = {"projection": name, "generation": generation}
        row = await fetch_one(conn, _DELETE_CHECKPOINT, parameters)
        if row is None:
            raise InvalidProjectionState(_NO_GENERATION.format(name, generation))
        await partitions.drop_generation(conn, name, generation)
        await record(conn, operator, "retire", name, generation, row[0], {})
        # One call is recorded under its idempotency key once.
        operator = operator._replace(idempotency_key=None)


async def _retry_while_locked(name: str, drop: Callable[[], Awaitable[ReturnValue]]) -> ReturnValue:
    """Call `drop` until it gets its locks; its result. Raises InvalidProjectionState when it never does."""
    for attempt in range(DROP_ATTEMPTS_MAX):
        if attempt:
            await asyncio.sleep(DROP_PAUSE_SECONDS)
        with suppress(LockNotAvailable):
            return await drop()
    raise InvalidProjectionState(
        f"long transactions are reading {name}: nothing was dropped, try again later."
    )


async def _refuse_if_building(
    conn: Conn, name: str, *generations: int, except_rebuild_id: int | None = None
) -> None:
    """Raises InvalidProjectionState when another rebuild is building one of these generations: it becomes
    live by being compared, and is dropped by being cancelled."""
    parameters = {"projection": name, "generations": list(generations)}
    row = await fetch_one(conn, _SELECT_ACTIVE_BUILD, parameters)
    if row is not None and row[0] != except_rebuild_id:
        raise InvalidProjectionState(
            f"rebuild {row[0]} is building generation {row[1]} of {name}: accept or cancel the rebuild first."
        )


async def _wait_for_position(conn: Conn, name: str, generation: int, position: int) -> int | None:
    """The position of a generation, once it has reached `position` or CATCH_UP_SECONDS_MAX have passed; None
    when it has no checkpoint."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CATCH_UP_SECONDS_MAX
    parameters = {"projection": name, "generation": generation}
    while True:
        row = await fetch_one(conn, _SELECT_POSITION, parameters)
        if row is None or row[0] >= position or loop.time() > deadline:
            return None if row is None else int(row[0])
        await asyncio.sleep(CATCH_UP_POLL_SECONDS)


async def _lock_checkpoint(conn: Conn, name: str, generation: int) -> int | None:
    parameters = {"projection": name, "generation": generation}
    row = await fetch_one(conn, _LOCK_CHECKPOINT, parameters)
    return None if row is None else int(row[0])
