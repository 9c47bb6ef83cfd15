"""What runs with the ledger's own processes: projections, due dates, rebuilds, samples and webhooks beside
the API or in a worker, and the operators' routes.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg

from ledger.api.app import Extensions, ServiceFactory, build_terms
from ledger.config import Settings
from ledger.deadlines import DeadlineSweeper
from ledger.queries.webhook_endpoints import WebhookSecrets
from ledger.store.store import Store
from ledger.webhooks.service import WebhookService
from projections.engine.engine import Engine
from projections.operate.rebuild_routes import rebuild_routes
from projections.operate.routes import projection_routes
from projections.rebuild.processes import BackfillProcesses
from projections.worker import create_rebuild_task, create_sampling_task

CLOSE_TIMEOUT_SECONDS = 3.0


class EngineRunner:
    """The engine of one process, from start to an orderly end."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._engine = _create_engine(store, settings)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the projections are registered, so that lists answer, or cannot be for now."""
        with suppress(psycopg.Error):
            await self._engine.advance()
        self._task = asyncio.create_task(self._engine.run(), name="projections")

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._engine.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def make_extensions(settings: Settings) -> Extensions:
    """What follows the log beside the API or in a worker, and the operators' routes."""
    service_factories: list[ServiceFactory] = [
        lambda store: EngineRunner(store, settings),
        lambda store: DeadlineSweeper(store, build_terms(settings), poll_ms=settings.deadline_poll_ms),
        lambda store: create_rebuild_task(
            store,
            lambda: _create_engine(store, settings),
            BackfillProcesses(store.dsn, store.secret_key).backfill_shard,
        ),
        lambda store: _create_webhook_service(store, settings),
    ]
    if settings.verify_pause_seconds:
        service_factories.append(
            lambda store: create_sampling_task(store, pause_seconds=settings.verify_pause_seconds)
        )
    return Extensions(service_factories, [projection_routes, rebuild_routes])


def _create_engine(store: Store, settings: Settings) -> Engine:
    return Engine(
        store.dsn,
        store.codec,
        store.clock,
        store.notifier,
        batch_max=settings.projection_batch_max,
        poll_ms=settings.poll_ms,
        cached_streams_max=settings.cached_streams_max,
    )


def _create_webhook_service(store: Store, settings: Settings) -> WebhookService:
    secrets = WebhookSecrets(store.secret_key)
    return WebhookService(store, settings, lambda endpoint_id: [secrets.derive(endpoint_id)])
