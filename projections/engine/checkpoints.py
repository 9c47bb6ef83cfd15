"""The checkpoints: how far each generation of each projection is, and the streams it leaves out.

The lock on a checkpoint's row is the right to write that generation's rows, so of any number of processes
one does; it ends with the transaction, also when the process or its connection dies (README, invariant 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from projections.engine.batch import Key, Member

# A generation that a later release has built is not ours to write: this one lacks columns, or fills them
# otherwise. What an earlier one has built is.
_STANDING = """
SELECT c.projection, c.generation, c.position, h.position
FROM ledger.head h LEFT JOIN (
    projections.checkpoints c
    JOIN json_to_recordset(%(known)s::json) AS known(projection text, shape integer)
        ON known.projection = c.projection AND c.shape <= known.shape) ON true
"""
# SKIP LOCKED: whoever holds a checkpoint is at work on it. A row that has moved meanwhile is left out too.
_LOCK = """
SELECT c.projection, c.generation,
       EXISTS (SELECT FROM projections.parked p
               WHERE p.projection = c.projection AND p.generation = c.generation)
FROM json_to_recordset(%(wanted)s::json) AS wanted(projection text, generation integer)
JOIN projections.checkpoints c USING (projection, generation)
WHERE c.position = %(position)s
ORDER BY c.projection, c.generation
FOR UPDATE OF c SKIP LOCKED
"""
_MOVE = """
UPDATE projections.checkpoints c SET position = %(position)s, recorded_at = last.recorded_at
FROM json_to_recordset(%(moved)s::json) AS moved(projection text, generation integer)
CROSS JOIN (SELECT recorded_at FROM ledger.events WHERE notification_id = %(position)s) AS last
WHERE c.projection = moved.projection AND c.generation = moved.generation
"""
_PARKED_OF = """
SELECT p.projection, p.generation, p.stream
FROM json_to_recordset(%(wanted)s::json) AS wanted(projection text, generation integer)
JOIN projections.parked p USING (projection, generation)
WHERE p.stream = ANY (%(streams)s)
"""
_PARK = """
INSERT INTO projections.parked (projection, generation, stream, position, error)
VALUES (%(projection)s, %(generation)s, %(stream)s, %(position)s, %(error)s)
ON CONFLICT ON CONSTRAINT parked_key DO UPDATE
SET position = excluded.position, error = excluded.error, parked_at = excluded.parked_at
"""
_WAIT_FOR = """
SELECT position FROM projections.checkpoints
WHERE projection = %(projection)s AND generation = %(generation)s FOR UPDATE
"""
_PARKED_IN = """
SELECT p.generation, c.shape FROM projections.parked p
LEFT JOIN projections.checkpoints c USING (projection, generation)
WHERE p.projection = %(projection)s AND p.stream = %(stream)s ORDER BY 1
"""
_PARKED_AT = """
SELECT position FROM projections.parked
WHERE projection = %(projection)s AND generation = %(generation)s AND stream = %(stream)s
"""
_UNPARK = """
DELETE FROM projections.parked
WHERE projection = %(projection)s AND generation = %(generation)s AND stream = %(stream)s
"""


async def standing(conn: AsyncConnection[TupleRow], shapes: Mapping[str, int]) -> tuple[dict[Key, int], int]:
    """Position by projection and generation, of those that a release with these shapes may write, and the
    head's: all at one moment."""
    known = [{"projection": name, "shape": shape} for name, shape in shapes.items()]
    found = await conn.execute(_STANDING, {"known": msgspec.json.encode(known).decode()})
    rows = await found.fetchall()
    return {(row[0], row[1]): row[2] for row in rows if row[0] is not None}, rows[0][3]


async def lock(conn: AsyncConnection[TupleRow], wanted: Iterable[Key], position: int) -> dict[Key, bool]:
    """Lock those of the checkpoints that nobody holds and that stand at `position`, until the transaction
    ends. By projection and generation: whether it has parked streams."""
    rows = await conn.execute(_LOCK, {"wanted": _keys(wanted), "position": position})
    return {(name, generation): parked for name, generation, parked in await rows.fetchall()}


async def parked_of(
    conn: AsyncConnection[TupleRow], wanted: Iterable[Key], streams: Iterable[str]
) -> list[tuple[Key, str]]:
    """Which of `streams` are parked, and where."""
    cur = await conn.execute(_PARKED_OF, {"wanted": _keys(wanted), "streams": list(streams)})
    return [((name, generation), stream) for name, generation, stream in await cur.fetchall()]


async def move(conn: AsyncConnection[TupleRow], moved: Iterable[Key], position: int) -> None:
    """Move locked checkpoints to the event at `position`."""
    await conn.execute(_MOVE, {"moved": _keys(moved), "position": position})


async def park(conn: AsyncConnection[TupleRow], member: Member) -> None:
    """Keep what the pass parked."""
    for stream, position, error in member.parkings:
        parameters: dict[str, Any] = {"stream": stream, "position": position, "error": error}
        await conn.execute(_PARK, parameters | _named(member.key))


async def generations_parking(
    conn: AsyncConnection[TupleRow], name: str, stream: str
) -> dict[int, int | None]:
    """The generations of a projection that leave the stream out, and the shape of each; None while it is
    still being filled."""
    cur = await conn.execute(_PARKED_IN, {"projection": name, "stream": stream})
    return dict(await cur.fetchall())


async def unpark(conn: AsyncConnection[TupleRow], key: Key, stream: str) -> tuple[int, int] | None:
    """Lock the checkpoint, waiting for whoever runs it, and unpark. The first position left out and the
    last; None when it is not parked."""
    parameters = {"stream": stream, **_named(key)}
    checkpoint = await (await conn.execute(_WAIT_FOR, parameters)).fetchone()
    first = await (await conn.execute(_PARKED_AT, parameters)).fetchone()
    if checkpoint is None or first is None:
        return None
    await conn.execute(_UNPARK, parameters)
    return first[0], checkpoint[0]


def _named(key: Key) -> dict[str, Any]:
    return {"projection": key[0], "generation": key[1]}


def _keys(keys: Iterable[Key]) -> str:
    return msgspec.json.encode([_named(key) for key in keys]).decode()
