"""How far each generation of each projection is, for operators: lag, parked streams, stalled or not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from ledger.errors import printable_topic
from ledger.metrics.backlogs import Lag, read_lags
from ledger.postgres.connections import Conn, fetch_all
from projections.engine.batch import GenerationKey
from projections.projection import ParkedStream

STALLED_SECONDS = 10.0
# A batch takes a fraction of this time, so a generation that moves is seen to move.
STALLED_SAMPLE_SECONDS = 1.0

_PARKED = """
SELECT p.projection, p.generation, p.stream, p.position, p.error, e.topic
FROM projections.parked p LEFT JOIN ledger.events e ON e.notification_id = p.position
ORDER BY p.position, p.stream
"""
_BUILDS_IN_PROGRESS = "SELECT projection, generation FROM projections.builds WHERE NOT ended"
_VERIFIED = """
SELECT projection, generation, extract(epoch FROM checked_at)::float8, position, rows, differing,
       keys[:%(shown)s::integer]
FROM projections.verified
"""
KEYS_SHOWN_MAX = 20


class Verified(NamedTuple):
    """When a generation was verified last: all of it, or a sample.

    at         unix seconds
    rows       rows compared then
    differing  rows that were found to differ, until a full verification finds none; `keys` are the first
    """

    at: float
    position: int
    rows: int
    differing: int
    keys: list[str]


class StallCause(NamedTuple):
    """Why a generation does not move: a code, and a sentence for people."""

    code: str
    message: str


class GenerationStatus(NamedTuple):
    """The status of one generation of a projection. With a parked stream it is incomplete.

    building  a rebuild is at work on it
    stalled   it has been behind for STALLED_SECONDS, and did not move while it was observed
    verified  None: never
    cause     why it stalls; None while it does not, or where nobody has looked
    """

    lag: Lag
    parked: tuple[ParkedStream, ...]
    building: bool = False
    stalled: bool = False
    verified: Verified | None = None
    cause: StallCause | None = None

    @property
    def state(self) -> str:
        """`kept`: neither live nor being built, but kept up to date, so that a rollback can return to it."""
        return "live" if self.lag.live else "building" if self.building else "kept"


async def load_statuses(conn: Conn, *, now: float) -> list[GenerationStatus]:
    """The status of every generation, by projection and generation; `now` in unix seconds, by the one clock.

    Takes STALLED_SAMPLE_SECONDS when a generation is far behind, to see whether it moves.
    """
    parked: dict[GenerationKey, list[ParkedStream]] = {}
    for name, generation, stream, position, error, topic in await fetch_all(conn, _PARKED):
        parked.setdefault(GenerationKey(name, generation), []).append(
            ParkedStream(stream, position, error, None if topic is None else printable_topic(topic))
        )
    building = set(await fetch_all(conn, _BUILDS_IN_PROGRESS))
    verified = {
        GenerationKey(name, generation): Verified(*rest)
        for name, generation, *rest in await fetch_all(conn, _VERIFIED, {"shown": KEYS_SHOWN_MAX})
    }
    current_lags = await read_lags(conn, now)
    lagging = {
        (lag.projection, lag.generation, lag.position)
        for lag in current_lags
        if lag.seconds > STALLED_SECONDS
    }
    if lagging:
        await asyncio.sleep(STALLED_SAMPLE_SECONDS)
        current_lags = await read_lags(conn, now + STALLED_SAMPLE_SECONDS)
    statuses = []
    for lag in current_lags:
        key = GenerationKey(lag.projection, lag.generation)
        stalled = (*key, lag.position) in lagging
        statuses.append(
            GenerationStatus(lag, tuple(parked.get(key, ())), key in building, stalled, verified.get(key))
        )
    return statuses


def describe_projection(name: str, statuses: Iterable[GenerationStatus]) -> dict[str, Any]:
    """A projection as JSON shows it (internal API §3), with each of its generations that has a checkpoint."""
    generations = [status for status in statuses if status.lag.projection == name]
    live = next((status for status in generations if status.lag.live), None)
    return {
        "name": name,
        "live": None if live is None else live.lag.generation,
        "incomplete": live is not None and bool(live.parked),
        "generations": [
            {
                **status.lag._asdict(),
                "state": status.state,
                "stands_still": status.stalled,
                "cause": None if status.cause is None else status.cause._asdict(),
                "verified": None if status.verified is None else status.verified._asdict(),
                "parked": [
                    {**parked_stream._asdict(), "reason": parked_stream.reason}
                    for parked_stream in status.parked
                ],
            }
            for status in generations
        ],
    }
