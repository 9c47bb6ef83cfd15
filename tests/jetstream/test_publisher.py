"""The publisher: message N of the stream is the event at position N, whatever fails."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from typing import Any

import psycopg
import pytest

from ledger.errors import SettingError
from ledger.feed.jetstream.comparison import StreamConflict
from ledger.feed.jetstream.connection import NatsUnavailable
from ledger.feed.source import LogSource
from tests.jetstream.nats_server import NatsServer, require_program, run_nats_server
from tests.jetstream.streams import (
    append_events,
    check_stream,
    connect_to,
    make_publisher,
    run_publisher,
    wait_for_stream,
)
from tests.store.stores import create_customer, open_store


async def _get_raw(server: NatsServer, name: str, sequence: int) -> dict[str, Any]:
    async with connect_to(server) as client:
        request = json.dumps({"seq": sequence}).encode()
        answer = await client.request(f"$JS.API.STREAM.MSG.GET.{name}", request)
        message: dict[str, Any] = json.loads(answer.data)["message"]
        return message


def test_a_message_has_the_position_as_sequence_and_headers_to_choose_by(
    dsn: str, nats_server: NatsServer, name: str
) -> None:
    async def run() -> None:
        async with open_store(dsn) as store:
            await append_events(store, 3)
            async with run_publisher(store, nats_server.url, name):
                await wait_for_stream(nats_server, name, 3)
            await check_stream(nats_server, store, name)
        message = await _get_raw(nats_server, name, 2)
        item = json.loads(b64decode(message["data"]))
        assert item["position"] == message["seq"] == 2
        assert message["subject"] == f"{name}.acct_1.test.customer.created"
        headers = b64decode(message["hdrs"]).decode()
        assert f"Ledger-Position: 2\r\nLedger-Object: {item['object']}\r\n" in headers

    asyncio.run(run())


def test_events_are_published_as_they_are_recorded(dsn: str, nats_server: NatsServer, name: str) -> None:
    async def run() -> None:
        async with open_store(dsn) as store, run_publisher(store, nats_server.url, name):
            for position in range(1, 4):
                await append_events(store, 1)
                await wait_for_stream(nats_server, name, position)
            await check_stream(nats_server, store, name)

    asyncio.run(run())


def test_a_publisher_that_starts_again_goes_on_where_the_stream_ends(
    dsn: str, nats_server: NatsServer, name: str
) -> None:
    async def run() -> None:
        async with open_store(dsn) as store:
            for position in (700, 1400):
                await append_events(store, 700)
                async with run_publisher(store, nats_server.url, name):
                    await wait_for_stream(nats_server, name, position)
            await check_stream(nats_server, store, name)

    asyncio.run(run())


def test_a_stream_begins_at_the_position_that_was_asked_for(
    dsn: str, nats_server: NatsServer, name: str
) -> None:
    async def run() -> None:
        async with open_store(dsn) as store:
            await append_events(store, 50)
            async with run_publisher(store, nats_server.url, name, first=31):
                await wait_for_stream(nats_server, name, 50)
            async with run_publisher(store, nats_server.url, name, first=45):  # it is there: it goes on
                await append_events(store, 10)
                await wait_for_stream(nats_server, name, 60)
            await check_stream(nats_server, store, name, first=31)

    asyncio.run(run())


def test_a_position_of_the_future_is_refused_and_makes_no_stream(
    dsn: str, nats_server: NatsServer, name: str
) -> None:
    async def run() -> None:
        async with open_store(dsn) as store:
            await append_events(store, 5)
            publisher = make_publisher(store, nats_server.url, name, first=7)
            with pytest.raises(
                SettingError, match=r"^--from: position 7 is in the future: the log ends at 5$"
            ):
                await publisher.publish_upto(7)
        async with connect_to(nats_server) as client:
            answer = await client.request(f"$JS.API.STREAM.INFO.{name}")
            assert json.loads(answer.data)["error"]["err_code"] == 10059

    asyncio.run(run())


def test_of_two_publishers_one_stands_by_and_takes_over(dsn: str, nats_server: NatsServer, name: str) -> None:
    async def run() -> None:
        async with open_store(dsn) as store:
            async with run_publisher(store, nats_server.url, name) as other:
                async with run_publisher(store, nats_server.url, name):
                    for _ in range(10):
                        await append_events(store, 200)
                        await asyncio.sleep(0.02)
                    await wait_for_stream(nats_server, name, 2000)
                await append_events(store, 300)
                await wait_for_stream(nats_server, name, 2300)
                assert other.position == 2300
            await check_stream(nats_server, store, name)

    asyncio.run(run())


def test_a_message_of_somebody_else_stops_every_publisher(
    dsn: str, nats_server: NatsServer, name: str
) -> None:
    async def run() -> None:
        async with open_store(dsn) as store:
            await append_events(store, 5)
            async with run_publisher(store, nats_server.url, name) as publisher:
                await wait_for_stream(nats_server, name, 5)
                async with connect_to(nats_server) as client:
                    await client.jetstream().publish(f"{name}.acct_1.test.charge.captured", b"{}")
                await append_events(store, 600)
                with pytest.raises(
                    StreamConflict, match=rf"^message 6 of stream {name} is not this ledger's"
                ):
                    await asyncio.wait_for(publisher.wait_for_conflict(), 10)
            # What was under way may have passed: the next publisher finds the message all the same.
            for _ in range(2):
                with pytest.raises(StreamConflict, match=r"^message 6 .* ledger feed repair$"):
                    await make_publisher(store, nats_server.url, name).publish_upto(605)

    asyncio.run(run())


def test_a_log_that_ends_before_the_stream_is_refused(dsn: str, nats_server: NatsServer, name: str) -> None:
    async def run() -> None:
        async with open_store(dsn) as store:
            await append_events(store, 5)
            await make_publisher(store, nats_server.url, name).publish_upto(5)
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("SET session_replication_role = replica")
            conn.execute("DELETE FROM ledger.events WHERE notification_id > 3")
        async with open_store(dsn) as store:
            for _ in range(2):
                with pytest.raises(StreamConflict, match="ledger feed repair"):
                    await make_publisher(store, nats_server.url, name).publish_upto(10)
                await append_events(store, 3)  # the log goes on otherwise

    asyncio.run(run())


def test_a_message_that_is_too_long_for_the_server_is_named(dsn: str, name: str) -> None:
    limit_bytes = 1000  # some 30 bytes less than the message: a moment with few digits does not make it fit

    async def run(server: NatsServer) -> None:
        async with open_store(dsn) as store:
            await append_events(store, 3)
            await store.journal.append(create_customer(f"cus_{'x' * 240}"))
            size = len((await LogSource(store).read(3, 4))[0])
            assert size <= limit_bytes - 300, "with its headers it is longer"
            with pytest.raises(
                NatsUnavailable, match=rf"^the message of position 4 has .* {limit_bytes} at most"
            ):
                await make_publisher(store, server.url, name).publish_upto(4)
            await wait_for_stream(server, name, 3)

    with run_nats_server(require_program(), options=f"max_payload: {limit_bytes}") as server:
        asyncio.run(run(server))
