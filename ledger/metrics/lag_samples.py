"""Lag over time: what follows the log is measured every ten seconds, and the last day of it is kept.

Each process that may measure does so, API processes too, so that a lag is on record while no worker runs. The
first one in each ten seconds writes: the others find the slot taken and measure nothing. Samples are of use
for a plot only; nothing acts on them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from ledger.background import BackgroundLoop
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, Conn, fetch_all, open_connection
from ledger.postgres.sessions import LOCAL_COMMITS

SAMPLE_SECONDS = 10
RETENTION_SECONDS = 86_400
POINTS_MAX = 500
"""Points of one series in an answer: a bucket of time has the highest of its samples."""
SEALING = "sealing"
FANOUT = "webhook fan-out"
"""The series that are no projections: names that none can have."""

# One statement. A slot that is taken costs one look at an index: the measurement refers to `free`, so that it
# is not made then. Two processes that look at once are told apart by the key. Only what is behind is written:
# to read a day in which little was costs little.
_WRITE = """
WITH slot AS MATERIALIZED (
    SELECT (extract(epoch FROM now())::bigint / %(every)s) AS number
), free AS MATERIALIZED (
    SELECT (number %% %(slots)s)::smallint AS slot, to_timestamp(number * %(every)s) AS at FROM slot
    WHERE NOT EXISTS (
        SELECT FROM projections.lag_samples taken
        WHERE taken.slot = (number %% %(slots)s)::smallint
        AND taken.at >= to_timestamp(number * %(every)s))
)
INSERT INTO projections.lag_samples AS s (slot, at, names, events, seconds)
SELECT free.slot, free.at, measured.names, measured.events, measured.seconds
FROM free CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(f.name ORDER BY f.name), '{}') AS names,
           coalesce(array_agg(h.position - f.position ORDER BY f.name), '{}') AS events,
           coalesce(array_agg(greatest(0, %(now)s - extract(epoch FROM e.recorded_at))::real ORDER BY f.name),
                    '{}') AS seconds
    FROM ledger.head h
    JOIN (
        SELECT l.projection AS name, c.position FROM projections.live l
        JOIN projections.checkpoints c USING (projection, generation)
        UNION ALL SELECT %(sealing)s, size FROM ledger.tree_head
        UNION ALL SELECT %(fanout)s, position FROM webhooks.checkpoint) f ON f.position < h.position
    JOIN ledger.events e ON e.notification_id = f.position + 1
    WHERE free.slot >= 0
) measured
ON CONFLICT ON CONSTRAINT lag_samples_key DO UPDATE
SET at = excluded.at, names = excluded.names, events = excluded.events, seconds = excluded.seconds
WHERE s.at < excluded.at
"""
# Without a name: something was running then, and nothing was behind.
_READ = """
SELECT (extract(epoch FROM s.at)::bigint / %(step)s) * %(step)s, sample.name, max(sample.events),
       round(max(sample.seconds)::numeric, 2)::float8
FROM projections.lag_samples s
LEFT JOIN LATERAL unnest(s.names, s.events, s.seconds) AS sample(name, events, seconds) ON true
WHERE s.at >= to_timestamp(%(from)s) AND s.at <= to_timestamp(%(to)s)
GROUP BY 1, 2 ORDER BY 1, 2
"""
_NAMES = "SELECT projection FROM projections.live"


class Series(NamedTuple):
    """The lag of one follower, one value for each of the times; None where it was not measured."""

    name: str
    events: list[int | None]
    seconds: list[float | None]


class LagSamples(NamedTuple):
    """Lags over time. `times` (unix seconds) are `step` seconds apart, each the beginning of its bucket."""

    step: int
    times: list[int]
    series: list[Series]

    def to_json(self) -> dict[str, Any]:
        """The samples as a JSON object."""
        return {
            "object": "lag_samples",
            "step": self.step,
            "times": self.times,
            "series": [each._asdict() for each in self.series],
        }


class LagSampler:
    """Writes a sample in each slot that no other process has written. `read_now`: the time of the one clock,
    in unix seconds."""

    def __init__(self, dsn: str, read_now: Callable[[Conn], Awaitable[float]]) -> None:
        self._read_now = read_now
        self._dsn = dsn
        self._is_due = False
        self._loop = BackgroundLoop("lag samples", self._sample)

    async def start(self) -> None:
        """Sample at the beginning of each slot, from the next one on, until `close`."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop after the sample under way."""
        await self._loop.close()

    async def _sample(self) -> float:
        if self._is_due:
            # Not kept: it would be one more of each process than poolers are sized for.
            async with open_connection(
                self._dsn,
                "ledger_api",
                name="lag samples",
                settings=LOCAL_COMMITS,
                answer_seconds=BACKGROUND_ANSWER_SECONDS,
            ) as conn:
                await write_sample(conn, await self._read_now(conn))
        self._is_due = True
        return SAMPLE_SECONDS - time.time() % SAMPLE_SECONDS


async def write_sample(conn: Conn, now: float) -> bool:
    """Measure and write the sample of this moment, unless it is there; whether it was not. `now` in unix
    seconds, by the one clock: lags are in its time, samples in that of the server. Raises psycopg.Error."""
    parameters = {
        "now": now,
        "every": SAMPLE_SECONDS,
        "slots": RETENTION_SECONDS // SAMPLE_SECONDS,
        "sealing": SEALING,
        "fanout": FANOUT,
    }
    return (await conn.execute(_WRITE, parameters)).rowcount > 0


async def read_samples(conn: Conn, start: int, end: int, names: Sequence[str] | None = None) -> LagSamples:
    """The samples between two times (unix seconds), of these series or of all: of each series at most
    POINTS_MAX points. Raises psycopg.Error."""
    step = SAMPLE_SECONDS * max(1, -(-(end - start) // (POINTS_MAX * SAMPLE_SECONDS)))
    parameters = {"step": step, "from": start, "to": end}
    rows = await fetch_all(conn, _READ, parameters)
    if not rows:
        return LagSamples(step, [], [])
    known = {name for (name,) in await fetch_all(conn, _NAMES)} | {SEALING, FANOUT}
    known |= {name for _, name, *_ in rows if name is not None}
    if names is not None:
        known &= set(names)
    values: dict[str, dict[int, tuple[int, float]]] = {name: {} for name in known}
    for at, name, events, seconds in rows:
        if name in values:
            values[name][at] = (events, seconds)
    sampled = {at for at, *_ in rows}
    times = list(range(rows[0][0], rows[-1][0] + 1, step))

    def get(points: dict[int, tuple[int, float]], at: int) -> tuple[int | None, float | None]:
        return points.get(at, (0, 0.0)) if at in sampled else (None, None)

    return LagSamples(
        step,
        times,
        [
            Series(
                name,
                [get(points, at)[0] for at in times],
                [get(points, at)[1] for at in times],
            )
            for name, points in sorted(values.items())
        ],
    )
