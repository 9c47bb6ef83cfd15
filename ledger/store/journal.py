"""Appending to the log: group commit, one appender task a process.

Invariants 1-3 of the README are enforced here and in `ledger.append` (migration 0001): positions are
gapless and in commit order; a command is taken whole or not at all, alone; what was acknowledged is
durable, and a batch whose connection was lost is sent again under its number, which finds its own
answer if it had happened: never twice, never a false failure.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import psycopg

from ledger.call import Cause
from ledger.clock import Clock
from ledger.domain.event import DomainEvent
from ledger.errors import LedgerError, Unavailable
from ledger.postgres.connections import Conn, ReconnectingConnection, fetch_one, first_line, query_timeout
from ledger.store.batching import BatchQueue, Pending
from ledger.store.codec import Codec, State, evolve
from ledger.store.log import PLANNER_OPTIONS, StreamReader
from ledger.store.notifications import HeadNotifier

RECONNECT_PAUSE_SECONDS = 0.05
DELETE_BATCH_SIZE = 1000

_APPEND = "SELECT * FROM ledger.append(%s, %s, %s, %s::json, %s::json, %s::json)"
_SELECT_REPLY = """
SELECT fingerprint, status, body, secret_of, secret_at, request_id FROM ledger.replies
WHERE account = %(account)s AND livemode = %(livemode)s AND key = %(key)s
"""
# Under the head lock, as ledger.append writes replies: an append that met this row uncommitted would fail,
# with everything in its batch.
_LOCK_HEAD = "SELECT FROM ledger.head FOR UPDATE"
_INSERT_REPLY = """
INSERT INTO ledger.replies (account, livemode, key, fingerprint, status, body, request_id, created_at)
VALUES (%(account)s, %(livemode)s, %(key)s, %(fingerprint)s, %(status)s, %(body)s, %(request_id)s,
        to_timestamp(%(at)s))
