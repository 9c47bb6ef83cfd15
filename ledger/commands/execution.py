"""Runs a command: read, decide, append (optimistic concurrency).

A command that loses a race is decided again, on reads from the log instead of the cache. So is a refusal that
was decided on cached aggregates: it may be outdated. With an idempotency key the reply commits together with
the changes (contract §1.9), so any number of requests under it has one effect and one response.

Whatever is returned is durable, on the standbys too (invariant 3): it was appended, or it is confirmed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import structlog

from ledger.call import Call, Cause
from ledger.commands.context import CommandEnvironment, DecisionContext, GroupContext
from ledger.commands.reply_subjects import choose_reply_subject
from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.domain.file import File
from ledger.errors import (
    ConcurrencyConflict,
    FailedOver,
    IdempotencyKeyReused,
    InvalidParameter,
    LedgerError,
    ObjectRedacted,
    RequestError,
    UnreadableRecord,
)
from ledger.objects import Fetch, expand, get_readable, render_object
from ledger.postgres.connections import Conn, Pool
from ledger.store.journal import Append, Change, VersionConflict, fold_changes
from ledger.store.replies import IdempotencyKeyUsed, Reply, StoredReply, insert_reply, is_reply_to
from ledger.store.store import Store
from ledger.wire.files import add_urls

_sorted_json = msgspec.json.Encoder(order="sorted")

log = structlog.get_logger()


class InternalError(RequestError):
    """An error of the service itself; its message reveals no internals."""


def refuse_unreadable(error: UnreadableRecord) -> InternalError:
    """The answer to a request for an object that has a record which cannot be read; logs which record. It is
    not stored under an idempotency key: nothing was changed, and the record may be mended."""
    log.error("record_unreadable", **error.to_log())
    return InternalError("This object cannot be read at the moment.")


class Decision(msgspec.Struct, frozen=True):
    """What a command decided: the changes to append and the object to respond with.

    refusal    the response instead of `answer`, after the append of the changes (a declined charge exists)
    erased_subjects
               data subjects whose erasure begins with this append
    secret     a text inside the answer that must not be stored with it
    secret_of  the id of the object whose secret that is: `derive_secret` derives it again. With `:n` after
               it, it is the object's secret of number n; else the first
    """

    changes: Sequence[Change]
    answer: Mapping[str, Any] = msgspec.field(default_factory=dict)
    refusal: RequestError | None = None
    secret: str | None = None
    secret_of: str | None = None
    erased_subjects: Sequence[str] = ()


class CommandResult(msgspec.Struct, frozen=True):
    """The response to a command that ran.

    status               the HTTP status
    body                 JSON, as it is sent
    original_request_id  the id of the first request, if this is its stored reply
    position             the position of the last event that the first request appended; None if it appended
                         none
    """

    status: int
    body: str
    original_request_id: str | None = None
    position: int | None = None


Decide = Callable[[Call, DecisionContext, int], Awaitable[Decision]]
"""A command: reads from the context, decides at `now` (unix seconds), renders the answer. It may run several
times for one request and has no other effect. Raises RequestError for a refusal."""
MakeChange = Callable[[Conn], Awaitable[dict[str, Any]]]
"""Changes the database on a connection, in a transaction; returns the answer."""
Encode = Callable[[Mapping[str, Any] | RequestError], tuple[int, str]]
"""Returns the HTTP status and the JSON body for an answer or a refusal."""


class Execution:
    """Runs commands against one store, at most `attempts_max` times each."""

    def __init__(
        self, store: Store, environment: CommandEnvironment, *, encode: Encode, attempts_max: int
    ) -> None:
        self.environment = environment
        self.encode = encode
        self._store = store
        self._attempts_max = attempts_max
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def with_encode(self, encode: Encode) -> Execution:
        """The same, for answers in another form."""
        execution = copy(self)
        execution.encode = encode
        return execution

    async def run(self, call: Call, decide: Decide, *, fingerprint: str) -> CommandResult:
        """Decide and append. Commands on one target that have lost a race are decided again one after
        another; so is, after a failover, what was decided on what the former primary had.

        A refusal is a result, and is stored under the idempotency key. InvalidParameter is raised and not
        stored: it concerns the parameters alone. Also raises IdempotencyKeyReused, ConcurrencyConflict,
        QueueFull, UnreadableRecord and Unavailable.
        """
        is_key_used = False
        for attempt in range(self._attempts_max):
            try:
                if is_key_used:
                    stored_reply = await self.find_reply(call.cause)
                    if stored_reply is not None:  # a failover may take it back
                        return await self.replay(stored_reply, call.cause, fingerprint)
                if not attempt or not call.target:
                    return await self._attempt(call, decide, fingerprint, exact=attempt > 0)
                async with self._get_lock(call.target):
                    return await self._attempt(call, decide, fingerprint, exact=True)
            except IdempotencyKeyUsed:
                is_key_used = True
            except (VersionConflict, FailedOver):
                continue
        raise ConcurrencyConflict

    async def change_once(
        self,
        pool: Pool,
        cause: Cause,
        change: MakeChange,
        *,
        fingerprint: str,
        replay_answer: Callable[[dict[str, Any]], dict[str, Any] | RequestError] = lambda answer: answer,
        subject: str | None = None,
    ) -> CommandResult:
        """Make a change that is not recorded in the log, once per idempotency key, in one transaction.

        The change and the reply that a repetition gets commit together. Of concurrent requests under one key
        one commits; the others undo their change and get the reply. An error is raised, and not stored.
        Without a key it is not repeated if its connection is lost. `replay_answer`: what a repetition gets
        instead of the answer. `subject`: whose personal data that may have.
        """
        durability, erasures = self._store.durability, 0
        answer: dict[str, Any] | None = None
        if cause.idempotency_key is None:
            failovers = durability.failovers
            async with pool.connection() as conn, conn.transaction():
                answer = await change(conn)
            await durability.confirm(failovers)
            return CommandResult(*self.encode(answer))

        async def change_and_reply(conn: Conn) -> dict[str, Any]:
            async with conn.transaction():
                answer = await change(conn)
                status, body = self.encode(replay_answer(answer))
                reply = Reply(fingerprint, status, body, subject=subject)
                keys = self._store.codec.data_keys
                await insert_reply(conn, keys, cause, reply, self._store.clock.now())
                if await self._store.watch.look(conn) != erasures:  # under the lock of appends
                    raise VersionConflict
                return answer

        for _ in range(self._attempts_max):
            failovers, erasures = durability.failovers, self._store.watch.epoch
            try:
                stored_reply = await self.find_reply(cause)
                if stored_reply is None:
                    # If its connection is lost and it had committed, the key is used when it runs again.
                    answer = await pool.run_idempotent(change_and_reply)
                elif answer is None or stored_reply.request_id != cause.request_id:
                    return await self.replay(stored_reply, cause, fingerprint)
                await durability.confirm(failovers)
                return CommandResult(*self.encode(answer))
            except (IdempotencyKeyUsed, FailedOver, VersionConflict):
                continue
        raise ConcurrencyConflict

    def begin_group(self, pending: Sequence[Change], *, exact: bool) -> GroupContext:
        """A context for commands that are appended as one; `pending` as in GroupContext."""
        return GroupContext(
            self.environment,
            self._store.streams,
            self._store.clock.now(),
            pending,
            exact=exact,
            failovers=self._store.durability.failovers,
            erasures=self._store.watch.epoch,
        )

    async def append(self, cause: Cause, group: GroupContext) -> int:
        """Append the changes of a group as one; returns the position of the last one, which means nothing if
        there is none. Raises VersionConflict and FailedOver (nothing was appended: decide again), QueueFull,
        Unavailable."""
        if not group.changes and not group.used_cache:
            await self._store.durability.confirm(group.failovers)
            return 0
        return await self._store.journal.append(
            Append(cause, group.changes, None, group.expected_versions, erasures=group.erasures)
        )

    async def decide(self, call: Call, context: DecisionContext, decide: Decide, now: int) -> Decision:
        """Run the command's decision. A refusal, or an unexpected error, becomes the decision's `refusal`.
        Raises Unavailable, UnreadableRecord."""
        try:
            return await decide(call, context, now)
        except RequestError as refusal:
            return Decision([], refusal=refusal)
        except LedgerError:
            raise
        except Exception as error:  # the edge of a decision: the command has begun, so its reply is stored
            log.error("internal_error", exc_info=error, request_id=call.cause.request_id)
            return Decision([], refusal=InternalError("An unexpected error occurred."))

    def _get_lock(self, target: str) -> asyncio.Lock:
        lock = self._locks.get(target)
        if lock is None:
            lock = self._locks[target] = asyncio.Lock()
        return lock

    async def find_reply(self, cause: Cause) -> StoredReply | None:
        """The stored reply of the idempotency key, None if the key is new. Raises Unavailable."""
        assert cause.idempotency_key is not None
        return await self._store.journal.find_reply(cause.account, cause.livemode, cause.idempotency_key)

    async def replay(self, stored_reply: StoredReply, cause: Cause, fingerprint: str) -> CommandResult:
        """The stored reply, which has just been found, byte for byte, with its secret derived again. Raises
        IdempotencyKeyReused if the key was used with other parameters, FailedOver and Unavailable."""
        await self._store.durability.confirm()
        reply = stored_reply.reply
        if not is_reply_to(self._store.codec.data_keys, cause, stored_reply, fingerprint):
            raise IdempotencyKeyReused(
                "Keys for idempotent requests can only be used with the same parameters they were first "
                f"used with. Try using a key other than '{cause.idempotency_key}' if you meant to execute a "
                "different request."
            )
        body = reply.body
        if reply.secret_object_id is not None:
            object_id, _, version = reply.secret_object_id.partition(":")
            state = await self._store.streams.read(object_id)
            assert state is not None, "the reply committed together with the object"
            secret = self.environment.derive_secret(state, int(version or 1))
            body = body[: reply.secret_offset] + secret + body[reply.secret_offset :]
        return CommandResult(reply.status, body, stored_reply.request_id, stored_reply.position)

    async def _attempt(self, call: Call, decide: Decide, fingerprint: str, *, exact: bool) -> CommandResult:
        cause, failovers = call.cause, self._store.durability.failovers
        erasures = self._store.watch.epoch
        decided_at = self._store.clock.now()
        context = DecisionContext(self.environment, self._store.streams, decided_at, exact=exact)
        decision = await self.decide(call, context, decide, int(decided_at))
        if isinstance(decision.refusal, InvalidParameter):
            if context.used_cache:
                raise VersionConflict
            if (
                cause.idempotency_key is not None
                and (stored_reply := await self.find_reply(cause)) is not None
            ):
                return await self.replay(stored_reply, cause, fingerprint)
            raise decision.refusal
        status, body = self.encode(decision.refusal or decision.answer)
        reply = None
        if cause.idempotency_key is not None:
            is_refusal = decision.refusal is not None
            subject = choose_reply_subject(call, context, decision.changes, is_refusal=is_refusal)
            reply = _make_reply(fingerprint, status, body, decision, subject)
        elif not decision.changes:
            if context.used_cache:
                raise VersionConflict
            await self._store.durability.confirm(failovers)
            return CommandResult(status, body)
        append = Append(
            cause,
            decision.changes,
            reply,
            context.expected_versions,
            decision.erased_subjects,
            erasures=erasures,
        )
        try:
            position = await self._store.journal.append(append)
        except ObjectRedacted as error:
            if context.used_cache:  # perhaps it is no new object, and nothing needs to be recorded
                raise VersionConflict from error
            raise
        return CommandResult(status, body, position=position if decision.changes else None)


async def apply_and_render(
    call: Call, context: DecisionContext, now: int, state: State | None, events: Sequence[DomainEvent]
) -> Decision:
    """The decision of most commands: append `events` to the stream of `state`, answer with the object."""
    changes = fold_changes(events, state)
    after = changes[-1].state if changes else state
    assert after is not None
    return Decision(changes, await render_changed(call, context, now, after, changes))


async def render_changed(
    call: Call, context: DecisionContext, now: int, state: State, changes: Sequence[Change]
) -> dict[str, Any]:
    """The object as the answer shows it after `changes`, expanded by the call's `expand`.

    Files in it have their URL. File links have none: a link's URL is a secret, and one answer shows at most
    one secret (`Decision.secret`).
    """
    answer = render_object(state, now)
    if call.expand or isinstance(state, File):
        await expand(state, answer, call.expand, now, _overlay_changes(context, changes))
        add_urls(answer, call.base_url)
    return answer


def _overlay_changes(context: DecisionContext, changes: Sequence[Change]) -> Fetch:
    """A fetch of changed aggregates as they are after `changes`, and of others from the context."""
    new_states = {change.state.id: change.state for change in changes}

    async def fetch(stream: str) -> State | None:
        return new_states[stream] if stream in new_states else await get_readable(context.get, stream)

    return fetch


def fingerprint_of(method: str, path: str, parameters: Mapping[str, Any]) -> str:
    """The fingerprint that all requests under one idempotency key must have. It is computed from the decoded
    parameters, so another order or encoding of the same parameters is the same request."""
    document = _sorted_json.encode((method, path, parameters))
    return hashlib.blake2b(document, digest_size=16).hexdigest()


def _make_reply(fingerprint: str, status: int, body: str, decision: Decision, subject: str | None) -> Reply:
    """The reply to store: the body without the secret, and the offset at which the secret was."""
    if decision.secret is None:
        return Reply(fingerprint, status, body, subject=subject)
    secret_at = body.index(decision.secret)
    redacted_body = body[:secret_at] + body[secret_at + len(decision.secret) :]
    return Reply(fingerprint, status, redacted_body, decision.secret_of, secret_at, subject)
