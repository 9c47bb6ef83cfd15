"""Fan out the feed's Events: create one delivery per Event and subscribed endpoint, exactly once.

Reads the live generation of the projection `feed` behind a checkpoint of its own. A step is one transaction
that locks the checkpoint, inserts deliveries and moves the checkpoint; so any number of processes may run
steps. An endpoint gets the Events of its account, mode and types that occurred while it existed and was
enabled: it is folded as of each Event's position. A rebuild or promotion of the feed sends nothing again.
"""

from __future__ import annotations

from typing import NamedTuple

import structlog

from ledger.clock import Clock
from ledger.domain import webhook_endpoint
from ledger.domain.webhook_endpoint import WebhookEndpointDeleted, WebhookEndpointSecretRotated
from ledger.postgres.connections import ANSWER_GRACE_SECONDS, Conn, ReconnectingConnection
from ledger.postgres.pipelines import BoundStatement, PipelinedTransaction, bind
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.postgres.statements import parse_statement
from ledger.store.codec import Codec
from ledger.store.log import PLANNER_SETTINGS
from ledger.store.store import Store
from ledger.webhooks.health import withdraw
from ledger.webhooks.late import LateFanout, build_record_parked, record_unreadable
from ledger.webhooks.subscriptions import (
    RANGE_EVENTS_MAX,
    build_insert,
    build_range_queries,
    match_range,
)

# A process that hangs in a step must lose its lock, so that another one can continue.
STATEMENT_SECONDS_MAX = 60
SETTINGS = (
    PLANNER_SETTINGS
    | LOCAL_COMMITS
    | {
        "idle_in_transaction_session_timeout": "10s",
        "statement_timeout": f"{STATEMENT_SECONDS_MAX}s",
    }
)
"""Of a session that puts Events into the queue of deliveries."""
_ENDPOINT_TOPICS = [event.TOPIC for event in webhook_endpoint.EVENTS]

_LOCK_CHECKPOINT = parse_statement("SELECT position FROM webhooks.checkpoint FOR UPDATE SKIP LOCKED")
_PROGRESS = parse_statement("""
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
""")
_LIVE_GENERATIONS = parse_statement("""
SELECT feed.generation, endpoints.generation FROM projections.live feed, projections.live endpoints
WHERE feed.projection = 'feed' AND endpoints.projection = 'webhook_endpoints'
""")
_MOVE_CHECKPOINT = parse_statement("UPDATE webhooks.checkpoint SET position = %(upto)s")

# Both after the checkpoint, which is locked.
_NEXT_ENDPOINT_CHANGE = parse_statement(f"""
SELECT e.notification_id, e.originator_id, e.topic FROM ledger.events e
WHERE e.notification_id > (SELECT position FROM webhooks.checkpoint)
  AND e.notification_id <= (SELECT position FROM webhooks.checkpoint) + {RANGE_EVENTS_MAX}
  AND e.topic = ANY (%(topics)s::text[])
ORDER BY e.notification_id LIMIT 1
""")  # noqa: S608 (a constant)
_NEXT_PARKED_ENDPOINT = parse_statement("""
SELECT min(position) FROM projections.parked
WHERE projection = 'webhook_endpoints'
  AND generation = (SELECT generation FROM projections.live WHERE projection = 'webhook_endpoints')
  AND position > (SELECT position FROM webhooks.checkpoint)
""")
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


class _Change(NamedTuple):
    """A change of an endpoint."""

    position: int
    endpoint: str
    topic: str


class _Start(NamedTuple):
    """Where a step begins, and the next positions at which an endpoint changes, and from which on one is
    parked, if any."""

    checkpoint: int
    progress: _Progress
    change: _Change | None
    parked_at: int | None


class _GenerationRetired(Exception):
    """A generation that the step has read is not the live one any more."""


