"""The checkpoints: the position of each generation of each projection, and the streams it has parked.

Only the process that holds the lock on a checkpoint's row writes that generation's rows. The lock ends with
the transaction, also when the process or its connection dies (README, invariant 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from psycopg.rows import TupleRow

from ledger.postgres.connections import Conn, fetch_one
from ledger.postgres.pipelines import BoundStatement, bind, fetch_together
from ledger.postgres.statements import parse_statement
from ledger.store.durability import WAITS_FOR_STANDBYS
from ledger.store.notifications import APPLIED_CHANNEL
from projections.engine.batch import GenerationKey, Target

_POSITIONS = parse_statement(f"""
SELECT c.projection, c.generation, c.shape, c.position, h.position, {WAITS_FOR_STANDBYS}
FROM ledger.head h LEFT JOIN projections.checkpoints c ON true
""")  # noqa: S608 (a constant)
# A generation by the name of its table. There are few checkpoints: to compare all of them takes half of the
# time of a join with the wanted ones.
_IN_KEYS = "c.projection || '_g' || c.generation = ANY (%(keys)s::text[])"
# SKIP LOCKED: another process works on that checkpoint. One that has moved does not match either.
_LOCK = parse_statement(f"""
SELECT c.projection, c.generation,
       EXISTS (SELECT FROM projections.parked p
               WHERE p.projection = c.projection AND p.generation = c.generation)
FROM projections.checkpoints c
WHERE c.position = %(position)s AND {_IN_KEYS}
ORDER BY c.projection, c.generation
FOR UPDATE OF c SKIP LOCKED
""")  # noqa: S608 (a constant)
_MOVE = parse_statement(f"""
WITH updated AS (
    UPDATE projections.checkpoints c SET position = %(position)s, recorded_at = last.recorded_at
    FROM (SELECT recorded_at FROM ledger.events WHERE notification_id = %(position)s) AS last
    WHERE {_IN_KEYS}
)
SELECT pg_notify(%(channel)s, %(position)s::text) WHERE %(notify)s
""")  # noqa: S608
_PARKED_STREAMS = """
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
_LOCK_CHECKPOINT = """
SELECT position FROM projections.checkpoints
WHERE projection = %(projection)s AND generation = %(generation)s FOR UPDATE
"""
_GENERATIONS_WITH_PARKED_STREAM = """
SELECT p.generation, c.shape, p.error FROM projections.parked p
LEFT JOIN projections.checkpoints c USING (projection, generation)
WHERE p.projection = %(projection)s AND p.stream = %(stream)s ORDER BY 1
"""
_PARKED_POSITION = """
SELECT position FROM projections.parked
WHERE projection = %(projection)s AND generation = %(generation)s AND stream = %(stream)s
"""
_UNPARK = """
DELETE FROM projections.parked
WHERE projection = %(projection)s AND generation = %(generation)s AND stream = %(stream)s
"""


class StillParked(NamedTuple):
    """A generation that has parked a stream, and why. `shape` is None while a rebuild is still filling it."""

    shape: int | None
    error: str


class Positions(NamedTuple):
    """Where everything is, as of one moment.

    checkpoints         of the generations that this release may write
    head                the log's last position
    waits_for_standbys  whether commits wait for standbys: then `head` may be what none of them has
    """

    checkpoints: dict[GenerationKey, int]
    head: int
    waits_for_standbys: bool


async def load_positions(conn: Conn, shapes: Mapping[str, int]) -> Positions:
    """The positions of the generations that a release with these shapes (by projection) may write, and of the
    log."""
    [rows] = await fetch_together(conn, [bind(_POSITIONS, {})])
    # This release does not write a generation that a later release built: it lacks its columns, or fills them
    # differently. It does write what an earlier release built.
    positions = {
        GenerationKey(name, generation): position
        for name, generation, shape, position, *_ in rows
        if name in shapes and shape <= shapes[name]
    }
    return Positions(positions, *rows[0][4:])


def build_lock(keys: Iterable[GenerationKey], position: int) -> BoundStatement:
    """The statement that locks the checkpoints that are at `position` and that no other process has locked,
    until the transaction ends. Its rows tell which, for `read_locked`."""
    return bind(_LOCK, {"keys": list(map(str, keys)), "position": position})


def read_locked(rows: Iterable[TupleRow]) -> dict[GenerationKey, bool]:
    """The checkpoints that were locked, each with whether it has parked streams."""
    return {GenerationKey(name, generation): parked for name, generation, parked in rows}


async def find_parked(
    conn: Conn, keys: Iterable[GenerationKey], streams: Iterable[str]
) -> list[tuple[GenerationKey, str]]:
    """Which of `streams` are parked, and in which of the generations."""
    cur = await conn.execute(_PARKED_STREAMS, {"wanted": _encode_keys(keys), "streams": list(streams)})
    return [(GenerationKey(name, generation), stream) for name, generation, stream in await cur.fetchall()]


async def load_parked(conn: Conn, targets: Iterable[Target], streams: Iterable[str]) -> None:
    """Tell each target which of the streams it has parked."""
    targets_by_key = {target.key: target for target in targets}
    if targets_by_key:
        for key, stream in await find_parked(conn, targets_by_key, streams):
            targets_by_key[key].parked_streams.add(stream)


def build_move(keys: Iterable[GenerationKey], position: int, *, notify: bool) -> BoundStatement:
    """The statement that moves locked checkpoints to the event at `position`. With `notify`, the commit
    notifies readers."""
    bindings = {"position": position, "channel": APPLIED_CHANNEL, "notify": notify}
    return bind(_MOVE, {"keys": list(map(str, keys)), **bindings})


async def save_parked(conn: Conn, target: Target) -> None:
    """Record the streams that a batch parked."""
    for stream, position, error, _ in target.newly_parked:
        parameters: dict[str, Any] = {"stream": stream, "position": position, "error": error}
        await conn.execute(_PARK, parameters | target.key._asdict())


async def find_still_parked(conn: Conn, name: str, stream: str) -> dict[int, StillParked]:
    """The generations of a projection that have parked the stream."""
    cur = await conn.execute(_GENERATIONS_WITH_PARKED_STREAM, {"projection": name, "stream": stream})
    return {generation: StillParked(shape, error) for generation, shape, error in await cur.fetchall()}


async def unpark(conn: Conn, key: GenerationKey, stream: str) -> tuple[int, int] | None:
    """Lock the checkpoint, waiting for the process that has it, and unpark the stream. Returns the first and
    the last position that was not applied; None when the stream is not parked."""
    parameters = {"stream": stream, **key._asdict()}
    checkpoint = await fetch_one(conn, _LOCK_CHECKPOINT, parameters)
    parked = await fetch_one(conn, _PARKED_POSITION, parameters)
    if checkpoint is None or parked is None:
        return None
    await conn.execute(_UNPARK, parameters)
    return parked[0], checkpoint[0]


def _encode_keys(keys: Iterable[GenerationKey]) -> str:
    return msgspec.json.encode([key._asdict() for key in keys]).decode()