ON CONFLICT ON CONSTRAINT replies_key DO NOTHING
"""
_DELETE_REPLIES = """
DELETE FROM ledger.replies WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM ledger.replies WHERE created_at < to_timestamp(%(before)s) LIMIT %(limit)s))
"""
_DELETE_APPENDERS = (
    "DELETE FROM ledger.appenders WHERE recorded_at < to_timestamp(%(before)s) AND id <> %(own)s"
)


class VersionConflict(LedgerError):
    """A stream the command wrote or relied on has moved on: decide again."""


class IdempotencyKeyUsed(LedgerError):
    """The idempotency key has an answer already: give that one."""


class Change(NamedTuple):
    """A domain event and the aggregate after it. `causation` tells what a change nobody asked for followed
    from: an event (`stream/version`), a fact (`network:reference`), time (`clock`); it has no request."""

    event: DomainEvent
    state: State
    causation: str | None = None


def fold_changes(
    events: Iterable[DomainEvent], *before: State | None, causation: str | None = None
) -> list[Change]:
    """The changes that `events` make, in order; they may be of several streams.

    `before` are the aggregates that exist already (None is ignored). The first event of any other stream
    begins a new aggregate.
    """
    states = {state.id: state for state in before if state is not None}
    changes = []
    for event in events:
        stream = event.originator_id
        state = states[stream] = evolve(states.get(stream), event)
        changes.append(Change(event, state, causation))
    return changes


class Reply(NamedTuple):
    """What the idempotency key of the cause will be answered from now on.

    A body that shows a secret is given with the secret cut out at offset `secret_at` (characters), and
    the id of the object it can be derived from again.
    """

    fingerprint: str
    status: int
    body: str
    secret_object_id: str | None = None
    secret_offset: int | None = None


class StoredReply(NamedTuple):
    """A reply as it was kept, with the id of the request it was first given to."""

    reply: Reply
    request_id: str


@dataclass(frozen=True, slots=True)
class Append:
    """One command's effect, all or nothing: changes on any number of streams, a reply, and
    `expected_versions`, the versions of other streams it relied on."""

    cause: Cause
    changes: Sequence[Change]
    reply: Reply | None = None
    expected_versions: Mapping[str, int] = field(default_factory=dict)


async def insert_reply(conn: Conn, cause: Cause, reply: Reply, created_at: float) -> None:
    """Keep the reply to something that is not in the log, last in the transaction that makes it: no append
    goes on until that ends. Raises IdempotencyKeyUsed when the idempotency key has an answer, which undoes
    it."""
    await conn.execute(_LOCK_HEAD)
    fingerprint, status, body, secret_of, _ = reply
    assert secret_of is None, "only what is in the log can be derived again"
    cur = await conn.execute(
        _INSERT_REPLY,
        {
            "account": cause.account,
            "livemode": cause.livemode,
            "key": cause.idempotency_key,
            "fingerprint": fingerprint,
            "status": status,
            "body": body,
            "request_id": cause.request_id,
            "at": created_at,
        },
    )
    if not cur.rowcount:
        raise IdempotencyKeyUsed


AppendObserver = Callable[[int, int, float], None]
"""Told of each append: commands, how many were refused, seconds."""


class Journal:
    """The one way to write to the log."""

    def __init__(
        self,
        dsn: str,
        codec: Codec,
        clock: Clock,
        streams: StreamReader,
        notifier: HeadNotifier,
        *,
        batch_max: int,
        queue_max: int,
        timeout_ms: int,
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._streams = streams
        self._notifier = notifier
        self._timeout_seconds = timeout_ms / 1000
        self._connection = ReconnectingConnection(
            dsn, "ledger_api", name="journal", options=f"{PLANNER_OPTIONS} -c statement_timeout={timeout_ms}"
        )
        self._reply_connection = ReconnectingConnection(dsn, "ledger_api", name="replies")
        self._cleanup_connection = ReconnectingConnection(dsn, "ledger_api", name="forgetting")
        self._appender_id = uuid.uuid4()
        self._batch_number = 0
        self._queue: BatchQueue[Append, int] = BatchQueue(
            self._commit, batch_max=batch_max, queue_max=queue_max
        )
        self.on_append: AppendObserver = lambda commands, refused, seconds: None

    def start(self) -> None:
        self._queue.start("journal")

    async def close(self) -> None:
        """Commit what was submitted, then stop."""
        await self._queue.close()
        await self._connection.drop()
        await self._reply_connection.drop()
        await self._cleanup_connection.drop()

    @property
    def queue_length(self) -> int:
        """Commands in the queue."""
        return len(self._queue)

    async def append(self, command: Append) -> int:
        """Make the command durable; the position of its last event (of the log, when it has none).

        Raises VersionConflict, IdempotencyKeyUsed (nothing was changed), QueueFull, Unavailable.
        """
        return await self._queue.submit(command)

    async def find_reply(self, account: str, livemode: bool, key: str) -> StoredReply | None:
        """What the idempotency key was answered, if it was. Raises Unavailable."""
        parameters = {"account": account, "livemode": livemode, "key": key}
        async with query_timeout(), self._reply_connection as conn:
            row = await fetch_one(conn, _SELECT_REPLY, parameters)
        return StoredReply(Reply(*row[:5]), row[5]) if row else None

    async def delete_old_replies(self, before: float) -> None:
        """Forget replies and appenders last used before `before` (unix seconds), a slice at a time: no
        lock is held long, and replays are not held up."""
        async with self._cleanup_connection as conn:
            while (
                await conn.execute(_DELETE_REPLIES, {"before": before, "limit": DELETE_BATCH_SIZE})
            ).rowcount:
                pass
            await conn.execute(_DELETE_APPENDERS, {"before": before, "own": self._appender_id})

    async def _commit(self, batch: list[Pending[Append, int]]) -> None:
        """Commit the batch. One statement checks against what is committed, so of two commands on one
        stream or key the second waits for the first: it has then lost, or is tried."""
        while batch:
            compatible, deferred = _split_compatible(batch)
            written_keys = await self._commit_group(compatible)
            batch = []
            for pending in deferred:
                if written_keys.isdisjoint(_get_touched_keys(pending.item)):
                    batch.append(pending)
                else:
                    _reject(
                        pending,
                        IdempotencyKeyUsed()
                        if _get_reply_key(pending.item) in written_keys
                        else VersionConflict(),
                    )

    async def _commit_group(self, batch: list[Pending[Append, int]]) -> set[object]:
        """Commit in one transaction; what the accepted commands wrote."""
        started = asyncio.get_running_loop().time()
        try:
            last_position, _, version_conflicts, key_conflicts = await self._append_with_retries(batch)
        except (psycopg.DataError, psycopg.IntegrityError, TypeError, ValueError) as error:
            # One command cannot be written (or encoded): its neighbours must not share its fate.
            if len(batch) > 1:
                return {item for pending in batch for item in await self._commit_group([pending])}
            _reject(batch[0], error)
            return set()
        written_keys = self._resolve(batch, last_position, set(version_conflicts), set(key_conflicts))
        seconds = asyncio.get_running_loop().time() - started
        self.on_append(len(batch), len(version_conflicts) + len(key_conflicts), seconds)
        return written_keys

    def _resolve(
        self,
        batch: list[Pending[Append, int]],
        last_position: int,
        version_conflicts: set[int],
        key_conflicts: set[int],
    ) -> set[object]:
        position = last_position
        written_keys: set[object] = set()
        for number, pending in enumerate(batch):
            command = pending.item
            if number in key_conflicts:
                _reject(pending, IdempotencyKeyUsed())
            elif number in version_conflicts:
                _reject(pending, VersionConflict())
            else:
                position += len(command.changes)
                for change in command.changes:
                    self._streams.update_cache(change.state)
                written_keys.update(_get_written_keys(command))
                if not pending.future.done():
                    pending.future.set_result(position)
        self._notifier.advance(position)
        return written_keys

    async def _append_with_retries(
        self, batch: list[Pending[Append, int]]
    ) -> tuple[int, Any, list[int], list[int]]:
        self._batch_number += 1
        arguments = self._encode_commands([pending.item for pending in batch])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    conn = await self._connection.get()
                    cur = conn.cursor(binary=True)
                    await cur.execute(
                        _APPEND, (self._appender_id, self._batch_number, self._clock.now(), *arguments)
                    )
                    row = await cur.fetchone()
                assert row is not None
                return row
            except (psycopg.OperationalError, psycopg.InternalError, TimeoutError) as error:
                disconnected = isinstance(error, TimeoutError) or self._connection.is_disconnected
                # Dropped in any case: a session begun on a read-only database stays read-only for ever.
                await self._connection.drop()
                if not disconnected or loop.time() + RECONNECT_PAUSE_SECONDS >= deadline:
                    raise Unavailable(first_line(error)) from error
            await asyncio.sleep(RECONNECT_PAUSE_SECONDS)

    def _encode_commands(self, commands: list[Append]) -> tuple[str, str | None, str | None]:
        checks: list[dict[str, Any]] = []
        events: list[dict[str, Any]] = []
        replies: list[dict[str, Any]] = []
        for number, command in enumerate(commands):
            account, livemode, actor, request_id, key = command.cause
            new_versions: dict[str, int] = {}
            for event, state, causation in command.changes:
                stored = self._codec.to_stored_event(event)
                stream = event.originator_id
                version = event.originator_version
                if stream not in new_versions:
                    checks.append({"c": number, "s": stream, "v": version - 1})
                elif version != new_versions[stream] + 1:
                    raise ValueError("the versions of a stream follow one another")
                new_versions[stream] = version
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
            for stream, version in command.expected_versions.items():
                if stream not in new_versions:
                    checks.append({"c": number, "s": stream, "v": version})
            if command.reply is not None:
                fingerprint, status, body, secret_of, secret_at = command.reply
                replies.append(
                    {"c": number, "a": account, "l": livemode, "k": key, "f": fingerprint, "s": status,
                     "d": body, "o": secret_of, "n": secret_at, "r": request_id}
                )  # fmt: skip
        return (
            _encode_json(checks),
            _encode_json(events) if events else None,
            _encode_json(replies) if replies else None,
        )


def _get_reply_key(command: Append) -> object:
    cause = command.cause
    return (cause.account, cause.livemode, cause.idempotency_key) if command.reply is not None else None


def _get_written_keys(command: Append) -> list[object]:
    keys: list[object] = [change.event.originator_id for change in command.changes]
    if command.reply is not None:
        keys.append(_get_reply_key(command))
    return keys


def _get_touched_keys(command: Append) -> list[object]:
    return [*_get_written_keys(command), *command.expected_versions]


def _split_compatible(
    batch: list[Pending[Append, int]],
) -> tuple[list[Pending[Append, int]], list[Pending[Append, int]]]:
    """The commands that touch nothing an earlier one of the batch writes, and the others."""
    written: set[object] = set()
    compatible: list[Pending[Append, int]] = []
    deferred: list[Pending[Append, int]] = []
    for pending in batch:
        command = pending.item
        writes = _get_written_keys(command)
        if written.isdisjoint(writes) and written.isdisjoint(command.expected_versions):
            compatible.append(pending)
        else:
            deferred.append(pending)
        written.update(writes)
    return compatible, deferred


def _reject(pending: Pending[Append, int], error: Exception) -> None:
    if not pending.future.done():
        pending.future.set_exception(error)


def _encode_json(rows: list[dict[str, Any]]) -> str:
    return msgspec.json.encode(rows).decode()
