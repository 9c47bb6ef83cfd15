"""The `ledger` command: the service's own command line, with the projections that follow its log."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Annotated

import psycopg
import typer

from ledger import cli, serving
from ledger.api.app import Follow, terms_of
from ledger.clock import Clock
from ledger.config import Settings, load_settings
from ledger.deadlines import Deadlines
from ledger.endpoints import Secrets
from ledger.errors import SettingError
from ledger.metrics import lags
from ledger.store.codec import Codec
from ledger.store.store import Store
from ledger.store.wake import Wake
from ledger.webhooks.following import Webhooks
from projections.engine import Engine
from projections.registry import PROJECTIONS

CLOSE_SECONDS = 3.0


class Runner:
    """The engine of one process, from start to an orderly end."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._engine = Engine(
            store.dsn,
            store.codec,
            store.clock,
            store.wake,
            batch_max=settings.projection_batch_max,
            poll_ms=settings.poll_ms,
            remembered_max=settings.cached_streams_max,
        )
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


def main() -> None:
    """Run the command line."""
    command = cli.build(_followers)
    command.add_typer(_projections_cli(), name="projections")
    cli.run(command)


def _followers(settings: Settings) -> list[Follow]:
    """What follows the log beside the API, or in a worker."""
    return [
        lambda store: Runner(store, settings),
        lambda store: Deadlines(store, terms_of(settings), poll_ms=settings.deadline_poll_ms),
        lambda store: _webhooks(store, settings),
    ]


def _webhooks(store: Store, settings: Settings) -> Webhooks:
    secrets = Secrets(store.secret_key)
    return Webhooks(store, settings, lambda endpoint_id: [secrets.secret_of(endpoint_id)])


def _projections_cli() -> typer.Typer:
    group = typer.Typer(help="The read models and the Event feed.", no_args_is_help=True)

    @group.command()
    def status(
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
    ) -> None:
        """Where each projection stands against the log."""
        standing = cli.with_database(lambda conn: lags(conn, Clock().now()))
        if as_json:
            print(json.dumps([lag._asdict() for lag in standing], indent=2))
            return
        rows = [
            (
                lag.projection,
                lag.generation,
                "live" if lag.live else "building",
                lag.position,
                lag.events,
                f"{lag.seconds:.1f}",
                f"{lag.parked} streams left out" if lag.parked else "complete",
            )
            for lag in standing
        ]
        title = ("projection", "generation", "state", "checkpoint", "lag (events)", "lag (s)", "rows")
        cli.print_table(title, rows)

    @group.command()
    def retry(
        projection: Annotated[str, typer.Argument(help="The projection that leaves the stream out.")],
        stream: Annotated[str, typer.Argument(help="The stream: the id of an object.")],
    ) -> None:
        """Apply what was left out of a parked stream, in order; exit 1 if it had to be left out again."""
        if projection not in {known.name for known in PROJECTIONS}:
            raise SettingError(f"no projection {projection}: see `ledger projections status`")
        settings = load_settings()
        with serving.database(settings) as (dsn, key):
            healed = asyncio.run(_retry(settings, dsn, key, projection, stream))
        if not healed:
            raise SettingError(f"{projection} had to leave {stream} out again: its handler still raises")
        print(f"{projection} leaves nothing of {stream} out.")

    return group


async def _retry(settings: Settings, dsn: str, key: bytes, projection: str, stream: str) -> bool:
    clock = Clock(movable=settings.test_clock)
    engine = Engine(dsn, Codec(key), clock, Wake(dsn, "ledger_projector"))
    try:
        return await engine.retry(projection, stream)
    finally:
        await engine.close()


if __name__ == "__main__":
    main()
