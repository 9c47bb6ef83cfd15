"""The yardstick of a durable POST: what is left of it without forms, API keys, decisions and projections.

Bare ASGI, on the server software of the ledger. Each POST appends one event that was encoded beforehand, with
a reply under a key of its own, by the ledger's own batch queue and appender: one batch at a time. It is
answered with constant bytes when the event is durable. How far our POST is from it is the cost of what the
service does for a request; how far it is from raw ASGI is the cost of the group commit.
"""

from __future__ import annotations

import itertools
import os

from starlette.types import Receive, Scope, Send

from benchmarks.store import ACCOUNT, ACTOR, REQUEST
from benchmarks.yardsticks.constant_app import END, START
from ledger.clock import Clock
from ledger.store.append_call import Batch, EventRow, ReplyRow
from ledger.store.appender import Appender
from ledger.store.batching import BatchQueue, Pending

DSN = "BENCHMARK_DSN"
"""The environment variable that names the database."""
BATCH_MAX = 512
QUEUE_MAX = 10_000
TIMEOUT_MS = 5000

_CUSTOMER = "cus_0000000000000000000000"
_TOPIC = "customer_session.created"
_STATE = (
    b'{"account":"acct_benchmark","livemode":false,"customer":"cus_0000000000000000000000",'
    b'"components":{"pricing_table":{"enabled":true}},"expires_at":1700001800,"created":1700000000}'
)
_COMPRESSED_REPLY = b"x" * 150
_FINGERPRINT = "0" * 64
ERASURES_MAX = 2**62
"""It caches nothing that could be erased."""


class _GroupCommit:
    """Appends the events of the POSTs that wait, in one batch."""

    def __init__(self) -> None:
        self._appender = Appender(os.environ[DSN], Clock(), timeout_ms=TIMEOUT_MS)
        self._queue = BatchQueue(self._commit, batch_max=BATCH_MAX, queue_max=QUEUE_MAX)
        self._queue.start("bare")
        self._numbers = itertools.count(1)

    async def append(self) -> None:
        """Return when an event is durable."""
        await self._queue.submit(next(self._numbers))

    async def close(self) -> None:
        """Commit what waits, then disconnect."""
        await self._queue.close()
        await self._appender.close()

    async def _commit(self, batch: list[Pending[int, None]]) -> None:
        names = [(place, f"{pending.item:022d}") for place, pending in enumerate(batch)]
        events: list[EventRow] = [
            (
                place, f"cuss_{name}", 1, _TOPIC, _STATE, ACCOUNT, False, ACTOR, REQUEST, name, None,
                _CUSTOMER, None, None,
            )
            for place, name in names
        ]  # fmt: skip
        replies: list[ReplyRow] = [
            (
                place,
                ACCOUNT,
                False,
                name,
                _FINGERPRINT,
                200,
                None,
                _COMPRESSED_REPLY,
                None,
                None,
                REQUEST,
                place + 1,
            )
            for place, name in names
        ]
        result = await self._appender.append(Batch([], [], events, replies, [], ERASURES_MAX))
        assert not result.version_conflicts
        assert not result.key_conflicts
        for pending in batch:
            pending.future.set_result(None)


_commits: list[_GroupCommit] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Append one event, then answer with constant bytes."""
    if scope["type"] == "lifespan":
        await receive()
        _commits.append(_GroupCommit())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await _commits.pop().close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await _commits[0].append()
    await send(START)
    await send(END)
