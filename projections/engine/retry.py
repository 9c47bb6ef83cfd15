"""Retries a parked stream: applies its events from the one at which it was parked, once the fault is fixed.

An operator's action calls it through `Engine.retry`, which passes in its connection and clock.
"""

from __future__ import annotations

import psycopg

from ledger.errors import InvalidProjectionState
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec
from ledger.store.log import read_stream
from projections.engine import checkpoints, operations
from projections.engine.aggregates import AggregateCache, UnreadableStream, detect_unreadable, load_states
from projections.engine.batch import BatchFold, GenerationKey, Target
from projections.engine.daily_partitions import DailyPartitions
from projections.engine.operations import Operator
from projections.engine.writes import write_each
from projections.projection import Projection


async def retry_stream(
    conn: Conn, codec: Codec, projection: Projection, stream: str, operator: Operator, now: float
) -> bool:
    """Apply the events of a parked stream, in order, up to the checkpoint of each generation that parked it;
    False when one had to park it again. `now` in unix seconds, by the one clock.

    Raises InvalidProjectionState when there is nothing to retry, the stream cannot be read, or only a later
    release can retry it; AlreadyDone; psycopg.Error.
    """
    all_applied = True
    for generation in await _find_retryable(conn, projection, stream):
        target = Target.create(projection, generation, now)
        try:
            all_applied &= await _retry_generation(conn, codec, target, stream, operator)
        except UnreadableStream as error:
            raise InvalidProjectionState(
                f"Projection {projection.name} cannot read the events of {stream}: {error}"
            ) from None
        operator = operator._replace(idempotency_key=None)  # the first record carries the call's key
    return all_applied


async def _find_retryable(conn: Conn, projection: Projection, stream: str) -> list[int]:
    """The generations that parked the stream and have a checkpoint. Raises InvalidProjectionState."""
    name = projection.name
    shapes = await checkpoints.find_generations_with_parked_stream(conn, name, stream)
    if not shapes:
        raise InvalidProjectionState(
            f"Stream {stream} is not parked in projection {name}; there is nothing to retry."
        )
    for generation, shape in shapes.items():
        # This release would omit the columns that only a later shape has, and nobody would notice.
        if shape is not None and shape > projection.shape:
            raise InvalidProjectionState(
                f"Generation {generation} of {name} was built by a later release. "
                "Run the command of that release."
            )
    retryable = [generation for generation, shape in shapes.items() if shape is not None]
    if not retryable:
        raise InvalidProjectionState(
            f"Stream {stream} is parked in generation {max(shapes)} of {name}, which is still being "
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
            position_range = await checkpoints.unpark(conn, target.key, stream)
            if position_range is None:
                return True
            first_position, upto = position_range
            with detect_unreadable():
                events = await read_stream(conn, codec, stream, upto=upto)
            parked_events = [item for item in events if item.position >= first_position]
            fold = BatchFold([target])
            missing_days = partitions.find_missing(fold.get_days(parked_events))
            if missing_days:
                raise psycopg.Rollback
            fold.states, load_errors = await load_states(
                conn, codec, AggregateCache(0), fold.get_prior_versions(parked_events), first_position - 1
            )
            fold.apply_events(parked_events, load_errors)
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
