"""What is not done yet, as the database has it: lags of projections and of sealing, parked streams, webhooks,
witnesses. Metrics, readiness and operators' commands show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ledger.errors import parse_reason, printable_topic
from ledger.postgres.connections import Conn, fetch_all, fetch_one

_LAG = """
SELECT c.projection, c.generation, l.generation IS NOT NULL, c.position, h.position - c.position,
       CASE WHEN h.position > c.position
            THEN greatest(0, %(now)s - extract(epoch FROM coalesce(e.recorded_at, h.recorded_at)))
            ELSE 0 END::float8,
       (SELECT count(*) FROM projections.parked p
        WHERE p.projection = c.projection AND p.generation = c.generation),
       coalesce((SELECT v.differing FROM projections.verified v
                 WHERE v.projection = c.projection AND v.generation = c.generation), 0)
FROM ledger.head h
CROSS JOIN projections.checkpoints c
LEFT JOIN projections.live l ON l.projection = c.projection AND l.generation = c.generation
LEFT JOIN ledger.events e ON e.notification_id = c.position + 1
WHERE c.projection = ANY (coalesce(%(projections)s::text[], ARRAY[c.projection]))
ORDER BY c.projection, c.generation
"""
_SEALING = """
SELECT t.size, h.position - t.size,
       CASE WHEN h.position > t.size
            THEN greatest(0, %(now)s - extract(epoch FROM coalesce(e.recorded_at, h.recorded_at)))
            ELSE 0 END::float8,
       extract(epoch FROM now() - t.sealed_at)::float8, t.note <> '', t.error, NOT ledger.is_active_database()
FROM ledger.head h
CROSS JOIN ledger.tree_head t
LEFT JOIN ledger.events e ON e.notification_id = t.size + 1
"""
_UNMIGRATED_KEYS = """
SELECT CASE WHEN m.finished_at IS NULL THEN h.position - m.position + 1 ELSE 0 END
FROM ledger.key_migration m CROSS JOIN ledger.head h
"""
_OLDEST_SNAPSHOTS = "SELECT holder, seconds, transactions FROM ledger.oldest_snapshots()"
# The first ones: a label for each of many would overload whoever stores the metrics.
_PARKED = """
SELECT p.projection, p.generation, p.stream, p.position, p.error, coalesce(e.topic, '')
FROM projections.parked p LEFT JOIN ledger.events e ON e.notification_id = p.position
WHERE p.projection = ANY (coalesce(%(projections)s::text[], ARRAY[p.projection]))
ORDER BY p.position, p.projection, p.generation LIMIT 20
"""
# Those first that have stood still longest. `moved_at` is by the database's own clock.
_ERASURES = """
SELECT e.job, e.step, coalesce(e.obstacle, ''),
       extract(epoch FROM clock_timestamp() - e.moved_at)::float8
