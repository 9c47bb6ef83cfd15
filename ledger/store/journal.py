"""Append to the log. One task per process commits the waiting commands in batches (group commit).

Invariants 1-3 of the README are enforced here and in the SQL function `ledger.append_any` (migration 0039):
positions are gapless and in commit order, because an append holds the lock of `ledger.head_lock` until it
commits; each command of a batch is accepted as a whole or rejected as a whole, without effect on its
neighbours; an acknowledged command is durable. How a batch survives a lost connection:
`ledger.store.appender`.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec
import psycopg

from ledger.call import Cause
from ledger.clock import Clock
from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.errors import LedgerError, ObjectRedacted
from ledger.keys.data_keys import NO_KEYS
from ledger.store.append_call import Batch
from ledger.store.appender import Appender, BatchResult, NoteFailover
from ledger.store.batching import BatchQueue, Pending
from ledger.store.codec import Codec, evolve
from ledger.store.log import StreamReader
from ledger.store.notifications import HeadNotifier
from ledger.store.replies import IdempotencyKeyUsed, Replies, Reply, StoredReply, encode_reply
from ledger.store.seals.batch_keys import BatchKeys

GATHER_MAX = 16
"""A larger batch saves little more for each command; then it is better that the database has work."""


class VersionConflict(LedgerError):
    """A stream that the command wrote or relied on has a newer version: decide again."""


class Change(NamedTuple):
    """A domain event and the aggregate after it.

    `causation` is the cause of a change that was not made by an API request: an event (`stream/version`), a
    network fact (`network:reference`) or the time (`clock`). Such a change is stored without a request. One
    that was made by a request is stored with the Event to which its caller reacted (`event:id`), if any.
    """

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


class Append(msgspec.Struct, frozen=True):
    """The effect of one command, accepted as a whole or not at all: changes on any number of streams, and a
    reply.

    expected_versions  the versions of further streams that the decision relied on
    erased_subjects    data subjects whose erasure begins with it
    erasures           the erasure epoch that this process had seen before it read what it decided on; None
                       if it read nothing before
    """

    cause: Cause
    changes: Sequence[Change]
    reply: Reply | None = None
    expected_versions: Mapping[str, int] = msgspec.field(default_factory=dict)
    erased_subjects: Sequence[str] = ()
    erasures: int | None = None


_REFUSALS = (psycopg.DataError, psycopg.IntegrityError, TypeError, ValueError, struct.error, ObjectRedacted)
"""Why a command cannot be stored, whatever its neighbours are."""

_Commands = list[Pending[Append, int]]
AppendObserver = Callable[[int, int, float, int], None]
"""Called after each append: commands in the batch, rejected ones, seconds, commands still in the queue."""


class Journal:
    """Appends commands to the log for one process; nothing else writes to the log.

    Commands wait in a queue while a batch is committed, and form the next batch: so a busy log has large
    batches, and a command on an idle log does not wait.
    """

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
        note_failover: NoteFailover | None = None,
    ) -> None:
        self._codec = codec
        self._data_keys = codec.data_keys
        self._watch = codec.data_keys.watch
        self._streams = streams
        self._notifier = notifier
        self._appender = Appender(dsn, clock, timeout_ms=timeout_ms, note_failover=note_failover)
        self._replies = Replies(dsn, codec.data_keys)
        self._queue: BatchQueue[Append, int] = BatchQueue(
            self._commit, batch_max=batch_max, queue_max=queue_max, gather_max=GATHER_MAX
        )
        self.on_append: AppendObserver = lambda commands, rejected, seconds, queue_length: None

    async def start(self) -> None:
        """Begin to commit what is submitted."""
        self._queue.start("journal")

    async def close(self) -> None:
        """Commit what was submitted, then stop."""
        await self._queue.close()
        await self._appender.close()
        await self._replies.close()

    @property
    def appender_id(self) -> UUID:
        """The id under which the database stores the result of this journal's last batch."""
        return self._appender.id

    @property
    def queue_length(self) -> int:
        """Commands that wait for the next batch."""
        return len(self._queue)

    async def append(self, command: Append) -> int:
        """Append the command; returns, once it is durable, the position of its last event (of the log's last
        event, when it has none).

        Raises VersionConflict, IdempotencyKeyUsed, ObjectRedacted and QueueFull, after which nothing was
        changed, and Unavailable, after which it may have been.
        """
        if command.erasures is None:
            if not self._watch.is_known:
                await self._watch.look(self._streams.source)
            command = msgspec.structs.replace(command, erasures=self._watch.epoch)
        return await self._queue.submit(command)

    async def find_reply(self, account: str, livemode: bool, key: str) -> StoredReply | None:
        """The stored reply of the idempotency key `key`; None when there is none. Raises Unavailable."""
        return await self._replies.find(account, livemode, key)

    async def _commit(self, batch: list[Pending[Append, int]]) -> None:
        """Commit the batch, in groups of commands that do not touch the same streams and keys.

        The database checks commands against what is committed, not against each other. So of two
        commands on one stream or idempotency key the second one runs in a later group, or is rejected if the
        first was accepted.
        """
        while batch:
            compatible, deferred = _split_compatible(batch)
            accepted = await self._commit_group(compatible)
            if not deferred:
                return
            written_keys = {key for pending in accepted for key in _get_written_keys(pending.item)}
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

    async def _commit_group(self, batch: _Commands, *, look_up_all: bool = False) -> _Commands:
        """Commit in one transaction; returns the accepted commands. They rarely create a stream or a key that
        exists. It costs less to find that out than to look each of them up before: so that is done only when
        the batch has been refused."""
        started = asyncio.get_running_loop().time()
        as_bytes = await self._replies.may_store_bytes()
        batch = await self._reject_outdated(batch)
        if not batch:
            return []
        is_outdated = self._watch.track_resets()
        try:
            keys, rows = await self._to_rows(as_bytes, batch, look_up_all=look_up_all)
            asked_at = time.monotonic()
            result = await self._appender.append(rows, with_creations=look_up_all, is_outdated=is_outdated)
        except psycopg.errors.UniqueViolation as error:
            if not look_up_all:
                return await self._commit_group(batch, look_up_all=True)
            return await self._commit_each(batch, error)
        except _REFUSALS as error:
            return await self._commit_each(batch, error)
        epoch = rows.erasures if result.erasures is None else result.erasures
        self._watch.observe(epoch, asked_at=asked_at)
        refused_keys = [] if look_up_all else _find_refused_keys(batch, rows, result)
        accepted = self._resolve(batch, result, refused_keys)
        if self._watch.epoch == rows.erasures:  # else an erasure may concern what would be cached
            self._update_caches(accepted, keys, rows, result)
        seconds = asyncio.get_running_loop().time() - started
        self.on_append(len(batch), len(batch) - len(accepted), seconds, len(self._queue))
        if refused_keys:
            accepted = accepted + await self._commit_group(refused_keys, look_up_all=True)
        return accepted

    async def _commit_each(self, batch: _Commands, error: Exception) -> _Commands:
        """A command that cannot be stored or encoded must not make its neighbours fail: commit each alone."""
        if len(batch) > 1:
            return [accepted for pending in batch for accepted in await self._commit_group([pending])]
        _reject(batch[0], error)
        return []

    async def _reject_outdated(self, batch: _Commands) -> _Commands:
        """The commands that were decided on nothing that is erased; the others are decided again."""
        if not self._watch.is_known:
            await self._watch.look(self._streams.source)
        epoch = self._watch.epoch
        for pending in batch:
            if pending.item.erasures != epoch:
                _reject(pending, VersionConflict())
        return [pending for pending in batch if pending.item.erasures == epoch]

    async def _to_rows(
        self, as_bytes: bool, batch: Sequence[Pending[Append, int]], *, look_up_all: bool = False
    ) -> tuple[BatchKeys | None, Batch]:
        """The batch as rows, and the keys that its events are sealed under: none while earlier releases may
        have to read them. The epoch is that of before the keys were loaded."""
        epoch, keys = self._watch.epoch, None
        if self._watch.seals_by_subject:
            keys = BatchKeys(self._data_keys)
            changes = [change for pending in batch for change in pending.item.changes]
            shown = [reply.subject for pending in batch if (reply := pending.item.reply) is not None]
            await keys.load(self._streams.source, changes, shown=shown, look_up_all=look_up_all)
        return keys, _to_rows(self._codec, as_bytes, batch, keys, epoch)

    def _resolve(
        self, batch: _Commands, result: BatchResult, without: Container[Pending[Append, int]]
    ) -> _Commands:
        """Give each command of a committed group but `without` its result; returns the accepted ones."""
        position, version_conflicts, key_conflicts, _ = result
        if version_conflicts or key_conflicts:
            accepted = []
            for index, pending in enumerate(batch):
                if index in key_conflicts:
                    _reject(pending, IdempotencyKeyUsed())
                elif index not in version_conflicts:
                    accepted.append(pending)
                elif pending not in without:
                    _reject(pending, VersionConflict())
        else:
            accepted = batch
        for command, future in accepted:
            position += len(command.changes)
            if not future.done():
                future.set_result(position)
        self._notifier.advance(position)
        return accepted

    def _update_caches(
        self, accepted: list[Pending[Append, int]], keys: BatchKeys | None, rows: Batch, result: BatchResult
    ) -> None:
        for command, _ in accepted:
            for change in command.changes:
                self._streams.update_cache(change.state)
        if keys is not None and rows.keys:
            refused = {*result.version_conflicts, *result.key_conflicts}
            keys.remember(subject for index, subject, *_ in rows.keys if index not in refused)


