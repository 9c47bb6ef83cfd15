"""`ledger feed publish`: the process that publishes the feed to NATS JetStream."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.cli.feed.options import (
    PREFIX_DEFAULT,
    STREAM_DEFAULT,
    CredsOption,
    NatsOption,
    PrefixOption,
    StreamOption,
    check_names,
    choose_address,
)
from ledger.cli.groups import format_examples
from ledger.cli.shell import Deployment, configure_service

if TYPE_CHECKING:
    from ledger.config import Settings
    from ledger.feed.jetstream.connection import NatsAddress
    from ledger.feed.jetstream.publisher import StreamTarget

CLOSE_SECONDS = 5.0


def add_publish_command(group: typer.Typer) -> None:
    """Add `publish`."""

    @group.command(
        "publish",
        epilog=format_examples(
            "ledger feed publish --nats nats://127.0.0.1:4222",
            "LEDGER_NATS_URL=nats://user:password@nats.example.com ledger feed publish --from 1000000",
        ),
    )
    def publish(
        nats: NatsOption = None,
        creds: CredsOption = None,
        stream: StreamOption = STREAM_DEFAULT,
        prefix: PrefixOption = PREFIX_DEFAULT,
        first: Annotated[
            int, typer.Option("--from", min=1, help="Position at which a new stream begins.")
        ] = 1,
        replicas: Annotated[
            int, typer.Option(min=1, max=5, help="Servers that keep a copy of a new stream.")
        ] = 1,
    ) -> None:
        """Publish the feed to NATS JetStream until stopped.

        Message N of the stream is the event at position N. The stream is made if there is none; if there is
        one, publication goes on where it ends. A second publisher waits to take over."""
        from ledger.feed.jetstream.publisher import StreamTarget

        settings = configure_service()
        check_names(stream, prefix)
        address = choose_address(settings, nats, creds)
        run_publisher(settings, address, StreamTarget(stream, prefix, first, replicas))


def run_publisher(settings: Settings, address: NatsAddress, target: StreamTarget) -> None:
    """Publish until a signal, with the health port if there is to be one. Raises SettingError when an
    operator is needed."""
    import uvloop

    from ledger.cli.service.listener import open_listener
    from ledger.feed.jetstream.connection import require_nats
    from ledger.postgres.deployment import open_database
    from ledger.service_key import check_database

    require_nats()
    with ExitStack() as stack:
        dsn, configured = stack.enter_context(open_database(settings))
        service_keys = check_database(settings, dsn, configured)
        sock = None
        if settings.health_port is not None:
            hint = "LEDGER_HOST, LEDGER_HEALTH_PORT"
            sock = stack.enter_context(open_listener(settings.host, settings.health_port, hint=hint))
        uvloop.run(_publish(Deployment(settings, dsn, service_keys), address, target, sock))


async def _publish(
    deployment: Deployment, address: NatsAddress, target: StreamTarget, health_sock: socket.socket | None
) -> None:
    from ledger.api.worker_health import create_worker_health_app
    from ledger.background import Closers
    from ledger.cli.service.health_port import serve_health
    from ledger.cli.shell import run_until_stopped
    from ledger.clock import Clock
    from ledger.feed.jetstream.publisher import Publisher
    from ledger.feed.source import LogSource
    from ledger.store.store import Store

    settings = deployment.settings
    store = Store(deployment.dsn, deployment.service_keys, settings, Clock(movable=settings.test_clock))
    publisher = Publisher(LogSource(store), address, target)
    closers = Closers()
    closers.add("store", store.close)
    async with AsyncExitStack() as stack:
        if health_sock is not None:
            app = create_worker_health_app(store, settings, None)
            await stack.enter_async_context(serve_health(app, health_sock))
        try:
            await store.notifier.start()
            await closers.start([publisher])
            await run_until_stopped([publisher.wait_for_conflict()])
        finally:
            await closers.close(CLOSE_SECONDS)
