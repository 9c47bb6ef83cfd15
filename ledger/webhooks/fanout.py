"""Fan out the feed's Events: create one delivery per Event and subscribed endpoint, exactly once.

Reads the live generation of the projection `feed` behind a checkpoint of its own. A step is one transaction
that locks the checkpoint, inserts deliveries and moves the checkpoint; so any number of processes may run
steps. An endpoint gets the Events of its account, mode and types that occurred while it existed and was
enabled: it is folded as of each Event's position. A rebuild or promotion of the feed sends nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg
import structlog
from psycopg.rows import TupleRow

from ledger.clock import Clock
from ledger.domain import webhook_endpoint
from ledger.domain.webhook_endpoint import WebhookEndpointDeleted, WebhookEndpointSecretRotated
from ledger.postgres.connections import Conn, ReconnectingConnection, fetch_all, fetch_one
from ledger.store.codec import Codec
from ledger.store.log import PLANNER_OPTIONS
from ledger.store.store import Store
from ledger.webhooks.health import withdraw
from ledger.webhooks.late import (
    LateFanout,
    find_next_parked_endpoint,
    record_parked,
    record_unreadable,
)
from ledger.webhooks.subscriptions import (
    RANGE_EVENTS_MAX,
    find_candidates,
    insert_deliveries,
    load_events_of_accounts,
    match,
    read_endpoints,
)

# A process that hangs in a step must lose the lock of the checkpoint, so that another one can continue.
_OPTIONS = f"{PLANNER_OPTIONS} -c idle_in_transaction_session_timeout=10s -c statement_timeout=60s"
_ENDPOINT_TOPICS = [event.TOPIC for event in webhook_endpoint.EVENTS]

_LOCK_CHECKPOINT = "SELECT position FROM webhooks.checkpoint FOR UPDATE SKIP LOCKED"
_PROGRESS = """
SELECT h.position, f.generation, f.position, e.generation, e.position,
       EXISTS (SELECT FROM projections.webhook_endpoints w WHERE w.generation = e.generation)
       OR EXISTS (SELECT FROM projections.parked p
                  WHERE p.projection = 'webhook_endpoints' AND p.generation = e.generation),
       EXISTS (SELECT FROM webhooks.late)
FROM ledger.head h
JOIN projections.live lf ON lf.projection = 'feed'
JOIN projections.checkpoints f ON f.projection = lf.projection AND f.generation = lf.generation
JOIN projections.live le ON le.projection = 'webhook_endpoints'
JOIN projections.checkpoints e ON e.projection = le.projection AND e.generation = le.generation
"""
_LIVE_GENERATIONS = """
SELECT feed.generation, endpoints.generation FROM projections.live feed, projections.live endpoints
WHERE feed.projection = 'feed' AND endpoints.projection = 'webhook_endpoints'
"""
_MOVE_CHECKPOINT = "UPDATE webhooks.checkpoint SET position = %(upto)s"

_NEXT_ENDPOINT_CHANGE = """
SELECT e.notification_id, e.originator_id, e.topic FROM ledger.events e
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s AND e.topic = ANY (%(topics)s::text[])
ORDER BY e.notification_id LIMIT 1
"""
_OWNERS = """
SELECT DISTINCT e.account, e.livemode FROM ledger.events e
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s
"""
_DROP_DELIVERIES = """
UPDATE webhooks.deliveries d SET state = 'dropped'
FROM (SELECT id FROM webhooks.deliveries WHERE endpoint = %(endpoint)s AND state IN ('pending', 'failed')
      ORDER BY id FOR UPDATE) AS locked
