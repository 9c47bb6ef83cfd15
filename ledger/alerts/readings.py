"""One look at the service: what the rules need to know, read from the database by a few bounded statements.

Whether something moves is seen by looking more than once: `Movement` remembers since when a number is what it
is, by this process's own clock, which neither a test nor an operator moves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ledger.alerts.obstacles import Obstacles, ObstacleSearch
from ledger.deadlines import read_overdue_seconds
from ledger.metrics.backlogs import (
    ErasureProgress,
    FailingEndpoint,
    Lag,
    Parked,
    SealingLag,
    read_erasures,
    read_lags,
    read_parked,
    read_sealing_lag,
)
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.webhooks.health import read_failing

ENDPOINTS_MAX = 100
"""So many failing endpoints are watched one by one, those first that have failed longest."""
OWNERS_MAX = 200
"""The same of accounts and modes with disputes that are due, those first whose dispute is due first."""
DUE_DISPUTES_MAX = 20_000
IDS_SHOWN_MAX = 5
DUE_PAUSE_SECONDS = 4.0
"""Due dates are days away: they are not counted at each look."""

_FAN_OUT = """
SELECT c.position, f.position - c.position,
       CASE WHEN f.position > c.position
            THEN greatest(0, %(now)s - extract(epoch FROM e.recorded_at)) ELSE 0 END::float8
FROM webhooks.checkpoint c
JOIN projections.live l ON l.projection = 'feed'
JOIN projections.checkpoints f ON f.projection = l.projection AND f.generation = l.generation
LEFT JOIN ledger.events e ON e.notification_id = c.position + 1
"""
_DIFFERING_KEYS = """
SELECT v.projection, v.keys[1:%(ids)s]
FROM projections.verified v
JOIN projections.live l ON l.projection = v.projection AND l.generation = v.generation
WHERE v.differing > 0
"""
# Only those that are due first are looked at; a row has no moment any more once evidence was submitted.
_DUE = """
SELECT p.account, p.livemode, count(*), count(*) FILTER (WHERE d.moment <= %(critical)s), min(d.moment),
       (array_agg(p.id ORDER BY d.moment, p.id))[1:%(ids)s]
FROM (SELECT d.id, d.moment
      FROM projections.live l JOIN projections.deadlines d ON d.generation = l.generation
      WHERE l.projection = 'deadlines' AND d.kind = 'response' AND d.moment <= %(warning)s
      ORDER BY d.moment, d.id LIMIT %(limit)s) AS d
JOIN projections.live l ON l.projection = 'disputes'
JOIN projections.disputes p ON p.generation = l.generation AND p.id = d.id
GROUP BY p.account, p.livemode
ORDER BY min(d.moment), p.account, p.livemode
LIMIT %(owners)s
"""


class FanOutLag(NamedTuple):
    """How far the fan-out of webhooks is behind the live feed. `seconds`: age of the oldest event that it has
    not turned into deliveries."""

    position: int
    events: int
    seconds: float


class DisputesDue(NamedTuple):
    """The disputes of an account and mode that wait for evidence: how many are due soon (`total`), how many
    of these very soon, when the first one is (unix seconds), and the ids of the first."""

    account: str
    livemode: bool
    total: int
    very_soon: int
    first_due_at: int
    ids: Sequence[str]


class Readings(NamedTuple):
    """What one look has found.

    now             by the ledger's clock, in unix seconds
    moved           seconds since each was last seen to move: a projection, `fan-out`, a kind of deadline
    obstacles       None: nothing is so far behind that they were looked for
    absent_seconds  for how long no worker has been seen
    differing       the first keys of rows that differ, by projection
    failing         the endpoints that have failed longest, of `failing_count`
    due             None: not looked at this time
    """

    now: float
    lags: Sequence[Lag]
    moved: Mapping[str, float]
    fan_out: FanOutLag | None
    sealing: SealingLag
    parked: Sequence[Parked] = ()
    obstacles: Obstacles | None = None
    absent_seconds: float = 0.0
    differing: Mapping[str, Sequence[str]] = {}
    failing_count: int = 0
    failing: Sequence[FailingEndpoint] = ()
    overdue_seconds: Mapping[str, float] = {}
    due: Sequence[DisputesDue] | None = None
    erasures: Sequence[ErasureProgress] = ()


class Movement:
    """Since when numbers are what they are, as this process has seen them."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[object, float]] = {}

    def observe(self, name: str, value: object) -> float:
        """Note what is the value now; returns for how many seconds it has been so."""
        now = time.monotonic()
        seen = self._since.get(name)
        if seen is None or seen[0] != value:
            seen = self._since[name] = (value, now)
        return now - seen[1]


