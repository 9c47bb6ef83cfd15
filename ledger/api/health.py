"""`/healthz`, `/readyz` and `/metrics`, for the operators of the service. They need no API key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from fastapi import APIRouter
from fastapi.responses import Response

from ledger import __version__
from ledger.api.composition import build_terms
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
    read_lags,
    read_oldest_snapshots,
    read_parked,
    read_sealing_lag,
)
from ledger.metrics.prometheus import Metrics
from ledger.postgres.connections import Conn, Pool
from ledger.tree.witnesses.cosignatures import read_witnesses
from ledger.webhooks.deliveries import read_backlog
from ledger.webhooks.switch import OffReason, Switch, read_switch

CONNECTION_TIMEOUT_SECONDS = 2.0


def health_routes(
    pool: Pool,
    clock: Clock,
    metrics: Metrics,
    settings: Settings,
    projections: Sequence[str] | None,
    list_hung: Callable[[], list[str]] = list,
) -> APIRouter:
    """The three routes. They look at `projections`, those of this release: nobody applies events to one that
    the release has removed, and nobody reads it. None: at all that the database has.

    `list_hung` names the background work for which this process should be started again."""
    router = APIRouter(tags=["health"])

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
        try:
            projection_lags, sealing, switch = await pool.run_idempotent(
                lambda conn: _read_readiness(conn, clock.now(), projections),
                wait_seconds=CONNECTION_TIMEOUT_SECONDS,
            )
        except (Unavailable, psycopg.Error) as error:
            response.status_code = STATUS_NOT_READY
            return {"status": "unavailable", "database": type(error.__cause__ or error).__name__}
        readiness = _describe_readiness(projection_lags, sealing, switch.list_off_reasons(settings.webhooks))
        if readiness["status"] != "ok":
            response.status_code = STATUS_NOT_READY
        return readiness

    @router.get("/metrics")
    async def render_metrics() -> Response:
        """Prometheus metrics; while the database is unreachable, without those that it holds."""

        try:
            measured = await pool.run_idempotent(
                lambda conn: _read_measured(conn, settings, clock.now(), projections),
                wait_seconds=CONNECTION_TIMEOUT_SECONDS,
            )
        except Unavailable:
            measured = NOTHING_MEASURED
        return Response(metrics.render(measured), media_type="text/plain; version=0.0.4")

    return router


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
        await read_overdue_seconds(conn, build_terms(settings), now),
        await read_backlog(conn, now, settings.webhooks),
        await read_sealing_lag(conn, now),
        await read_witnesses(conn),
        await read_oldest_snapshots(conn),
    )