WHERE d.id = locked.id
"""

log = structlog.get_logger()


class FanoutResult(NamedTuple):
    """The result of one step.

    new_deliveries    how many deliveries the step created
    checkpoint_moved  whether the step moved the checkpoint
    has_more          whether the next step already has work
    feed_behind       whether the feed, or the projection of endpoints, is behind the log
    no_endpoints      whether no account has had an endpoint yet
    """

    new_deliveries: int = 0
    checkpoint_moved: bool = False
    has_more: bool = False
    feed_behind: bool = False
    no_endpoints: bool = False


class _Progress(NamedTuple):
    head: int
    feed_generation: int
    feed_position: int
    endpoints_generation: int
    endpoints_position: int
    any_endpoints: bool
    any_late_streams: bool


class Fanout:
    """Fans out for one process. Its steps must not run concurrently: they share a connection."""

    def __init__(self, store: Store) -> None:
        self._codec: Codec = store.codec
        self._clock: Clock = store.clock
        self._late_fanout = LateFanout(store.codec)
        self._connection = ReconnectingConnection(
            store.dsn, "ledger_api", name="webhooks fan-out", options=_OPTIONS
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.drop()

    async def advance(self) -> FanoutResult:
        """One step: advance by RANGE_EVENTS_MAX positions of the log at most. Does nothing while another
        process has the checkpoint. Raises psycopg.Error; then nothing has changed."""
        result = FanoutResult()
        async with self._connection as conn:
            await self._clock.refresh(conn)
            async with conn.transaction():
                checkpoint = await _lock_checkpoint(conn)
                progress = await _read_progress(conn)
                if checkpoint is None or progress is None:
                    return result
                result = await self._advance_range(conn, checkpoint, progress)
                # A generation that was retired meanwhile may have lost rows while they were read.
                if await _read_live_generations(conn) != (
                    progress.feed_generation,
                    progress.endpoints_generation,
                ):
                    result = FanoutResult(has_more=True)
                    raise psycopg.Rollback
        return result

    async def _advance_range(self, conn: Conn, checkpoint: int, progress: _Progress) -> FanoutResult:
        projected_position = min(progress.feed_position, progress.endpoints_position)
        result = FanoutResult(
            feed_behind=projected_position < progress.head,
            no_endpoints=not progress.any_endpoints,
        )
        if progress.any_late_streams and checkpoint <= progress.feed_position:
            new_deliveries, has_more = await self._late_fanout.fan_out_recovered(
                conn,
                progress.feed_generation,
                progress.endpoints_generation,
                upto=checkpoint,
                now=self._clock.now(),
            )
            result = result._replace(new_deliveries=new_deliveries, has_more=has_more)
        if projected_position <= checkpoint:
            return result
        upto, new_deliveries = projected_position, result.new_deliveries
        if progress.any_endpoints:
            upto = min(projected_position, checkpoint + RANGE_EVENTS_MAX)
            change = await _fetch_one(
                conn, _NEXT_ENDPOINT_CHANGE, {"after": checkpoint, "upto": upto, "topics": _ENDPOINT_TOPICS}
            )
            # A range ends at the next change of an endpoint, so all its Events see the same endpoints: the
            # change itself makes no Event.
            if change is not None:
                upto = change[0]
            # So it does at a record of an endpoint that cannot be read, which may be a change.
            parked_at = await find_next_parked_endpoint(
                conn, progress.endpoints_generation, after=checkpoint, upto=upto
            )
            if parked_at is not None and parked_at < upto:
                upto, change = parked_at, None
            # Before the rows are read: a stream that recovers in between is then fanned out twice instead of
            # never, and the second time inserts nothing.
            await record_parked(conn, progress.feed_generation, progress.endpoints_generation, upto)
            new_deliveries += await self._fan_out_range(conn, checkpoint, upto, progress)
            if change is not None and change[2] == WebhookEndpointSecretRotated.TOPIC:
                log.info("webhook_endpoint_secret_rotated", endpoint=change[1], position=change[0])
            if change is not None and change[2] == WebhookEndpointDeleted.TOPIC:
                await conn.execute(_DROP_DELIVERIES, {"endpoint": change[1]})
                await withdraw(conn, change[1], "deleted")
        await conn.execute(_MOVE_CHECKPOINT, {"upto": upto})
        return result._replace(
            new_deliveries=new_deliveries,
            checkpoint_moved=True,
            has_more=result.has_more or upto < projected_position,
        )

    async def _fan_out_range(self, conn: Conn, after: int, upto: int, progress: _Progress) -> int:
        """Fan out the Events after `after` and up to `upto`, a range in which no endpoint changes; returns
        how many deliveries are new."""
        owners = await fetch_all(conn, _OWNERS, {"after": after, "upto": upto})
        candidates = await find_candidates(conn, owners, progress.endpoints_generation)
        if not candidates:
            return 0
        endpoints, failures = await read_endpoints(conn, self._codec, candidates, after)
        await record_unreadable(conn, failures, after + 1)
        accounts = sorted({account for account, _ in candidates})
        events = await load_events_of_accounts(
            conn, progress.feed_generation, accounts, after=after, upto=upto
        )
        matches = [found for event in events for found in match(event, candidates, endpoints)]
        return await insert_deliveries(conn, matches, self._clock.now())


async def _lock_checkpoint(conn: Conn) -> int | None:
    """The checkpoint's position, locked until the transaction ends; None when another process has it."""
    row = await _fetch_one(conn, _LOCK_CHECKPOINT, {})
    return None if row is None else int(row[0])


async def _read_progress(conn: Conn) -> _Progress | None:
    """None until the projections `feed` and `webhook_endpoints` exist."""
    row = await _fetch_one(conn, _PROGRESS, {})
    return None if row is None else _Progress(*row)


async def _read_live_generations(conn: Conn) -> TupleRow | None:
    return await _fetch_one(conn, _LIVE_GENERATIONS, {})


async def _fetch_one(conn: Conn, query: str, parameters: Mapping[str, Any]) -> TupleRow | None:
    return await fetch_one(conn, query.encode(), parameters)
