"""`/healthz`, `/readyz` and `/metrics`, for the operators of the service. They need no API key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from fastapi import APIRouter
from fastapi.responses import Response

from ledger import __version__
from ledger.alerts.records import count_active
from ledger.api.errors import STATUS_NOT_READY
from ledger.clock import Clock
from ledger.config import Settings
from ledger.deadlines import read_overdue_seconds
from ledger.errors import Unavailable
from ledger.metrics.backlogs import (
    NOTHING_MEASURED,
    READY_LAG_SECONDS_MAX,
    Lag,
    Measured,
    SealingLag,
    read_erasures,
    read_lags,
    read_oldest_snapshots,
    read_parked,
    read_sealing_lag,
    read_unmigrated_keys,
)
from ledger.metrics.prometheus import Metrics
from ledger.postgres.connections import Conn, Pool
from ledger.time_limits import RequestLimit
from ledger.tree.witnesses.cosignatures import read_witnesses
from ledger.webhooks.deliveries import read_backlog
from ledger.webhooks.switch import OffReason, Switch, read_switch

DATABASE_SECONDS_MAX = 4.0
"""Whoever asks for health waits for some seconds only, such as the kubelet."""


def health_routes(
    pool: Pool,
    clock: Clock,
    metrics: Metrics,
    settings: Settings,
    projections: Sequence[str] | None,
    measure_loops: Callable[[], Mapping[str, float]],
    list_hung: Callable[[], list[str]] = list,
) -> APIRouter:
    """The three routes. They look at `projections`, those of this release: nobody applies events to one that
    the release has removed, and nobody reads it. None: at all that the database has.

    measure_loops  for how many seconds each background loop has finished no step
    list_hung      names the background work for which this process should be started again
    """
    router = APIRouter(tags=["health"])
    database_seconds = min(DATABASE_SECONDS_MAX, 0.8 * settings.request_timeout_ms / 1000)

    @router.get("/healthz")
    async def healthz(response: Response) -> dict[str, Any]:
        """The process is up."""
        if hung := list_hung():
            response.status_code = STATUS_NOT_READY
            return {"status": "hung", "version": __version__, "hung": hung}
        return {"status": "ok", "version": __version__}

    @router.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        """503 if the database is unreachable, a live projection lags more than 30 s, or sealing has stopped
        for as long."""
        background = {"late": _list_late(measure_loops())}
        try:
            async with RequestLimit(database_seconds):
                projection_lags, sealing, switch = await pool.run_idempotent(
                    lambda conn: _read_readiness(conn, clock.now(), projections)
                )
        except (Unavailable, psycopg.Error) as error:
            response.status_code = STATUS_NOT_READY
            database = type(error.__cause__ or error).__name__
            return {"status": "unavailable", "database": database, "background": background}
        readiness = _describe_readiness(projection_lags, sealing, switch.list_off_reasons(settings.webhooks))
        readiness["background"] = background
        if readiness["status"] != "ok":
            response.status_code = STATUS_NOT_READY
        return readiness

    @router.get("/metrics")
    async def render_metrics() -> Response:
        """Prometheus metrics; while the database is unreachable, without those that it holds."""

        try:
            async with RequestLimit(database_seconds):
                measured = await pool.run_idempotent(
                    lambda conn: _read_measured(conn, settings, clock.now(), projections)
                )
        except Unavailable:
            measured = NOTHING_MEASURED
        return Response(metrics.render(measured, measure_loops()), media_type="text/plain; version=0.0.4")

    return router


def _list_late(seconds_by_loop: Mapping[str, float]) -> dict[str, int]:
    """The loops that have finished no step for long, with the seconds."""
    return {
        name: round(seconds) for name, seconds in seconds_by_loop.items() if seconds > READY_LAG_SECONDS_MAX
    }


async def _read_readiness(
    conn: Conn, now: float, projections: Sequence[str] | None
) -> tuple[list[Lag], SealingLag, Switch]:
    lags = await read_lags(conn, now, projections)
    return lags, await read_sealing_lag(conn, now), await read_switch(conn)


def _describe_readiness(
    projection_lags: Sequence[Lag], sealing: SealingLag, webhooks_off: Sequence[OffReason]
) -> dict[str, Any]:
    """The answer of /readyz, also while it is not ready."""
    stuck = [lag.projection for lag in projection_lags if lag.live and lag.seconds > READY_LAG_SECONDS_MAX]
    if sealing.is_stuck(READY_LAG_SECONDS_MAX):
        stuck.append("sealing")
    return {
        "status": "stuck" if stuck else "starting" if not projection_lags else "ok",
        "stuck": stuck,
        "incomplete": [lag.projection for lag in projection_lags if lag.live and lag.parked],
        "sealing": sealing._asdict(),
        "webhooks": {"off": webhooks_off},
        "projections": [lag._asdict() for lag in projection_lags],
    }


async def _read_measured(
    conn: Conn, settings: Settings, now: float, projections: Sequence[str] | None
) -> Measured:
    """What the metrics show of the database."""
    return Measured(
        await read_lags(conn, now, projections),
        await read_parked(conn, projections),
        await read_overdue_seconds(conn, now),
        await read_backlog(conn, now, settings.webhooks),
        await read_sealing_lag(conn, now),
        await read_witnesses(conn),
        await read_oldest_snapshots(conn),
        await count_active(conn),
        await read_erasures(conn),
        await read_unmigrated_keys(conn),
    )
