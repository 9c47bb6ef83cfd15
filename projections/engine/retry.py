"""Retries a parked stream: applies its events from the one at which it was parked, once the fault is fixed.

An operator's action calls `retry_stream` through `Engine.retry`, which passes in its connection and clock.
Workers call `retry_readable` by themselves: what an older release or a missing key left unread is applied
soon after it can be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import msgspec
import psycopg

from ledger.errors import InvalidProjectionState, UnreadableReason, UnreadableRecord
from ledger.postgres.connections import Conn, fetch_all
from ledger.postgres.migrations import may_compress
from ledger.store.codec import Codec, fold
from ledger.store.log import read_stream
from projections.engine import checkpoints, operations
from projections.engine.aggregates import AggregateCache, load_states
from projections.engine.batch import BatchFold, GenerationKey, Target, load_keyrings
from projections.engine.daily_partitions import DailyPartitions
from projections.engine.operations import Operator
from projections.engine.writes import write_each
from projections.projection import Projection
from projections.stored_rows import RowEncoder

# Those of generations that this release may write: see `checkpoints`.
_UNREADABLE_STREAMS = """
SELECT p.projection, p.stream, max(p.position)
FROM projections.parked p
JOIN projections.checkpoints c USING (projection, generation)
JOIN json_to_recordset(%(known)s::json) AS known(projection text, shape integer)
    ON known.projection = p.projection AND c.shape <= known.shape
WHERE split_part(p.error, ':', 1) = ANY (%(reasons)s::text[])
AND (p.projection, p.stream) > (%(projection)s, %(stream)s)
GROUP BY p.projection, p.stream ORDER BY p.projection, p.stream LIMIT %(limit)s
"""
# The engine's connection does not wait for its commits to be flushed; what an operator was told is kept.
_SYNCHRONOUS_COMMIT = "SET LOCAL synchronous_commit = on"
_AUTOMATIC = Operator("ledger", "its records can be read now")


class ParkedIn(NamedTuple):
    """A stream that a projection has parked."""

    projection: str
    stream: str


FIRST_PARKED = ParkedIn("", "")
"""It precedes all others."""
# Reading one stream takes about a millisecond.
RETRY_PAGE_STREAMS = 100


async def retry_readable(
    conn: Conn,
    codec: Codec,
    projections: Mapping[str, Projection],
    now: float,
    *,
    after: ParkedIn,
    limit: int,
) -> tuple[list[ParkedIn], ParkedIn | None]:
    """Retry the next `limit` streams after `after` that were parked because a record could not be read, and
    that can be read now up to where they were parked. Returns those that are applied to the end, and the last
    one looked at; None at the end. `now` in unix seconds, by the one clock. Raises psycopg.Error.
    """
    known = [{"projection": each.name, "shape": each.shape} for each in projections.values()]
    rows = await fetch_all(
        conn,
        _UNREADABLE_STREAMS,
        {
            "known": msgspec.json.encode(known).decode(),
            "reasons": [reason.value for reason in UnreadableReason],
            "limit": limit,
            **after._asdict(),
        },
    )
    applied: list[ParkedIn] = []
    for name, stream, position in rows:
        try:
            fold(item.event for item in await read_stream(conn, codec, stream, upto=position))
        except UnreadableRecord:
            continue
        with suppress(InvalidProjectionState):  # another process was first, or a later release's generation
            if await retry_stream(conn, codec, projections[name], stream, _AUTOMATIC, now):
                applied.append(ParkedIn(name, stream))
    return applied, ParkedIn(*rows[-1][:2]) if len(rows) == limit else None


async def retry_stream(
    conn: Conn, codec: Codec, projection: Projection, stream: str, operator: Operator, now: float
) -> bool:
    """Apply the events of a parked stream, in order, up to the checkpoint of each generation that parked it;
    False when one had to park it again. `now` in unix seconds, by the one clock.

    Raises InvalidProjectionState when there is nothing to retry, or only a later release can retry it;
    AlreadyDone; psycopg.Error.
    """
    all_applied = True
    for generation in await _find_retryable(conn, projection, stream):
        encoder = RowEncoder(codec, compressed=await may_compress(conn))
        target = Target.create(projection, generation, now, encoder=encoder)
        all_applied &= await _retry_generation(conn, codec, target, stream, operator)
        operator = operator._replace(idempotency_key=None)  # the first record carries the call's key
    return all_applied


async def _find_retryable(conn: Conn, projection: Projection, stream: str) -> list[int]:
    """The generations that parked the stream and have a checkpoint. Raises InvalidProjectionState."""
    name = projection.name
    still_parked = await checkpoints.find_still_parked(conn, name, stream)
    if not still_parked:
        raise InvalidProjectionState(
            f"Stream {stream} is not parked in projection {name}; there is nothing to retry."
        )
    for generation, (shape, _) in still_parked.items():
        # This release would omit the columns that only a later shape has, and nobody would notice.
        if shape is not None and shape > projection.shape:
            raise InvalidProjectionState(
                f"Generation {generation} of {name} was built by a later release. "
                "Run the command of that release."
            )
    retryable = [generation for generation, (shape, _) in still_parked.items() if shape is not None]
    if not retryable:
        raise InvalidProjectionState(
            f"Stream {stream} is parked in generation {max(still_parked)} of {name}, which is still being "
            "backfilled. Retry after it has caught up."
        )
    return retryable


async def _retry_generation(
    conn: Conn, codec: Codec, target: Target, stream: str, operator: Operator
) -> bool:
    partitions = DailyPartitions()
    while True:
        missing_days: dict[GenerationKey, set[int]] = {}
        async with conn.transaction():
            await conn.execute(_SYNCHRONOUS_COMMIT)
            await codec.data_keys.watch.hold(conn)
            position_range = await checkpoints.unpark(conn, target.key, stream)
            if position_range is None:
                return True
            first_position, upto = position_range
            events = await read_stream(conn, codec, stream, upto=upto)
            parked_events = [item for item in events if item.position >= first_position]
            fold = BatchFold([target])
            missing_days = partitions.find_missing(fold.get_days(parked_events))
            if missing_days:
                raise psycopg.Rollback
            fold.states, fold.failures = await load_states(
                conn, codec, AggregateCache(0), fold.get_prior_versions(parked_events), first_position - 1
            )
            fold.apply_events(parked_events)
            await load_keyrings(conn, [target])
            write_errors = await write_each(conn, [target])
            if write_errors:
                raise psycopg.Rollback
            await checkpoints.save_parked(conn, target)
            details = {"stream": stream, "healed": not target.newly_parked}
            await operations.record(conn, operator, "retry", *target.key, upto, details)
        if not missing_days:
            return not write_errors and not target.newly_parked
        # Partitions are created outside of the transaction that writes; it starts again when they exist.
        await partitions.create(conn, missing_days)
