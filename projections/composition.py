"""What runs with the ledger's own processes: projections, due dates, rebuilds, samples and webhooks beside
the API or in a worker, and the operators' routes.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg

from ledger.api.app import Above, Follow, terms_of
from ledger.config import Settings
from ledger.deadlines import Deadlines
from ledger.queries.webhook_endpoints import Secrets
from ledger.store.store import Store
from ledger.webhooks.service import Webhooks
from projections.engine.engine import Engine
from projections.operate.rebuild_routes import rebuild_routes
from projections.operate.routes import projection_routes
from projections.rebuild.processes import Workers
from projections.worker import rebuilding, sampling

CLOSE_SECONDS = 3.0


class Runner:
    """The engine of one process, from start to an orderly end."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._engine = _engine(store, settings)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the projections are registered, so that lists answer, or cannot be for now."""
        with suppress(psycopg.Error):
            await self._engine.advance()
        self._task = asyncio.create_task(self._engine.run(), name="projections")

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._engine.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def above(settings: Settings) -> Above:
    """What follows the log beside the API or in a worker, and the operators' routes."""
    followers: list[Follow] = [
        lambda store: Runner(store, settings),
        lambda store: Deadlines(store, terms_of(settings), poll_ms=settings.deadline_poll_ms),
        lambda store: rebuilding(
            store, lambda: _engine(store, settings), Workers(store.dsn, store.secret_key).fill
        ),
        lambda store: _webhooks(store, settings),
    ]
    if settings.verify_pause_seconds:
        followers.append(lambda store: sampling(store, pause_seconds=settings.verify_pause_seconds))
    return Above(followers, [projection_routes, rebuild_routes])


def _engine(store: Store, settings: Settings) -> Engine:
    return Engine(
        store.dsn,
        store.codec,
        store.clock,
        store.wake,
        batch_max=settings.projection_batch_max,
        poll_ms=settings.poll_ms,
        remembered_max=settings.cached_streams_max,
    )


def _webhooks(store: Store, settings: Settings) -> Webhooks:
    secrets = Secrets(store.secret_key)
    return Webhooks(store, settings, lambda endpoint_id: [secrets.secret_of(endpoint_id)])
