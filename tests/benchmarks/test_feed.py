"""What the benchmarks of the feed count as arrived: nothing is measured here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import psycopg
import pytest

from benchmarks.feed import drain
from benchmarks.feed.latency import Recorded
from benchmarks.feed.readers import Arrivals, Stream, find_latencies_ms
from benchmarks.paced_load import Answer, summarize

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = (
    b'2f\r\nretry: 1000\n\nid: 7\ndata: {"position":7,"type":"a"}\n\n\r\n'
    b'2b\r\nid: 8\ndata: {"position":8,"data":"data: {\\"position\\":9"}\n\n\r\n'
    b'30\r\nevent: progress\nid: 12\ndata: {"progress":12,"head":12}\n\n\r\n'
)


@pytest.mark.parametrize("size", [1, 2, 7, 50, 1000])
def test_a_reader_counts_the_same_items_wherever_the_stream_is_cut(size: int) -> None:
    async def read() -> Arrivals:
        stream, content = Stream(b""), HEAD + EVENTS
        for start in range(0, len(content), size):
            stream.data_received(content[start : start + size])
        await stream.begun
        return stream.take()

    arrivals = asyncio.run(read())
    assert (arrivals.items, arrivals.heartbeats) == (2, 1)
    assert [position for position, _ in arrivals.chunks][-1] == 8


def test_a_refused_reader_says_what_the_service_answered() -> None:
    async def read() -> None:
        stream = Stream(b"")
        stream.data_received(b'HTTP/1.1 400 Bad Request\r\n\r\n{"error":"unknown type"}')
        await stream.begun

    with pytest.raises(RuntimeError, match="unknown type"):
        asyncio.run(read())


def test_the_latency_of_a_position_ends_with_the_piece_that_had_it() -> None:
    chunks = [(3, 10.0), (5, 11.0), (9, 12.5)]
    assert find_latencies_ms(chunks, {2: 9.5, 3: 9.9, 5: 10.0, 8: 12.0}) == pytest.approx(
        [500, 100, 1000, 500]
    )
    with pytest.raises(RuntimeError, match="position 10 has not arrived"):
        find_latencies_ms(chunks, {10: 1.0})


def test_a_reader_gets_what_its_filter_lets_pass() -> None:
    event = Recorded(1, "customer.created", "cus_1", Answer("req_1", 1.0, 2.0))
    assert event.passes("")
    assert event.passes("types=customer.created")
    assert event.passes("object=cus_1")
    assert not event.passes("types=customer.updated")
    assert not event.passes("object=cus_2")


def test_paced_latencies_count_from_when_a_request_was_due() -> None:
    latency = summarize([Answer("req_1", 1.0, 1.5), Answer("req_2", 2.0, 2.1), Answer("req_3", 3.0, 3.2)])
    assert latency == pytest.approx((200, 500))


@contextmanager
def _serve(content: bytes) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_drain_counts_items_up_to_the_line_of_progress() -> None:
    content = b'{"position":1}\n{"position":2}\n{"progress":2,"head":2}\n'
    with _serve(content) as port:
        result = drain.drain(port, "rk_test_1")
    assert (result.items, result.size) == (2, len(content))


def test_a_drain_without_the_line_of_progress_was_cut() -> None:
    with _serve(b'{"position":1}\n{"position":2}\n') as port, pytest.raises(RuntimeError, match="last line"):
        drain.drain(port, "rk_test_1")


def test_the_log_that_is_drained_has_every_position_and_its_copies_other_ids(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "STORY_EVENTS_MAX", 200)
    drain.fill_log(dsn, 500)
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT count(*), max(notification_id) FROM ledger.events").fetchone() == (
            500,
            500,
        )
        assert conn.execute("SELECT position FROM ledger.head").fetchone() == (500,)
        assert (
            conn.execute("SELECT count(*) FROM ledger.events WHERE originator_version = 1").fetchone()
            == conn.execute("SELECT count(DISTINCT originator_id) FROM ledger.events").fetchone()
        )
