"""The publisher to NATS JetStream: events a second from the log into a stream, and how soon they are there.

A history as `history` generates it is published into a stream of its own in each round, by this process. The
yardstick publishes the same bytes by the same client with as many messages under way, but reads no log, and
fences nothing: any message may be lost or doubled. The server stores into files, as it does by default.
Publisher, Postgres, nats-server and, for the latency, the process that appends share the machine's cores.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import nats
from nats.aio.client import Client

from benchmarks.database import run_server
from benchmarks.feed.drain import fill_log
from benchmarks.history import generate_history
from benchmarks.measurement import Effort, alternate
from benchmarks.report import Figure, compare, figure
from benchmarks.service import THIS_BUILD, build_environment, stop_process
from benchmarks.store import CAUSE, SECRET_KEY, open_store
from ledger import logs
from ledger.feed.jetstream.connection import parse_address
from ledger.feed.jetstream.publisher import Publisher, StreamTarget
from ledger.feed.jetstream.window import IN_FLIGHT_MAX
from ledger.feed.source import READ_AT_ONCE, LogSource
from ledger.store.journal import Append
from ledger.store.store import Store
from tests.jetstream.nats_server import MISSING, NatsServer, find_program, run_nats_server

GROUP = "feed, published to NATS JetStream"
EVENTS = 50_000
ONE_BY_ONE_EVENTS = 2_000
SEED = 3
EVENTS_PER_SECOND = 200
PACED_SECONDS = 3.0
WAIT_SECONDS = 60.0
BARE = "nats-py, unfenced, from memory"

_numbers = itertools.count(1)


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Figures of throughput and latency; none where there is no nats-server."""
    program = find_program()
    if program is None:
        print(f"  skipped: {MISSING}", file=sys.stderr, flush=True)
        return []
    logs.configure("warning")  # a publisher logs that it has connected
    events = min(EVENTS, effort.events)
    with run_server(directory) as server, run_nats_server(program) as nats_server:
        dsn = server.create_ledger_database("nats")
        fill_log(dsn, events)
        with open_store(dsn) as (runner, store):
            bodies = runner.run(_read_all(store, events))
            rates = alternate(
                {
                    "many": lambda: runner.run(_publish(store, nats_server, events, IN_FLIGHT_MAX)),
                    "bare": lambda: runner.run(_publish_bare(nats_server, bodies)),
                    "one": lambda: runner.run(_publish(store, nats_server, ONE_BY_ONE_EVENTS, 1)),
                },
                effort.rounds,
            )
            with _run_publisher(dsn, nats_server, directory):
                seconds = sorted(runner.run(_measure_latency(store, nats_server)))
    size = sum(map(len, bodies)) // len(bodies)
    work = f"{events:,} events of {size} bytes"
    return [
        compare(GROUP, f"{work}, {IN_FLIGHT_MAX} under way", rates["many"], BARE, rates["bare"]),
        figure(GROUP, f"{ONE_BY_ONE_EVENTS:,} of them, one under way", rates["one"]),
        *(
            figure(
                GROUP,
                f"appended until delivered to a consumer, {EVENTS_PER_SECOND} events/s: p{percent}",
                [1000 * seconds[min(len(seconds) - 1, len(seconds) * percent // 100)]],
                "ms",
            )
            for percent in (50, 99)
        ),
    ]


async def _read_all(store: Store, events: int) -> list[bytes]:
    source = LogSource(store)
    bodies: list[bytes] = []
    for after in range(0, events, READ_AT_ONCE):
        bodies += await source.read(after, min(events, after + READ_AT_ONCE))
    await source.close()
    return bodies


async def _publish(store: Store, server: NatsServer, events: int, in_flight_max: int) -> float:
    """Events per second into a new stream."""
    name = f"OURS{next(_numbers)}"
    target = StreamTarget(name, name)
    publisher = Publisher(LogSource(store), parse_address(server.url), target, in_flight_max=in_flight_max)
    started = time.perf_counter()
    await publisher.publish_upto(events)
    seconds = time.perf_counter() - started
    published = publisher.position
    await publisher.close()
    await _delete(server, name)
    return published / seconds


async def _publish_bare(server: NatsServer, bodies: list[bytes]) -> float:
    name = f"BARE{next(_numbers)}"
    async with _connect(server) as client:
        js = client.jetstream(publish_async_max_pending=IN_FLIGHT_MAX)
        await js.add_stream(name=name, subjects=[f"{name}.>"])
        started = time.perf_counter()
        for body in bodies:
            await js.publish_async(f"{name}.event", body)
        await js.publish_async_completed()
        seconds = time.perf_counter() - started
    await _delete(server, name)
    return len(bodies) / seconds


async def _measure_latency(store: Store, server: NatsServer) -> list[float]:
    """Seconds from the acknowledgement of each append until a consumer has the message."""
    head = (await LogSource(store).read_head()).position
    count = int(EVENTS_PER_SECOND * PACED_SECONDS)
    appended: dict[int, float] = {}
    delivered: dict[int, float] = {}
    async with _connect(server) as client:
        await _wait_for(client, "PACED", head)
        subscription = await client.jetstream().subscribe("PACED.>", stream="PACED", ordered_consumer=True)
        async with asyncio.timeout(WAIT_SECONDS):
            while (await subscription.next_msg(WAIT_SECONDS)).metadata.sequence.stream < head:
                pass
            changes = itertools.islice(generate_history(SEED + 1, count), count)
            begun = time.perf_counter()

            async def append() -> None:
                for number, change in enumerate(changes):
                    await asyncio.sleep(max(0.0, begun + number / EVENTS_PER_SECOND - time.perf_counter()))
                    position = await store.journal.append(Append(CAUSE, [change]))
                    appended[position] = time.perf_counter()

            async def receive() -> None:
                while len(delivered) < count:
                    message = await subscription.next_msg(WAIT_SECONDS)
                    delivered[message.metadata.sequence.stream] = time.perf_counter()

            await asyncio.gather(append(), receive())
    return [delivered[position] - at for position, at in appended.items()]


async def _wait_for(client: Client, name: str, position: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            if (await client.jetstream().stream_info(name)).state.last_seq >= position:
                return
        except nats.js.errors.NotFoundError:
            pass
        await asyncio.sleep(0.05)
    raise RuntimeError("the publisher does not come to the end of the log")


@contextmanager
def _run_publisher(dsn: str, server: NatsServer, directory: Path) -> Iterator[None]:
    """`ledger feed publish` in a process of its own."""
    settings = {
        "LEDGER_DATABASE_URL": dsn,
        "LEDGER_SECRET_KEY": SECRET_KEY.decode(),
        "LEDGER_NATS_URL": server.url,
    }
    environment = build_environment() | settings
    command = THIS_BUILD.build_command("feed", "publish", "--stream", "PACED", "--prefix", "PACED")
    with (directory / "publisher.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            stop_process(process)


@asynccontextmanager
async def _connect(server: NatsServer) -> AsyncIterator[Client]:
    client = await nats.connect(server.url, allow_reconnect=False)
    try:
        yield client
    finally:
        await client.close()


async def _delete(server: NatsServer, name: str) -> None:
    async with _connect(server) as client:
        await client.jetstream().delete_stream(name)