class Look:
    """Looks for one process.

    projections    those of this release; None: all that the database has
    waits_seconds  looks for obstacles once something has been behind for so long
    due_seconds    how long before their due dates disputes count, and how long as very soon
    """

    def __init__(
        self,
        projections: Sequence[str] | None,
        *,
        waits_seconds: float,
        due_seconds: tuple[float, float],
    ) -> None:
        self._projections = projections
        self._waits_seconds = waits_seconds
        self._due_seconds = due_seconds
        self._movement = Movement()
        self._obstacles = ObstacleSearch()
        self._due_at = 0.0

    def forget(self) -> None:
        """Forget what was seen: another process has watched since then."""
        self._movement = Movement()
        self._obstacles = ObstacleSearch()
        self._due_at = 0.0

    async def read(self, conn: Conn, now: float) -> Readings:
        """One look at `now` (unix seconds, by the ledger's clock). Raises psycopg.Error."""
        lags = [lag for lag in await read_lags(conn, now, self._projections) if lag.live]
        row = await fetch_one(conn, _FAN_OUT, {"now": now})
        fan_out = None if row is None else FanOutLag(*row)
        sealing = await read_sealing_lag(conn, now)
        overdue = await read_overdue_seconds(conn, now)
        failing_count, failing = await read_failing(conn, now, ENDPOINTS_MAX)
        moved = self._observe_movement(lags, fan_out, overdue)
        obstacles = None
        late = max((lag.seconds for lag in (*lags, sealing, *([fan_out] if fan_out else ()))), default=0.0)
        if late > self._waits_seconds:
            obstacles = await self._obstacles.read(conn)
        has_worker = obstacles is None or obstacles.has_worker
        absent_seconds = self._movement.observe("worker", has_worker)
        return Readings(
            now=now,
            lags=lags,
            moved=moved,
            fan_out=fan_out,
            sealing=sealing,
            parked=await read_parked(conn, self._projections) if any(lag.parked for lag in lags) else (),
            obstacles=obstacles,
            absent_seconds=0.0 if has_worker else absent_seconds,
            differing=await _read_differing(conn) if any(lag.differing for lag in lags) else {},
            failing_count=failing_count,
            failing=failing,
            overdue_seconds=overdue,
            due=await self._read_due(conn, now),
            erasures=await read_erasures(conn),
        )

    def _observe_movement(
        self, lags: Sequence[Lag], fan_out: FanOutLag | None, overdue: Mapping[str, float]
    ) -> dict[str, float]:
        observe = self._movement.observe
        moved = {lag.projection: observe(lag.projection, (lag.generation, lag.position)) for lag in lags}
        if fan_out is not None:
            moved["fan-out"] = observe("fan-out", fan_out.position)
        # A test may move the clock past many due dates at once: how long one is overdue says nothing then.
        return moved | {kind: observe(f"overdue {kind}", seconds > 0) for kind, seconds in overdue.items()}

    async def _read_due(self, conn: Conn, now: float) -> Sequence[DisputesDue] | None:
        monotonic_now = time.monotonic()
        if monotonic_now < self._due_at:
            return None
        warning_seconds, critical_seconds = self._due_seconds
        parameters = {
            "warning": int(now + warning_seconds),
            "critical": int(now + critical_seconds),
            "limit": DUE_DISPUTES_MAX,
            "owners": OWNERS_MAX,
            "ids": IDS_SHOWN_MAX,
        }
        due = [DisputesDue(*row) for row in await fetch_all(conn, _DUE, parameters)]
        self._due_at = monotonic_now + DUE_PAUSE_SECONDS
        return due


async def _read_differing(conn: Conn) -> dict[str, Sequence[str]]:
    return dict(await fetch_all(conn, _DIFFERING_KEYS, {"ids": IDS_SHOWN_MAX}))