FROM ledger.erasures e WHERE e.ended_at IS NULL ORDER BY e.moved_at LIMIT 20
"""


class Lag(NamedTuple):
    """How far one generation of a projection is behind the log.

    position   the last position applied
    events     how many events are not applied yet
    seconds    age of the oldest event not applied; 0 when there is none
    parked     how many streams are parked
    differing  rows that verification found to differ from a replay, until a full verification finds none
    """

    projection: str
    generation: int
    live: bool
    position: int
    events: int
    seconds: float
    parked: int
    differing: int


class Parked(NamedTuple):
    """A stream that a generation has parked from `position` on; `topic` is that of the event there, `reason`
    a code (`errors.parse_reason`)."""

    projection: str
    generation: int
    stream: str
    position: int
    reason: str
    topic: str


class FailingEndpoint(NamedTuple):
    """A webhook endpoint that has accepted nothing since `since` (unix seconds), although it was tried.

    seconds   how long ago that is
    attempts  how many attempts have failed since then
    given_up  deliveries without a further attempt, of these
    pending   deliveries that wait for an attempt, counted up to a bound
    status    what it answered last; None when it did not answer
    error     why it did not (`webhooks.http_client.classify_error`); None when it answered
    retry_at  when it is tried again, if its breaker is open (`webhooks.schedule.breaker`); else None
    """

    endpoint: str
    account: str
    livemode: bool
    since: float
    seconds: float
    attempts: int
    given_up: int
    pending: int
    last_attempt_at: float
    status: int | None
    error: str | None
    retry_at: float | None = None


class WebhookBacklog(NamedTuple):
    """Webhook work that is not finished.

    deliveries_by_state  unfinished deliveries by state, counted up to a bound
    oldest_due_seconds   for how long the oldest due delivery has been due; 0 for none
    lag_events           events of the log that are not fanned out yet
    off_by_reason        whether none are sent, by each reason for it
    failing_count        endpoints that fail
    failing              the first of them: those that have failed longest
    """

    deliveries_by_state: Mapping[str, int]
    oldest_due_seconds: float
    lag_events: int
    off_by_reason: Mapping[str, bool]
    failing_count: int = 0
    failing: Sequence[FailingEndpoint] = ()


READY_LAG_SECONDS_MAX = 30.0
"""So far may a projection or sealing be behind while the service is ready."""


class SealingLag(NamedTuple):
    """How far the Merkle tree is behind the log.

    size          how many records are sealed
    events        how many are not; negative when the log was cut
    seconds       age of the oldest record that is not sealed; 0 when there is none
    idle_seconds  since the tree was last sealed
    has_begun     whether it was ever sealed
    error         why sealing has stopped; None while it works
    is_copy       whether sealing waits, because this database is a copy of the one that acts
    """

    size: int
    events: int
    seconds: float
    idle_seconds: float
    has_begun: bool
    error: str | None
    is_copy: bool

    def is_stuck(self, seconds_max: float) -> bool:
        """Whether sealing has stopped, or has not moved for `seconds_max` although it is as far behind.

        It is not stuck while it works on a long backlog, nor in a copy, nor before its first start: API
        processes that are upgraded before the workers serve as ever."""
        has_stopped = self.error is not None or self.events < 0
        is_idle = self.has_begun and not self.is_copy and min(self.seconds, self.idle_seconds) > seconds_max
        return has_stopped or is_idle


class ErasureProgress(NamedTuple):
    """An erasure that has not ended: the step under way, why that cannot go on ('' while nothing is known),
    and for how many seconds it has not moved."""

    job: str
    step: str
    obstacle: str
    seconds: float


class WitnessStatus(NamedTuple):
    """What is known of a witness that cosigns our checkpoints.

    witness         its id: name and key id of its first key
    size            of the last checkpoint that it cosigned; 0 for none
    state           how it answered last (`tree.witnesses.cosignatures.WitnessState`)
    reason          why it does not cosign; None while it does
    behind_seconds  age of the oldest kept checkpoint after that; 0 when there is none
    """

    witness: str
    size: int
    state: str
    reason: str | None
    behind_seconds: float


class ReplicaStatus(NamedTuple):
    """How a replica was when this process last looked at it.

    is_used      whether it is asked
    lag_events   how many events it did not have yet; None while that is not known
    lag_seconds  age of the oldest of them; 0 when there was none
    """

    is_used: bool = False
    lag_events: int | None = None
    lag_seconds: float | None = None


class OldestSnapshot(NamedTuple):
    """The oldest of what keeps old versions of rows, of one kind of holder.

    seconds       since it began; None where Postgres does not say
    transactions  how many have begun since; 0 when there is none of this kind
    """

    holder: str
    seconds: float | None
    transactions: int


class Measured(NamedTuple):
    """What the metrics show of the database; nothing while it cannot be reached. `overdue_seconds` is by kind
    of deadline, `active_alerts` by kind and severity. `unmigrated_keys` are the positions of the log whose
    keys the key migration has still to keep."""

    lags: Sequence[Lag] = ()
    parked: Sequence[Parked] = ()
    overdue_seconds: Mapping[str, float] = MappingProxyType({})
    webhooks: WebhookBacklog | None = None
    sealing: SealingLag | None = None
    witnesses: Sequence[WitnessStatus] = ()
    snapshots: Sequence[OldestSnapshot] = ()
    active_alerts: Mapping[tuple[str, str], int] = MappingProxyType({})
    erasures: Sequence[ErasureProgress] = ()
    unmigrated_keys: int = 0


NOTHING_MEASURED = Measured()


async def read_lags(conn: Conn, now: float, projections: Sequence[str] | None = None) -> list[Lag]:
    """The lag of each generation of `projections` at `now` (unix seconds); None: of all that the database
    has, also of those that only another release has. Raises psycopg.Error."""
    parameters = {"now": now, "projections": None if projections is None else list(projections)}
    return [Lag(*row) for row in await fetch_all(conn, _LAG, parameters)]


async def read_sealing_lag(conn: Conn, now: float) -> SealingLag:
    """The lag of the Merkle tree at `now` (unix seconds). Raises psycopg.Error."""
    row = await fetch_one(conn, _SEALING, {"now": now})
    assert row is not None
    return SealingLag(*row)


async def read_oldest_snapshots(conn: Conn) -> list[OldestSnapshot]:
    """What keeps Postgres from removing old versions of rows, by kind of holder. Raises psycopg.Error."""
    return [OldestSnapshot(*row) for row in await fetch_all(conn, _OLDEST_SNAPSHOTS)]


async def read_unmigrated_keys(conn: Conn) -> int:
    """The positions of the log that the key migration has still to look at, and one for its end; 0 once it
    has finished. Raises psycopg.Error."""
    row = await fetch_one(conn, _UNMIGRATED_KEYS)
    assert row is not None
    return int(row[0])


async def read_erasures(conn: Conn) -> list[ErasureProgress]:
    """The 20 erasures that have not ended and have stood still longest. Raises psycopg.Error."""
    return [ErasureProgress(*row) for row in await fetch_all(conn, _ERASURES)]


async def read_parked(conn: Conn, projections: Sequence[str] | None = None) -> list[Parked]:
    """The 20 streams that were parked first in the order of the log, by `projections`; None: by any. Raises
    psycopg.Error."""
    parameters = {"projections": None if projections is None else list(projections)}
    return [
        Parked(name, generation, stream, position, parse_reason(error), printable_topic(topic))
        for name, generation, stream, position, error, topic in await fetch_all(conn, _PARKED, parameters)
    ]
