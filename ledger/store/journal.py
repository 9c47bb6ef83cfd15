"""Appending to the log: group commit, one appender task a process.

Invariants 1-3 of the README are enforced here and in `ledger.append` (migration 0001): positions are
gapless and in commit order; a command is taken whole or not at all, alone; what was acknowledged is
durable, and a batch whose connection was lost is sent again under its number, which finds its own
answer if it had happened: never twice, never a false failure.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.clock import Clock
from ledger.domain.event import DomainEvent
from ledger.errors import LedgerError, Unavailable
from ledger.postgres.connections import Link, first_line, question
from ledger.store.batching import Drain, Waiting
from ledger.store.codec import Codec, State
from ledger.store.log import PLANS, Streams
from ledger.store.notifications import Wake

RECONNECT_PAUSE_SECONDS = 0.05
FORGET_SLICE = 1000

_APPEND = "SELECT * FROM ledger.append(%s, %s, %s, %s::json, %s::json, %s::json)"
_REPLY = """
SELECT fingerprint, status, body, secret_of, secret_at, request_id FROM ledger.replies
WHERE account = %(account)s AND livemode = %(livemode)s AND key = %(key)s
"""
# Under the head lock, as ledger.append writes replies: an append that met this row uncommitted would fail,
# with everything in its batch.
_HEAD = "SELECT FROM ledger.head FOR UPDATE"
_KEEP = """
INSERT INTO ledger.replies (account, livemode, key, fingerprint, status, body, request_id, created_at)
VALUES (%(account)s, %(livemode)s, %(key)s, %(fingerprint)s, %(status)s, %(body)s, %(request_id)s,
        to_timestamp(%(at)s))
