"""Short ways to a store, to commands for it, and to what the log then holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from ledger.call import Cause
from ledger.clock import Clock
from ledger.config import Settings
from ledger.domain import customer
from ledger.domain.aggregate import State
from ledger.domain.customer import Customer
from ledger.store.codec import evolve
from ledger.store.journal import Append, Change
from ledger.store.replies import Reply
from ledger.store.store import Store

KEY = b"the service key of these tests, of 32 bytes and more"
NOW = 1_700_000_000
CAUSE = Cause("acct_1", False, "key_1", "req_1", None)

_LOG = """
SELECT notification_id, originator_id, originator_version FROM ledger.events ORDER BY notification_id
"""


@asynccontextmanager
async def open_store(dsn: str, *, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Store]:
    """A started store: what one process of the service has."""
    store = Store(dsn, KEY, Settings(**settings), clock or Clock())
    await store.start()
    try:
        yield store
    finally:
        await store.close()


class FixedClock(Clock):
    """Stands at `at` (unix seconds) until it is set anew."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = at

    def now(self) -> float:
        return self.at


def create_customer(
    customer_id: str,
    *,
    cause: Cause = CAUSE,
    reply: Reply | None = None,
    guards: Mapping[str, int] = {},
    name: str = "Ada",
) -> Append:
    """A command that creates a customer."""
    return Append(cause, [create_change(customer_id, name)], reply, guards)


def create_change(customer_id: str, name: str = "Ada", causation: str | None = None) -> Change:
    [event] = customer.create(
        customer_id=customer_id, account="acct_1", livemode=False, params={"name": name}, card_id="", now=NOW
    )
    return Change(event, evolve(None, event), causation)


def rename_change(state: State | None, name: str, causation: str | None = None) -> Change:
    assert isinstance(state, Customer)
    [event] = customer.update(state, {"name": name}, card_id="", now=NOW)
    return Change(event, evolve(state, event), causation)


def rename_customer(state: State | None, name: str, *, guards: Mapping[str, int] = {}) -> Append:
    """A command that renames a customer, decided on `state`."""
    return Append(CAUSE, [rename_change(state, name)], expected_versions=guards)


def with_reply(key: str, body: str = "{}") -> dict[str, Any]:
    """Cause and reply of a command with an idempotency key."""
    return {"cause": CAUSE._replace(idempotency_key=key), "reply": Reply("print", 200, body)}


def read_positions(dsn: str) -> list[tuple[int, str, int]]:
    """(position, stream, version) of the whole log."""
    with psycopg.connect(dsn) as conn:
        return conn.execute(_LOG).fetchall()


def fetch_rows(dsn: str, query: str) -> list[TupleRow]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        return conn.execute(query.encode()).fetchall()


def check_gapless(log: list[tuple[int, str, int]]) -> None:
    """Invariants 1 and 2: positions 1..n, and in each stream versions 1..n in position order."""
    assert [position for position, _, _ in log] == list(range(1, len(log) + 1))
    last: dict[str, int] = {}
    for _, stream, version in log:
        assert version == last.get(stream, 0) + 1, stream
        last[stream] = version


async def wait_until(condition: Any, *, seconds: float = 60.0) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def head_locked(dsn: str) -> AsyncIterator[None]:
    """Meanwhile every append waits in the database, as behind a slow commit of another process."""
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        await conn.execute("SELECT FROM ledger.head FOR UPDATE")
        yield
        await conn.rollback()


def blocked_appends(dsn: str) -> int:
    """Journal backends that wait for a lock."""
    query = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
               AND application_name = 'ledger journal' AND wait_event_type = 'Lock'"""
    return int(fetch_rows(dsn, query)[0][0])
