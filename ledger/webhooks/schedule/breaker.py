"""The breaker of an endpoint: one that fails over and over is tried seldom, until it accepts something.

Its state is in the row of the endpoint's health: all processes share it, and it outlives them. Closed, the
breaker does nothing. It opens after FAILURES_MIN failures in a row over SPREAD_SECONDS at least; then nothing
is sent, and deliveries stay due. After a pause it is half-open: one delivery is attempted, the probe. If that
fails, the next pause is twice as long, up to PAUSE_SECONDS_MAX; any success closes it. A pause costs no
delivery an attempt, and one failing delivery alone opens it only with its last attempt (contract §5.5).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from psycopg.rows import TupleRow

from ledger.postgres.connections import Conn, fetch_one

FAILURES_MIN = 10
SPREAD_SECONDS = 60
PAUSE_SECONDS_MIN = 30
PAUSE_SECONDS_MAX = 600
ASKED_SECONDS_MAX = 3600
"""So long a receiver may have us wait by Retry-After."""

BreakerState = Literal["closed", "open", "half_open"]

LIMITS = {
    "failures": FAILURES_MIN,
    "spread": SPREAD_SECONDS,
    "pause_min": PAUSE_SECONDS_MIN,
    "pause_max": PAUSE_SECONDS_MAX,
}
"""The parameters of AFTER_FAILURE."""
# Of the row `h` of an endpoint that fails, after an attempt from `at` to `ended`: the columns opened_at,
# failed_probes, probe_at and probe_until. An attempt that was under way when the breaker opened is no probe.
AFTER_FAILURE = """
SELECT now.opened_at, now.failed_probes,
       CASE WHEN now.opened_at IS NULL THEN NULL WHEN was.open AND NOT was.probe THEN h.probe_at
       ELSE to_timestamp(%(ended)s) + interval '1 second'
            * least(%(pause_max)s, %(pause_min)s * 2.0 ^ least(now.failed_probes, 20)) END,
       CASE WHEN was.probe THEN '-infinity' ELSE h.probe_until END
FROM (SELECT h.failing AND h.opened_at IS NOT NULL AS open,
             h.failing AND h.opened_at IS NOT NULL AND to_timestamp(%(at)s) >= h.probe_at AS probe) AS was
CROSS JOIN LATERAL (
    SELECT CASE WHEN was.open THEN h.opened_at
                WHEN h.failing AND h.attempts + 1 >= %(failures)s
                     AND to_timestamp(%(at)s) >= h.since + %(spread)s * interval '1 second'
                THEN to_timestamp(%(ended)s) END AS opened_at,
           CASE WHEN was.open THEN h.failed_probes + was.probe::integer ELSE 0 END AS failed_probes) AS now
"""
READ_COLUMNS = """
extract(epoch FROM h.opened_at)::float8, extract(epoch FROM h.probe_at)::float8, h.failed_probes,
h.probe_until > now(), extract(epoch FROM h.asked_until)::float8, h.failing
"""
"""What `build_breaker` takes of the row `h` of the health of an endpoint."""
_READ = f"""
SELECT {READ_COLUMNS} FROM webhooks.endpoint_health h WHERE h.endpoint = %(endpoint)s
"""  # noqa: S608 (a constant)
_PROBE_NOW = """
UPDATE webhooks.endpoint_health
SET probe_at = least(probe_at, to_timestamp(%(now)s)), probe_until = '-infinity', asked_until = NULL
WHERE endpoint = %(endpoint)s AND (opened_at IS NOT NULL OR asked_until IS NOT NULL)
"""


class Breaker(NamedTuple):
    """The breaker of an endpoint. Times are unix seconds.

    state          whether attempts are made
    opened_at      since when it is open; None when it is closed
    next_probe_at  when the next probe may be made; None when it is closed
    failed_probes  how many probes have failed since it opened
    asked_until    no attempt is made before, because the receiver asked for it; None if it did not
    """

    state: BreakerState = "closed"
    opened_at: float | None = None
    next_probe_at: float | None = None
    failed_probes: int = 0
    asked_until: float | None = None


async def read_breaker(conn: Conn, endpoint: str, now: float) -> Breaker:
    """The breaker of an endpoint at `now` (unix seconds): closed for one that was never tried."""
    row = await fetch_one(conn, _READ, {"endpoint": endpoint})
    return Breaker() if row is None else build_breaker(row, now)


def build_breaker(row: TupleRow, now: float) -> Breaker:
    """The breaker at `now` (unix seconds) of a row of READ_COLUMNS, all None without a health."""
    opened_at, probe_at, failed_probes, is_probing, asked_until, failing = row
    asked_until = asked_until if asked_until is not None and asked_until > now else None
    if not failing or opened_at is None:
        return Breaker(asked_until=asked_until)
    is_half_open = is_probing or (probe_at <= now and asked_until is None)
    state: BreakerState = "half_open" if is_half_open else "open"
    return Breaker(state, opened_at, probe_at, failed_probes, asked_until)


async def probe_now(conn: Conn, endpoint: str, now: float) -> None:
    """Let the next attempt be made at once, also where the breaker is open or the receiver asked for a pause:
    somebody says that it works again."""
    await conn.execute(_PROBE_NOW, {"endpoint": endpoint, "now": now})
