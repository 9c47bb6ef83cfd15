"""The log, opened for one command of `ledger feed`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger.cli.shell import Deployment
    from ledger.feed.source import LogSource


@asynccontextmanager
async def open_source(deployment: Deployment) -> AsyncIterator[LogSource]:
    """A source that knows at once of new events."""
    from ledger.clock import Clock
    from ledger.feed.source import LogSource
    from ledger.store.store import Store

    store = Store(deployment.dsn, deployment.service_keys, deployment.settings, Clock())
    source = LogSource(store)
    try:
        await store.notifier.start()
        yield source
    finally:
        await source.close()
        await store.close()
