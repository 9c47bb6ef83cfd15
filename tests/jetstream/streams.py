"""Short ways to a log with events, to publishers of it, and to what a stream then holds."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import nats
from nats.aio.client import Client

from ledger.feed.jetstream.connection import NatsUnavailable, parse_address
from ledger.feed.jetstream.publisher import Publisher, StreamTarget
from ledger.feed.jetstream.stream import StoredMessage, Stream
from ledger.feed.source import LogSource
from ledger.store.store import Store
from tests.jetstream.nats_server import NatsServer
from tests.store.stores import create_customer

WAIT_SECONDS = 60.0
_customers = itertools.count(1)


async def append_events(store: Store, count: int) -> None:
    """Append `count` events to the log."""
    names = [f"cus_{next(_customers)}" for _ in range(count)]
    for start in range(0, count, 2000):
        part = names[start : start + 2000]
        await asyncio.gather(*(store.journal.append(create_customer(name)) for name in part))


@asynccontextmanager
async def connect_to(server: NatsServer) -> AsyncIterator[Client]:
    client = await nats.connect(server.url, allow_reconnect=False)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def run_publisher(
    store: Store, url: str, name: str, *, in_flight_max: int = 512, **target: Any
) -> AsyncIterator[Publisher]:
    """A publisher of the log to the stream `name`, until the end of the block."""
    publisher = make_publisher(store, url, name, in_flight_max=in_flight_max, **target)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close()


def make_publisher(store: Store, url: str, name: str, **options: Any) -> Publisher:
    in_flight_max = options.pop("in_flight_max", 512)
    target = StreamTarget(name, name, **options)
    return Publisher(LogSource(store), parse_address(url), target, in_flight_max=in_flight_max)


async def wait_for_stream(server: NatsServer, name: str, position: int) -> None:
    """Wait until the stream has `position`."""
    async with asyncio.timeout(WAIT_SECONDS), connect_to(server) as client:
        while True:
            with suppress(NatsUnavailable):  # a cluster that chooses a leader does not answer
                info = await Stream(client, name).read()
                if info is not None and info.state.last_seq >= position:
                    return
            await asyncio.sleep(0.02)


async def read_stream(server: NatsServer, name: str) -> list[StoredMessage]:
    """All messages of the stream; none is missing."""
    async with connect_to(server) as client:
        stream = Stream(client, name)
        info = await stream.read()
        assert info is not None
        found: list[StoredMessage] = []
        for first in range(info.state.begins_at, info.state.last_seq + 1, 256):
            page = await stream.read_messages(first, min(first + 255, info.state.last_seq))
            found += [message for message in page if message is not None]
        assert len(found) == info.state.last_seq - info.state.begins_at + 1
        return found


async def check_stream(server: NatsServer, store: Store, name: str, *, first: int = 1) -> None:
    """Message N is the item of position N, byte for byte, from `first` up to the end of the log."""
    source = LogSource(store)
    head = (await source.read_head()).position
    messages = await read_stream(server, name)
    assert [message.seq for message in messages] == list(range(first, head + 1))
    bodies = []
    for after in range(first - 1, head, 256):
        bodies += await source.read(after, min(head, after + 256))
    assert [message.data for message in messages] == bodies
    await source.close()
