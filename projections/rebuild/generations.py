"""Which generation readers see: a switch is one UPDATE, so is the way back, and each is on record.

Whoever switches says who they are and why; `projections.operations` is only ever added to. A generation
that is live no more is kept up to date like any other until it is retired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from psycopg.errors import LockNotAvailable

from ledger.errors import InvalidProjectionState
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from projections.engine import partitions
from projections.engine.operations import Operator, record

ReturnValue = TypeVar("ReturnValue")

# Behind, another runner is at work on it, and is there in a moment: the live one is held meanwhile.
CATCH_UP_SECONDS_MAX = 2.0
CATCH_UP_POLL_SECONDS = 0.01
# Each try holds up whoever begins to read the view, for as long as it waits: so it rests in between.
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
# Not a later one: after a rollback that is what one may yet go forward to.
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
_DELETE_LIVE = "DELETE FROM projections.live WHERE projection = %(projection)s"


class LiveGenerationChanged(InvalidProjectionState):
    """Another generation is live than the one that was compared with."""


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
    """Make these generations, by projection, the ones that readers see: all or none.

    rebuild        the one that has built them, and has been through its gate
    compared_with  what has to be live yet

    Raises InvalidProjectionState for one that does not exist, is live already, is behind the live one, or
    is being built by a rebuild other than `rebuild_id`; LiveGenerationChanged.
    """
    async with conn.transaction():
        for name, generation in sorted(generations.items()):
            live = await lock_live_generation(conn, name)
            if compared_with is not None and compared_with[name] != live:
                raise LiveGenerationChanged(
                    f"generation {live} of {name} is live now, not {compared_with[name]}, which it was "
                    "compared with: resume the rebuild to compare again."
                )
            if live == generation:
                raise InvalidProjectionState(f"generation {generation} of {name} is the live one.")
            await _refuse_if_building(conn, name, generation, except_rebuild_id=rebuild_id)
            live_position = None if live is None else await _lock_checkpoint(conn, name, live)
            position = await _wait_for_position(conn, name, generation, live_position or 0)
            if position is None:
                raise InvalidProjectionState(f"{name} has no generation {generation} that could be live.")
            if live_position is not None and position < live_position:
                raise InvalidProjectionState(
                    f"generation {generation} of {name} is {live_position - position} events behind the live "
                    "one."
                )
            await conn.execute(_SWITCH, {"projection": name, "generation": generation})
            operation_details = {"from": live, **((details or {}).get(name) or {})}
            await record(conn, operator, action, name, generation, position, operation_details)


async def roll_back(conn: Conn, name: str, operator: Operator) -> int:
    """Make the generation live that was so before; gives which. Raises InvalidProjectionState."""
    row = await fetch_one(conn, _LAST_SWITCH, {"projection": name})
    if row is None or row[0] is None:
        raise InvalidProjectionState(f"{name} has not been switched: there is nothing to go back to.")
    await switch(conn, {name: row[0]}, operator, action="rollback")
    return int(row[0])


async def retire(conn: Conn, name: str, generation: int, operator: Operator) -> None:
    """Drop a generation that nobody reads. Raises InvalidProjectionState for the live one, one that is being
    built, or one that a reader holds for longer than we wait."""

    async def drop_if_unused() -> None:
        async with conn.transaction():
            if await lock_live_generation(conn, name) == generation:
                raise InvalidProjectionState(f"generation {generation} of {name} is live: switch first.")
            await _refuse_if_building(conn, name, generation)
            await _drop_generation(conn, name, generation, operator)

    await _retry_while_locked(name, drop_if_unused)


async def remove_projection(conn: Conn, name: str, operator: Operator) -> list[int]:
    """Drop a view that no release has any more: all its generations, which are given. Its table is for a
    migration to drop. Raises InvalidProjectionState."""

    async def drop_all() -> list[int]:
        async with conn.transaction():
            await conn.execute(_DELETE_LIVE, {"projection": name})
            rows = await fetch_all(conn, _SELECT_GENERATIONS, {"projection": name})
            if not rows:
                raise InvalidProjectionState(f"no projection {name}: see `ledger projections status`")
            generations = [row[0] for row in rows]
            await _refuse_if_building(conn, name, *generations)
            for generation in generations:
                await _drop_generation(conn, name, generation, operator)
            return generations

    return await _retry_while_locked(name, drop_all)


async def list_older_generations(conn: Conn, name: str) -> list[int]:
    """The generations made before the live one."""
    return [row[0] for row in await fetch_all(conn, _SELECT_OLDER, {"projection": name})]


async def load_last_comparison(conn: Conn, name: str) -> dict[str, Any]:
    """What the last rebuild of a view that came to comparing found, of which, and when. Raises
    InvalidProjectionState when none did."""
    row = await fetch_one(conn, _LAST_COMPARISON, {"projection": name})
    if row is None:
        raise InvalidProjectionState(f"{name} has not been compared with a rebuild of it.")
    return {"at": row[0], **row[1]}


async def lock_live_generation(conn: Conn, name: str) -> int | None:
    """The generation readers see, locked until the transaction ends; None for a view that has none yet."""
    row = await fetch_one(conn, _LOCK_LIVE, {"projection": name})
    return None if row is None else int(row[0])


async def _drop_generation(conn: Conn, name: str, generation: int, operator: Operator) -> None:
    parameters = {"projection": name, "generation": generation}
    row = await fetch_one(conn, _DELETE_CHECKPOINT, parameters)
    if row is None:
        raise InvalidProjectionState(f"{name} has no generation {generation}.")
    await partitions.drop_generation(conn, name, generation)
    await record(conn, operator, "retire", name, generation, row[0], {})


async def _retry_while_locked(name: str, drop: Callable[[], Awaitable[ReturnValue]]) -> ReturnValue:
    """What it gives, once no reader is in its way. Raises InvalidProjectionState."""
    for attempt in range(DROP_ATTEMPTS_MAX):
        if attempt:
            await asyncio.sleep(DROP_PAUSE_SECONDS)
        with suppress(LockNotAvailable):
            return await drop()
    raise InvalidProjectionState(
        f"{name} is being read by long transactions: nothing is dropped, try again later."
    )


async def _refuse_if_building(
    conn: Conn, name: str, *generations: int, except_rebuild_id: int | None = None
) -> None:
    """Raises InvalidProjectionState when a rebuild is at work on one of them: what is not compared is not
    switched to, and what is to be compared is not dropped."""
    parameters = {"projection": name, "generations": list(generations)}
    row = await fetch_one(conn, _SELECT_ACTIVE_BUILD, parameters)
    if row is not None and row[0] != except_rebuild_id:
        raise InvalidProjectionState(
            f"generation {row[1]} of {name} is being built by rebuild {row[0]}: accept or cancel that."
        )


async def _wait_for_position(conn: Conn, name: str, generation: int, position: int) -> int | None:
    """Where the generation stands, once it has come to `position` or that was waited for long enough."""
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
