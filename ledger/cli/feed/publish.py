"""`ledger feed publish`: the process that publishes the feed to NATS JetStream."""

from __future__ import annotations

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
from ledger.cli.shell import configure_service

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
    """Publish until a signal. Raises SettingError when an operator is needed."""
    import uvloop

    from ledger.feed.jetstream.connection import require_nats
    from ledger.postgres.deployment import open_database
    from ledger.service_key import check_database

    require_nats()
    with open_database(settings) as (dsn, service_key):
        check_database(settings, dsn, service_key)
        uvloop.run(_publish(settings, dsn, service_key, address, target))


async def _publish(
    settings: Settings, dsn: str, service_key: bytes, address: NatsAddress, target: StreamTarget
) -> None:
    from ledger.background import Closers
    from ledger.cli.shell import run_until_stopped
    from ledger.clock import Clock
    from ledger.feed.jetstream.publisher import Publisher
    from ledger.feed.source import LogSource
    from ledger.store.store import Store

    store = Store(dsn, service_key, settings, Clock(movable=settings.test_clock))
    publisher = Publisher(LogSource(store), address, target)
    closers = Closers()
    closers.add("store", store.close)
    try:
        await store.notifier.start()
        await closers.start([publisher])
        await run_until_stopped([publisher.wait_for_conflict()])
    finally:
        await closers.close(CLOSE_SECONDS)