class Fanout:
    """Fans out for one process. Its steps must not run concurrently: they share a connection."""

    def __init__(self, store: Store) -> None:
        self._codec: Codec = store.codec
        self._clock: Clock = store.clock
        self._late_fanout = LateFanout(store.codec)
        self._connection = ReconnectingConnection(
            store.dsn,
            "ledger_api",
            name="webhooks fan-out",
            settings=SETTINGS,
            prepare_threshold=None,
            answer_seconds=STATEMENT_SECONDS_MAX + ANSWER_GRACE_SECONDS,
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.drop()

    async def advance(self) -> FanoutResult:
        """One step: advance by RANGE_EVENTS_MAX positions of the log at most. Does nothing while another
        process has the checkpoint. Raises psycopg.Error; then nothing has changed."""
        async with self._connection as conn:
            await self._clock.refresh(conn)
            try:
                async with PipelinedTransaction(conn) as transaction:
                    start = await _begin(transaction)
                    return FanoutResult() if start is None else await self._advance(transaction, start)
            except _GenerationRetired:
                return FanoutResult(has_more=True)

    async def _advance(self, transaction: PipelinedTransaction, start: _Start) -> FanoutResult:
        checkpoint, progress = start.checkpoint, start.progress
        projected_position = min(progress.feed_position, progress.endpoints_position)
        new_deliveries, has_more = 0, False
        if progress.any_late_streams and checkpoint <= progress.feed_position:
            new_deliveries, has_more = await self._late_fanout.fan_out_recovered(
                transaction.conn,
                progress.feed_generation,
                progress.endpoints_generation,
                upto=checkpoint,
                now=self._clock.now(),
            )
        upto, change = projected_position, None
        reads: list[BoundStatement] = []
        if projected_position > checkpoint and progress.any_endpoints:
            upto, change = _choose_end(start, projected_position)
            reads = _build_reads(start, upto)
        *rows, live = await transaction.fetch(*reads, bind(_LIVE_GENERATIONS, {}))
        # A generation that was retired meanwhile may have lost rows while they were read.
        if live != [(progress.feed_generation, progress.endpoints_generation)]:
            raise _GenerationRetired
        writes: list[BoundStatement] = []
        if reads:
            matches, failures = await match_range(transaction.conn, self._codec, *rows[1:])
            await record_unreadable(transaction.conn, failures, checkpoint + 1)
            writes = build_insert(matches, self._clock.now())
        has_inserts = bool(writes)
        if upto > checkpoint:
            writes.append(bind(_MOVE_CHECKPOINT, {"upto": upto}))
        if change is None:
            results = await transaction.commit(*writes)
        else:
            results = await transaction.fetch(*writes)
            await _apply_change(transaction.conn, change)
        if has_inserts:
            new_deliveries += results[0][0][0]
        return FanoutResult(
            new_deliveries=new_deliveries,
            checkpoint_moved=upto > checkpoint,
            has_more=has_more or checkpoint < upto < projected_position,
            feed_behind=projected_position < progress.head,
            no_endpoints=not progress.any_endpoints,
        )


def _build_reads(start: _Start, upto: int) -> list[BoundStatement]:
    """The statements that read the Events after the checkpoint and up to `upto`, a range in which no endpoint
    changes, and the endpoints."""
    generations = start.progress.feed_generation, start.progress.endpoints_generation
    # What is parked is recorded before any rows are read: a stream that recovers in between is then fanned
    # out twice instead of never, and the second time inserts nothing.
    return [
        build_record_parked(*generations, upto),
        *build_range_queries(*generations, after=start.checkpoint, upto=upto),
    ]


async def _begin(transaction: PipelinedTransaction) -> _Start | None:
    """Lock the checkpoint until the transaction ends. None when another process has it, and until the
    projections `feed` and `webhook_endpoints` exist."""
    checkpoint, progress, change, parked = await transaction.fetch(
        bind(_LOCK_CHECKPOINT, {}),
        bind(_PROGRESS, {}),
        bind(_NEXT_ENDPOINT_CHANGE, {"topics": _ENDPOINT_TOPICS}),
        bind(_NEXT_PARKED_ENDPOINT, {}),
    )
    if not checkpoint or not progress:
        return None
    next_change = _Change(*change[0]) if change else None
    return _Start(checkpoint[0][0], _Progress(*progress[0]), next_change, parked[0][0])


def _choose_end(start: _Start, projected_position: int) -> tuple[int, _Change | None]:
    """The last position of the step's range, and the change of an endpoint that is there, if any. A range
    ends at the next change, so all its Events see the same endpoints: the change itself makes no Event. So it
    does at a record of an endpoint that cannot be read, which may be a change."""
    upto = min(projected_position, start.checkpoint + RANGE_EVENTS_MAX)
    change = start.change
    if change is not None and change.position <= upto:
        upto = change.position
    else:
        change = None
    if start.parked_at is not None and start.parked_at < upto:
        return start.parked_at, None
    return upto, change


async def _apply_change(conn: Conn, change: _Change) -> None:
    """What a change of an endpoint means for the deliveries that exist."""
    if change.topic == WebhookEndpointSecretRotated.TOPIC:
        log.info("webhook_endpoint_secret_rotated", endpoint=change.endpoint, position=change.position)
    if change.topic == WebhookEndpointDeleted.TOPIC:
        await conn.execute(_DROP_DELIVERIES, {"endpoint": change.endpoint})
        await withdraw(conn, change.endpoint, "deleted")
