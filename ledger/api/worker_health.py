"""The application of a worker's health port: `/healthz`, `/readyz` and `/metrics`, without API keys.

`/healthz` is 503 when a loop of the worker hangs. The metrics have what this worker appends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from ledger.api.error_handlers import add_error_handlers, answer_within
from ledger.api.health import health_routes
from ledger.api.paths import answer_head_as_get
from ledger.background import STEP_SECONDS_MAX, list_hung_loops, measure_loops
from ledger.config import Settings
from ledger.metrics.prometheus import Metrics
from ledger.postgres.connections import Pool
from ledger.store.store import Store


class WorkerHealthApp(FastAPI):
    """FastAPI, except that it answers HEAD, too, and within `request_seconds`."""

    request_seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer_within(
                self.request_seconds, super().__call__, answer_head_as_get(scope), receive, send
            )
        else:
            await super().__call__(scope, receive, send)


def create_worker_health_app(
    store: Store,
    settings: Settings,
    projections: Sequence[str] | None,
    *,
    step_seconds_max: float = STEP_SECONDS_MAX,
) -> WorkerHealthApp:
    """The application for a worker with this store, which counts its appends from now on. It looks at
    `projections`, those of this release (None: not known). A loop hangs whose step takes longer than
    `step_seconds_max`."""
    pool, metrics = Pool(store.dsn), Metrics()
    store.journal.on_append = metrics.observe_append

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pool:
            yield

    app = WorkerHealthApp(openapi_url=None, redirect_slashes=False, lifespan=lifespan)
    app.request_seconds = settings.request_timeout_ms / 1000
    app.include_router(
        health_routes(
            pool,
            store.clock,
            metrics,
            settings,
            projections,
            measure_loops,
            partial(list_hung_loops, step_seconds_max),
        )
    )
    add_error_handlers(app)
    return app