ON CONFLICT ON CONSTRAINT replies_key DO NOTHING
"""
_FORGET = """
DELETE FROM ledger.replies WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM ledger.replies WHERE created_at < to_timestamp(%(before)s) LIMIT %(limit)s))
"""
_FORGET_APPENDERS = (
    "DELETE FROM ledger.appenders WHERE recorded_at < to_timestamp(%(before)s) AND id <> %(own)s"
)


class StaleRead(LedgerError):
    """A stream the command wrote or relied on has moved on: decide again."""


class KeyTaken(LedgerError):
    """The idempotency key has an answer already: give that one."""


class Cause(NamedTuple):
    """Who asked, in which mode, by which request."""

    account: str
    livemode: bool
    actor: str | None
    request_id: str | None
    idempotency_key: str | None


class Change(NamedTuple):
    """A domain event and the aggregate after it. `causation` tells what a change nobody asked for followed
    from: an event (`stream/version`), a fact (`network:reference`), time (`clock`); it has no request."""

    event: DomainEvent
    state: State
    causation: str | None = None


class Reply(NamedTuple):
    """What the idempotency key of the cause will be answered from now on.

    A body that shows a secret is given with the secret cut out at offset `secret_at` (characters), and
    the id of the object it can be derived from again.
    """

    fingerprint: str
    status: int
    body: str
    secret_of: str | None = None
    secret_at: int | None = None


class Replied(NamedTuple):
    """A reply as it was kept, with the id of the request it was first given to."""

    reply: Reply
    request_id: str


@dataclass(frozen=True, slots=True)
class Append:
    """One command's effect, all or nothing: changes on any number of streams, a reply, and `guards`, the
    versions of other streams it relied on."""

    cause: Cause
    changes: Sequence[Change]
    reply: Reply | None = None
    guards: Mapping[str, int] = field(default_factory=dict)


async def keep_reply(conn: AsyncConnection[TupleRow], cause: Cause, reply: Reply, at: float) -> None:
    """Keep the reply to something that is not in the log, last in the transaction that makes it: no append
    goes on until that ends. Raises KeyTaken when the idempotency key has an answer, which undoes it."""
    await conn.execute(_HEAD)
    fingerprint, status, body, secret_of, _ = reply
    assert secret_of is None, "only what is in the log can be derived again"
    kept = await conn.execute(
        _KEEP,
        {
            "account": cause.account,
            "livemode": cause.livemode,
            "key": cause.idempotency_key,
            "fingerprint": fingerprint,
            "status": status,
            "body": body,
            "request_id": cause.request_id,
            "at": at,
        },
    )
    if not kept.rowcount:
        raise KeyTaken


Observe = Callable[[int, int, float], None]
"""Told of each append: commands, how many were refused, seconds."""


class Journal:
    """The one way to write to the log."""

    def __init__(
        self,
        dsn: str,
        codec: Codec,
        clock: Clock,
        streams: Streams,
        wake: Wake,
        *,
        batch_max: int,
        queue_max: int,
        timeout_ms: int,
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._streams = streams
        self._wake = wake
        self._timeout_seconds = timeout_ms / 1000
        self._link = Link(
            dsn, "ledger_api", name="journal", options=f"{PLANS} -c statement_timeout={timeout_ms}"
        )
        self._replies = Link(dsn, "ledger_api", name="replies")
        self._forgetting = Link(dsn, "ledger_api", name="forgetting")
        self._appender = uuid.uuid4()
        self._number = 0
        self._drain: Drain[Append, int] = Drain(self._commit, batch_max=batch_max, queue_max=queue_max)
        self.observe: Observe = lambda commands, refused, seconds: None

    def start(self) -> None:
        self._drain.start("journal")

    async def close(self) -> None:
        """Commit what was submitted, then stop."""
        await self._drain.close()
        await self._link.drop()
        await self._replies.drop()
        await self._forgetting.drop()

    @property
    def waiting(self) -> int:
        """Commands in the queue."""
        return len(self._drain)

    async def append(self, command: Append) -> int:
        """Make the command durable; the position of its last event (of the log, when it has none).

        Raises StaleRead, KeyTaken (nothing was changed), Overloaded, Unavailable.
        """
        return await self._drain.submit(command)

    async def replied(self, account: str, livemode: bool, key: str) -> Replied | None:
        """What the idempotency key was answered, if it was. Raises Unavailable."""
        parameters = {"account": account, "livemode": livemode, "key": key}
        async with question(), self._replies as conn:
            row = await (await conn.execute(_REPLY, parameters)).fetchone()
        return Replied(Reply(*row[:5]), row[5]) if row else None

    async def forget_replies(self, before: float) -> None:
        """Forget replies and appenders last used before `before` (unix seconds), a slice at a time: no
        lock is held long, and replays are not held up."""
        async with self._forgetting as conn:
            while (await conn.execute(_FORGET, {"before": before, "limit": FORGET_SLICE})).rowcount:
                pass
            await conn.execute(_FORGET_APPENDERS, {"before": before, "own": self._appender})

    async def _commit(self, batch: list[Waiting[Append, int]]) -> None:
        """Commit the batch. One statement checks against what is committed, so of two commands on one
        stream or key the second waits for the first: it has then lost, or is tried."""
        while batch:
            together, later = _compatible(batch)
            done = await self._commit_together(together)
            batch = []
            for waiting in later:
                if done.isdisjoint(_touched(waiting.item)):
                    batch.append(waiting)
                else:
                    _refuse(waiting, KeyTaken() if _key(waiting.item) in done else StaleRead())

    async def _commit_together(self, batch: list[Waiting[Append, int]]) -> set[object]:
        """Commit in one transaction; what the accepted commands wrote."""
        started = asyncio.get_running_loop().time()
        try:
            base, _, stale, taken = await self._send(batch)
        except (psycopg.DataError, psycopg.IntegrityError, TypeError, ValueError) as error:
            # One command cannot be written (or encoded): its neighbours must not share its fate.
            if len(batch) > 1:
                return {item for waiting in batch for item in await self._commit_together([waiting])}
            _refuse(batch[0], error)
            return set()
        done = self._settle(batch, base, set(stale), set(taken))
        seconds = asyncio.get_running_loop().time() - started
        self.observe(len(batch), len(stale) + len(taken), seconds)
        return done

    def _settle(
        self, batch: list[Waiting[Append, int]], base: int, stale: set[int], taken: set[int]
    ) -> set[object]:
        position = base
        done: set[object] = set()
        for number, waiting in enumerate(batch):
            command = waiting.item
            if number in taken:
                _refuse(waiting, KeyTaken())
            elif number in stale:
                _refuse(waiting, StaleRead())
            else:
                position += len(command.changes)
                for change in command.changes:
                    self._streams.remember(change.state)
                done.update(_written(command))
                if not waiting.answer.done():
                    waiting.answer.set_result(position)
        self._wake.advanced_to(position)
        return done

    async def _send(self, batch: list[Waiting[Append, int]]) -> tuple[int, Any, list[int], list[int]]:
        self._number += 1
        document = self._document([waiting.item for waiting in batch])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    conn = await self._link.connection()
                    cur = conn.cursor(binary=True)
                    await cur.execute(_APPEND, (self._appender, self._number, self._clock.now(), *document))
                    row = await cur.fetchone()
                assert row is not None
                return row
            except (psycopg.OperationalError, psycopg.InternalError, TimeoutError) as error:
                lost = isinstance(error, TimeoutError) or self._link.lost
                # Dropped in any case: a session begun on a read-only database stays read-only for ever.
                await self._link.drop()
                if not lost or loop.time() + RECONNECT_PAUSE_SECONDS >= deadline:
                    raise Unavailable(first_line(error)) from error
            await asyncio.sleep(RECONNECT_PAUSE_SECONDS)

    def _document(self, commands: list[Append]) -> tuple[str, str | None, str | None]:
        checks: list[dict[str, Any]] = []
        events: list[dict[str, Any]] = []
        replies: list[dict[str, Any]] = []
        for number, command in enumerate(commands):
            account, livemode, actor, request_id, key = command.cause
            written: dict[str, int] = {}
            for event, state, causation in command.changes:
                stored = self._codec.to_stored_event(event)
                stream = event.originator_id
                version = event.originator_version
                if stream not in written:
                    checks.append({"c": number, "s": stream, "v": version - 1})
                elif version != written[stream] + 1:
                    raise ValueError("the versions of a stream follow one another")
                written[stream] = version
                events.append(
                    {
                        "c": number,
                        "s": stream,
                        "v": version,
                        "t": stored.topic,
                        "d": stored.state.decode(),
                        "a": account,
                        "l": livemode,
                        "k": actor,
                        "r": None if causation else request_id,
                        "i": None if causation else key,
                        "b": causation,
                        "u": getattr(state, "customer", None),
                        "h": getattr(state, "charge", None),
                        "p": getattr(state, "payment_intent", None),
                    }
                )
            for stream, version in command.guards.items():
                if stream not in written:
                    checks.append({"c": number, "s": stream, "v": version})
            if command.reply is not None:
                fingerprint, status, body, secret_of, secret_at = command.reply
                replies.append(
                    {"c": number, "a": account, "l": livemode, "k": key, "f": fingerprint, "s": status,
                     "d": body, "o": secret_of, "n": secret_at, "r": request_id}
                )  # fmt: skip
        return _json(checks), _json(events) if events else None, _json(replies) if replies else None


def _key(command: Append) -> object:
    cause = command.cause
    return (cause.account, cause.livemode, cause.idempotency_key) if command.reply is not None else None


def _written(command: Append) -> list[object]:
    written: list[object] = [change.event.originator_id for change in command.changes]
    if command.reply is not None:
        written.append(_key(command))
    return written


def _touched(command: Append) -> list[object]:
    return [*_written(command), *command.guards]


def _compatible(
    batch: list[Waiting[Append, int]],
) -> tuple[list[Waiting[Append, int]], list[Waiting[Append, int]]]:
    """The commands that touch nothing an earlier one of the batch writes, and the others."""
    written: set[object] = set()
    together: list[Waiting[Append, int]] = []
    later: list[Waiting[Append, int]] = []
    for waiting in batch:
        command = waiting.item
        writes = _written(command)
        if written.isdisjoint(writes) and written.isdisjoint(command.guards):
            together.append(waiting)
        else:
            later.append(waiting)
        written.update(writes)
    return together, later


def _refuse(waiting: Waiting[Append, int], error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)


def _json(rows: list[dict[str, Any]]) -> str:
    return msgspec.json.encode(rows).decode()
