"""Whatever fails while events are published: none is lost, doubled or out of its place."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ledger.feed.jetstream.publisher import Publisher
from ledger.store.store import Store
from tests.jetstream.nats_proxy import NatsProxy, open_nats_proxy
from tests.jetstream.nats_server import NatsServer, require_program, run_nats_cluster, run_nats_server
from tests.jetstream.streams import append_events, check_stream, make_publisher, wait_for_stream
from tests.store.stores import open_store

_numbers = itertools.count(1)

FAULTS = ("cut", "lose answers", "restart nats", "kill nats", "start publisher", "stop publisher")


@pytest.fixture(scope="module")
def fragile_server() -> Iterator[NatsServer]:
    """A server that the tests of this module end."""
    with run_nats_server(require_program()) as server:
        yield server


class _Trial:
    """A log that grows, publishers of it, and a server behind a proxy, whose faults are called by name."""

    def __init__(self, store: Store, server: NatsServer, proxy: NatsProxy, name: str) -> None:
        self._store = store
        self._server = server
        self._proxy = proxy
        self._name = name
        self._publishers: list[Publisher] = []

    async def inject(self, fault: str) -> None:
        match fault:
            case "cut":
                self._proxy.cut()
            case "lose answers":
                await self._proxy.lose_answers(0.02)
            case "restart nats" | "kill nats":
                end = self._server.stop if fault == "restart nats" else self._server.kill
                await asyncio.to_thread(end)
                await asyncio.to_thread(self._server.start)
            case "start publisher":
                publisher = make_publisher(self._store, self._proxy.url, self._name, in_flight_max=64)
                await publisher.start()
                self._publishers.append(publisher)
            case "stop publisher" if len(self._publishers) > 1:
                await self._publishers.pop(0).close()

    async def close(self) -> None:
        for publisher in self._publishers:
            await publisher.close()


@settings(
    max_examples=4,
    database=None,
    phases=[Phase.generate],  # a trial takes a second: a failure is shown as it was found
)
@given(
    steps=st.lists(st.tuples(st.integers(1, 400), st.sampled_from(FAULTS)), min_size=2, max_size=5),
    seed=st.integers(0, 10**6),
)
def test_message_n_is_position_n_after_any_faults(
    module_dsn: str, fragile_server: NatsServer, steps: list[tuple[int, str]], seed: int
) -> None:
    name = f"law{next(_numbers)}"

    async def run() -> None:
        async with open_store(module_dsn) as store, open_nats_proxy(fragile_server) as proxy:
            trial = _Trial(store, fragile_server, proxy, name)
            try:
                for _ in range(2):
                    await trial.inject("start publisher")
                for count, fault in steps:
                    await append_events(store, count)
                    await asyncio.sleep(random.Random(seed).uniform(0, 0.05))
                    await trial.inject(fault)
                head = store.notifier.position
                await wait_for_stream(fragile_server, name, head)
            finally:
                await trial.close()
            await check_stream(fragile_server, store, name)

    asyncio.run(run())


def test_ten_cut_connections_and_as_many_lost_acknowledgements_change_nothing(
    dsn: str, fragile_server: NatsServer, name: str
) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(dsn))
            proxy = await stack.enter_async_context(open_nats_proxy(fragile_server))
            publisher = make_publisher(store, proxy.url, name)
            await publisher.start()
            stack.push_async_callback(publisher.close)
            for number in range(20):
                await append_events(store, 300)
                await (proxy.lose_answers(0.03) if number % 2 else asyncio.to_thread(proxy.cut))
            await wait_for_stream(fragile_server, name, 6000)
            await check_stream(fragile_server, store, name)

    asyncio.run(run())


def test_servers_of_a_cluster_that_are_killed_in_turn_change_nothing(dsn: str, name: str) -> None:
    async def run(servers: list[NatsServer]) -> None:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(dsn))
            urls = ",".join(server.url for server in servers)
            for _ in range(2):
                publisher = make_publisher(store, urls, name, replicas=len(servers))
                await publisher.start()
                stack.push_async_callback(publisher.close)
            for server in servers[1:]:
                await append_events(store, 400)
                await wait_for_stream(servers[0], name, 1)
                await asyncio.to_thread(server.kill)
                await append_events(store, 400)
                await asyncio.sleep(0.2)
                await asyncio.to_thread(server.start)
            await wait_for_stream(servers[0], name, 1600)
            await check_stream(servers[0], store, name)

    with run_nats_cluster(require_program()) as servers:
        asyncio.run(run(servers))