def _find_refused_keys(batch: _Commands, rows: Batch, result: BatchResult) -> _Commands:
    """The commands that were refused perhaps only because a key that they create exists."""
    if not result.version_conflicts or result.erasures is not None:
        return []
    creating = {index for index, *_ in rows.keys}
    return [batch[index] for index in result.version_conflicts if index in creating]


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


def _split_compatible(batch: _Commands) -> tuple[_Commands, _Commands]:
    """The commands that touch nothing an earlier one of the batch writes, and the others. One that begins an
    erasure is alone: those after it are decided again."""
    written: set[object] = set()
    compatible: _Commands = []
    deferred: _Commands = []
    if len(batch) == 1:
        return batch, deferred
    for pending in batch:
        command = pending.item
        writes = _get_written_keys(command)
        if command.erased_subjects and not compatible:
            return batch[:1], batch[1:]
        is_compatible = written.isdisjoint(writes) and written.isdisjoint(command.expected_versions)
        if is_compatible and not command.erased_subjects:
            compatible.append(pending)
        else:
            deferred.append(pending)
        written.update(writes)
    return compatible, deferred


def _reject(pending: Pending[Append, int], error: Exception) -> None:
    if not pending.future.done():
        pending.future.set_exception(error)


def _to_rows(
    codec: Codec,
    as_bytes: bool,
    batch: Sequence[Pending[Append, int]],
    keys: BatchKeys | None = None,
    epoch: int = 0,
) -> Batch:
    """The rows of a batch. Raises ValueError when the versions of a stream are not consecutive, and
    ObjectRedacted when something is to be sealed for an erased subject."""
    rows = Batch([], [], [], [], [], epoch)
    keyring = NO_KEYS if keys is None else keys.as_keyring(epoch)
    for index, (command, _) in enumerate(batch):
        account, livemode, actor, request_id, key, reaction_to = command.cause
        of_request = None if reaction_to is None else f"event:{reaction_to}"
        new_versions: dict[str, int] = {}
        subjects: list[str | None] = [] if command.reply is None else [command.reply.subject]
        for event, state, causation in command.changes:
            stream, version = event.originator_id, event.originator_version
            if stream not in new_versions:
                checks = rows.checks if version > 1 else rows.creations
                checks.append((index, stream, version - 1))
            elif version != new_versions[stream] + 1:
                raise ValueError("the versions of a stream must be consecutive")
            new_versions[stream] = version
            subject, data_key = keys.find(event, state) if keys is not None else (None, None)
            if subject is not None:
                subjects.append(subject)
            rows.events.append(
                (
                    index, stream, version, *codec.encode_event(event, subject, data_key),
                    account, livemode, actor,
                    None if causation else request_id,
                    None if causation else key,
                    causation or of_request,
                    getattr(state, "customer", None),
                    getattr(state, "charge", None),
                    getattr(state, "payment_intent", None),
                )
            )  # fmt: skip
        for stream, version in command.expected_versions.items():
            if stream not in new_versions:
                rows.checks.append((index, stream, version))
        if subjects and keys is not None:
            rows.keys.extend(
                (index, new.subject, new.wrapped, new.wrapped_by) for new in keys.get_created(subjects)
            )
        rows.keys.extend((index, subject, None, None) for subject in command.erased_subjects)
        if (reply := command.reply) is not None:
            place = len(rows.events) if command.changes else None
            rows.replies.append(
                (
                    index, account, livemode, key,
                    *encode_reply(codec.data_keys, keyring, command.cause, reply, as_bytes=as_bytes),
                    reply.secret_object_id, reply.secret_offset, request_id, place,
                )
            )  # fmt: skip
    return rows
