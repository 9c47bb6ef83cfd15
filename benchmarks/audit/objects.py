"""Objects of the past over HTTP: any object as of any moment against reading it now, and pages of history.

The service runs without the projections, which none of these reads needs. Each request is about another
object and another moment, so on a long log nothing of it is cached. Nothing is sealed meanwhile. The
measurement makes one object long, at the end of the log.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from typing import NamedTuple

import psycopg

from benchmarks.audit.ground import Ground
from benchmarks.measurement import Effort, alternate, rate_of_callers
from benchmarks.report import Figure, Goal, compare, figure
from benchmarks.seal_impact import hold_sealing
from benchmarks.service import (
    THIS_BUILD,
    await_start,
    build_environment,
    find_free_port,
    stop_process,
)
from benchmarks.store import ACCOUNT, SECRET_KEY
from ledger.accounts import create_key
from ledger.postgres.connections import open_connection

OBJECTS_MAX = 240_000
REQUESTS_MAX = 20_000
LONG_VERSIONS = 10_000
CONNECTIONS = (1, 16)
SLOWER_MAX, PAGE_MS_MAX = 2.0, 10.0
NOW = "GET /v1/disputes/{id}"
THEN = "GET /audit/objects/{id}?at="
HISTORY = "GET /audit/objects/{id}/history?limit=100"

_DISPUTES = """
SELECT originator_id, max(notification_id), extract(epoch FROM max(recorded_at))::float8
FROM ledger.events WHERE topic LIKE 'dispute.%%'
GROUP BY originator_id ORDER BY hashtext(originator_id) LIMIT %s
"""
_CUSTOMER = "SELECT originator_id FROM ledger.events WHERE topic = 'customer.created' LIMIT 1"
_LENGTHEN = """
WITH added AS (
INSERT INTO ledger.events (notification_id, originator_id, originator_version, topic, state, account,
    livemode, actor, recorded_at)
SELECT h.position + n, c.originator_id, c.version + n, 'customer.updated',
       convert_to('{"at":1790000000,"changes":{"balance":' || n || '}}', 'UTF8'), c.account, false, NULL,
       h.recorded_at
FROM ledger.head h, generate_series(1, %(versions)s) n,
     (SELECT originator_id, max(originator_version) AS version, min(account) AS account FROM ledger.events
      WHERE originator_id = %(id)s GROUP BY originator_id) c
)
UPDATE ledger.head SET position = position + %(versions)s
"""


class _Place(NamedTuple):
    """The running service and what to ask it for: disputes with the time of their last change, endlessly."""

    port: int
    secret: str
    auditor: str
    disputes: Iterator[tuple[str, float]]
    long_object: str


def measure(ground: Ground, effort: Effort) -> list[Figure]:
    """Figures at each of CONNECTIONS, and of pages of history."""
    with _run_service(ground) as place, hold_sealing(ground.dsn):
        figures = []
        for connections in CONNECTIONS:
            measure = partial(_measure_rate, place, connections, effort.seconds * 4)
            rates = alternate(
                {
                    NOW: partial(measure, place.secret, _ask_now),
                    THEN: partial(measure, place.auditor, _ask_then),
                },
                effort.rounds,
            )
            figures.append(
                compare(
                    f"audit: objects, {connections} connection{'s' * (connections > 1)}",
                    THEN,
                    rates[THEN],
                    NOW,
                    rates[NOW],
                    goal=Goal(1 / SLOWER_MAX),
                    note="another object and moment each time",
                )
            )
        return [*figures, *_measure_history(place)]


def _measure_rate(
    place: _Place, connections: int, seconds: float, secret: str, ask: Callable[[str, float], str]
) -> float:
    """Answers per second over this many connections, each about another dispute."""
    paths = [ask(*dispute) for dispute in islice(place.disputes, REQUESTS_MAX)]

    async def main() -> float:
        clients = asyncio.Queue[_Client]()
        for _ in range(connections):
            clients.put_nowait(await _Client.connect(place.port, secret))

        async def get(path: str) -> None:
            client = await clients.get()
            await client.get(path)
            clients.put_nowait(client)

        return await rate_of_callers(get, paths, callers=connections, seconds=seconds)

    return asyncio.run(main())


def _ask_now(dispute: str, changed_at: float) -> str:
    return f"/v1/disputes/{dispute}"


def _ask_then(dispute: str, changed_at: float) -> str:
    return f"/internal/v1/audit/objects/{dispute}?at={changed_at + 1:.3f}"


def _measure_history(place: _Place) -> list[Figure]:
    """Milliseconds for a page of an ordinary object, and for the first and the next page of a long one."""

    async def measure() -> tuple[list[float], list[float], list[float]]:
        client = await _Client.connect(place.port, place.auditor)
        ordinary = [
            await client.time(f"/internal/v1/audit/objects/{dispute}/history?limit=100")
            for dispute, _ in islice(place.disputes, 500)
        ]
        path = f"/internal/v1/audit/objects/{place.long_object}/history?limit=100&order=desc"
        first, again = await client.time(path), [await client.time(path) for _ in range(10)]
        return ordinary, [first], again

    ordinary, first, again = asyncio.run(measure())
    long = f"history, newest 100 of {LONG_VERSIONS:,} versions"
    group = "audit: objects, 1 connection"
    return [
        figure(group, HISTORY, ordinary, "ms", goal=Goal(PAGE_MS_MAX, is_maximum=True)),
        figure(group, f"{long}, first time", first, "ms"),
        figure(group, f"{long}, again", again, "ms", goal=Goal(PAGE_MS_MAX, is_maximum=True)),
    ]


class _Client:
    """One connection that asks and waits for the answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: str) -> None:
        self._reader = reader
        self._writer = writer
        self._headers = f"Host: 127.0.0.1\r\nAuthorization: Bearer {secret}\r\n\r\n"

    @classmethod
    async def connect(cls, port: int, secret: str) -> _Client:
        """A client on a new connection."""
        return cls(*await asyncio.open_connection("127.0.0.1", port), secret)

    async def get(self, path: str) -> bytes:
        """The body. Raises RuntimeError when the status is not 200."""
        self._writer.write(f"GET {path} HTTP/1.1\r\n{self._headers}".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        body = await self._reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
        if " 200 " not in head.partition("\r\n")[0]:
            raise RuntimeError(f"GET {path}: {body.decode()}")
        return body

    async def time(self, path: str) -> float:
        """Milliseconds until the answer."""
        started = time.perf_counter()
        await self.get(path)
        return (time.perf_counter() - started) * 1000


@contextmanager
def _run_service(ground: Ground) -> Iterator[_Place]:
    """Serve the ground by `ledger api`."""
    dsn = ground.dsn
    secret, auditor = asyncio.run(_create_keys(dsn))
    with psycopg.connect(dsn, autocommit=True) as conn:
        rows = conn.execute(_DISPUTES, (OBJECTS_MAX,)).fetchall()
        customer = next(iter(conn.execute(_CUSTOMER)))[0]
        conn.execute(_LENGTHEN, {"id": customer, "versions": LONG_VERSIONS})
        conn.execute("VACUUM ANALYZE ledger.events")
    port = find_free_port()
    settings = {
        "LEDGER_DATABASE_URL": dsn,
        "LEDGER_SECRET_KEY": SECRET_KEY.decode(),
        "LEDGER_DATA_DIR": str(ground.server.directory / "audit_objects"),
        "LEDGER_PORT": str(port),
        "LEDGER_LOG_LEVEL": "warning",
    }
    process = subprocess.Popen(
        THIS_BUILD.build_command("api"), env=build_environment() | settings, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        await_start(process, "ledger api", lambda: asyncio.run(_answers(port, secret)))
        yield _Place(port, secret, auditor, cycle([(row[0], row[2]) for row in rows]), customer)
    finally:
        stop_process(process)


async def _answers(port: int, secret: str) -> bool:
    return bool(await (await _Client.connect(port, secret)).get("/v1/account"))


async def _create_keys(dsn: str) -> tuple[str, str]:
    """The secrets of a key for the public API, and of an auditor's."""
    async with open_connection(dsn, "ledger_api", name="benchmark") as conn:
        _, secret = await create_key(conn, ACCOUNT, "sk", livemode=False, name="benchmark")
        scopes = ["audit", "personal_data"]
        _, auditor = await create_key(conn, ACCOUNT, "rk", livemode=False, name="auditor", scopes=scopes)
    return secret, auditor
