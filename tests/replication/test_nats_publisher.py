"""What no standby has is not published to NATS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.jetstream.nats_server import NatsServer, require_program, run_nats_server
from tests.jetstream.streams import append_events, check_stream, read_stream, run_publisher, wait_for_stream
from tests.postgres.standby import ReplicatedServers
from tests.store.stores import create_customer, open_store, wait_until

STREAM = "REPLICATED"
_CANCEL_WAIT = """
SELECT pg_cancel_backend(pid) FROM pg_stat_activity
WHERE wait_event = 'SyncRep' AND application_name = 'ledger journal'
"""
_POSITION = "SELECT position FROM ledger.head"


@pytest.fixture(scope="module")
def nats_server() -> Iterator[NatsServer]:
    with run_nats_server(require_program()) as server:
        yield server


def test_a_position_is_published_once_a_standby_has_it(
    servers: ReplicatedServers, nats_server: NatsServer
) -> None:
    async def run() -> None:
        async with open_store(servers.primary.dsn()) as store:
            await append_events(store, 3)
            known = int(str(servers.primary.fetch_value(_POSITION, "ledger")))
            async with run_publisher(store, nats_server.url, STREAM):
                await wait_for_stream(nats_server, STREAM, known)
                servers.pause_standby()
                append = asyncio.ensure_future(store.journal.append(create_customer("cus_unreplicated")))
                # An operator ends the wait: the primary shows the event then, which no standby has.
                await wait_until(lambda: servers.primary.fetch_value(_CANCEL_WAIT))
                await wait_until(
                    lambda: int(str(servers.primary.fetch_value(_POSITION, "ledger"))) == known + 1
                )
                await asyncio.sleep(2.5)  # longer than the publisher waits for the standby
                assert len(await read_stream(nats_server, STREAM)) == known
                servers.resume_standby()
                await wait_for_stream(nats_server, STREAM, known + 1)
                with suppress(Exception):
                    await append
            await check_stream(nats_server, store, STREAM)

    asyncio.run(run())
