"""Running a command: read, decide, append; decide again when something it relied on has moved.

Decisions may use remembered aggregates, for every version relied on is checked inside the append, so
what is committed was decided on the truth. A refusal is checked the same way, or decided again on exact
reads. With an idempotency key the reply commits together with the change (contract §1.9): any number of
tries has one effect and one answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import msgspec
import structlog

from ledger.call import Call, Cause
from ledger.domain.event import DomainEvent
from ledger.errors import (
    ConcurrencyConflict,
    IdempotencyKeyReused,
    InvalidParameter,
    LedgerError,
    RequestError,
)
from ledger.ids import new_id
from ledger.objects import Fetch, expand, render_object
from ledger.store.codec import State
from ledger.store.journal import (
    Append,
    Change,
    IdempotencyKeyUsed,
    Reply,
    StoredReply,
    VersionConflict,
    fold_changes,
)
from ledger.store.log import StreamReader
from ledger.store.store import Store

_sorted_json = msgspec.json.Encoder(order="sorted")


log = structlog.get_logger()


class InternalError(RequestError):
    """A fault of ours, told without internals."""


class DecisionContext:
    """What one decision takes from outside: aggregates, noting the versions it relies on, and fresh ids."""

    def __init__(self, streams: StreamReader, decided_at: float, *, exact: bool) -> None:
        self._streams = streams
        self.decided_at = decided_at
        self._exact = exact
        self.expected_versions: dict[str, int] = {}
        self.used_cache = False

    def new_id(self, prefix: str) -> str:
        """A fresh id for an object that this decision makes."""
        return new_id(prefix, self.decided_at)

    async def get_new(self, stream: str) -> State | None:
        """None for an object that this decision is to make under an id it was given, not asked for at first:
        the append checks it. The aggregate when it is there after all."""
        if self._exact:
            return await self.get(stream)
        state = self._streams.get_cached(stream)
        self.expected_versions[stream] = state.version if state is not None else 0
        self.used_cache = True
        return state

    async def get(self, stream: str) -> State | None:
        """The aggregate, None when there is none; remembered ones only while `exact` is not asked for."""
        state = None if self._exact else self._streams.get_cached(stream)
        if state is None:
            state = await self._streams.read(stream)
        else:
            self.used_cache = True
        self.expected_versions[stream] = state.version if state is not None else 0
        return state


class GroupContext(DecisionContext):
    """What commands find that are decided one after another and appended as one: what was decided before
    them, then what any command finds. `pending`: what is being appended now, and comes before all of them."""

    def __init__(
        self, streams: StreamReader, decided_at: float, pending: Mapping[str, State], *, exact: bool
    ) -> None:
        super().__init__(streams, decided_at, exact=exact)
        self._pending = pending
        self._states: dict[str, State | None] = {}
        self.changes: list[Change] = []

    @property
    def changed_states(self) -> dict[str, State]:
        """The aggregates after `changes`."""
        return {change.state.id: change.state for change in self.changes}

    async def get_new(self, stream: str) -> State | None:
        if stream in self._states:
            return self._states[stream]
        return self._set_state(stream, self._get_pending(stream) or await super().get_new(stream))

    async def get(self, stream: str) -> State | None:
        if stream in self._states:
            return self._states[stream]
        return self._set_state(stream, self._get_pending(stream) or await super().get(stream))

    async def preload(self, streams: Iterable[str]) -> None:
        """Look for many at once: one question to the database, not one for each."""
        missing = {
            stream
            for stream in streams
            if stream not in self._pending and (self._exact or self._streams.get_cached(stream) is None)
        }
        await asyncio.gather(*map(self.get, missing))

    def add(self, changes: Sequence[Change]) -> None:
        """Changes that a command has decided: those after it find them."""
        self.changes += changes
        for change in changes:
            self._states[change.state.id] = change.state

    def _get_pending(self, stream: str) -> State | None:
        state = self._pending.get(stream)
        if state is not None:
            self.expected_versions[stream] = state.version
        return state

    def _set_state(self, stream: str, state: State | None) -> State | None:
        self._states[stream] = state
        return state


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command comes to: changes to append and the object to answer with.

    `refusal` is answered instead, after the changes are appended (a declined charge exists). `secret` is a
    text in the answer that must not be kept; it can be derived again from the object `secret_of`.
    """

    changes: Sequence[Change]
    answer: Mapping[str, Any] = field(default_factory=dict)
    refusal: RequestError | None = None
    secret: str | None = None
    secret_of: str | None = None


class CommandResult(NamedTuple):
    """Status and body as sent; `original_request_id` is the first request's id when this is its reply
    again."""

    status: int
    body: str
    original_request_id: str | None = None
    position: int | None = None


Decide = Callable[[Call, DecisionContext, int], Awaitable[Decision]]
"""Reads, decides at `now` (unix seconds), answers; raises Refused. May run again: it does nothing else."""
Encode = Callable[[Mapping[str, Any] | RequestError], tuple[int, str]]
DeriveSecret = Callable[[State], str]


class Execution:
    """Runs commands against a store. `encode` gives status and body of an answer or refusal; `derive_secret`
    derives the secret of an object again."""

    def __init__(
        self, store: Store, *, encode: Encode, derive_secret: DeriveSecret, attempts_max: int
    ) -> None:
        self._store = store
        self.encode = encode
        self._derive_secret = derive_secret
        self._attempts_max = attempts_max
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, call: Call, decide: Decide, *, fingerprint: str) -> CommandResult:
        """Decide and append. After a lost race, commands on one target take turns.

        A refusal is an answer, but InvalidParameter is raised: it is for the parameters alone, so no reply is
        kept of it. Raises IdempotencyKeyReused, ConcurrencyConflict, QueueFull, Unavailable, too.
        """
        for attempt in range(self._attempts_max):
            async with self._get_lock(call.target) if attempt and call.target else nullcontext():
                try:
                    return await self._attempt(call, decide, fingerprint, exact=attempt > 0)
                except VersionConflict:
                    continue
                except IdempotencyKeyUsed:
                    assert call.cause.idempotency_key is not None
                    stored_reply = await self.find_reply(call.cause)
                    assert stored_reply is not None, "a taken key has a reply for a day"
                    return await self.replay(stored_reply, call.cause.idempotency_key, fingerprint)
        raise ConcurrencyConflict

    def begin_group(self, pending: Mapping[str, State], *, exact: bool) -> GroupContext:
        """What a group of commands finds, none decided yet."""
        return GroupContext(self._store.streams, self._store.clock.now(), pending, exact=exact)

    async def append(self, cause: Cause, group: GroupContext) -> None:
        """Append a group of commands as one. Raises VersionConflict (nothing was changed: decide again),
        QueueFull, Unavailable."""
        if group.changes or group.used_cache:
            await self._store.journal.append(Append(cause, group.changes, None, group.expected_versions))

    async def decide(self, call: Call, context: DecisionContext, decide: Decide, now: int) -> Decision:
        """What a command comes to on what `context` finds: a refusal, and a fault of ours, are told in it.
        Raises Unavailable."""
        try:
            return await decide(call, context, now)
        except RequestError as refusal:
            return Decision([], refusal=refusal)
        except LedgerError:
            raise
        except Exception as error:  # the edge of a decision: execution has begun, so its answer is kept
            log.error("fault", exc_info=error, request_id=call.cause.request_id)
            return Decision([], refusal=InternalError("An unexpected error occurred."))

    def _get_lock(self, target: str) -> asyncio.Lock:
        lock = self._locks.get(target)
        if lock is None:
            lock = self._locks[target] = asyncio.Lock()
        return lock

    async def find_reply(self, cause: Cause) -> StoredReply | None:
        """What the cause's idempotency key was answered before, if it was."""
        assert cause.idempotency_key is not None
        return await self._store.journal.find_reply(cause.account, cause.livemode, cause.idempotency_key)

    async def replay(self, stored_reply: StoredReply, key: str, fingerprint: str) -> CommandResult:
        """The kept reply, byte for byte. Raises IdempotencyKeyReused when it was given to other
        parameters."""
        reply = stored_reply.reply
        if reply.fingerprint != fingerprint:
            raise IdempotencyKeyReused(
                "Keys for idempotent requests can only be used with the same parameters they were first "
                f"used with. Try using a key other than '{key}' if you meant to execute a different request."
            )
        body = reply.body
        if reply.secret_object_id is not None:
            state = await self._store.streams.read(reply.secret_object_id)
            assert state is not None, "the reply committed together with the object"
            body = body[: reply.secret_offset] + self._derive_secret(state) + body[reply.secret_offset :]
        return CommandResult(reply.status, body, original_request_id=stored_reply.request_id)

    async def _attempt(self, call: Call, decide: Decide, fingerprint: str, *, exact: bool) -> CommandResult:
        cause = call.cause
        decided_at = self._store.clock.now()
        context = DecisionContext(self._store.streams, decided_at, exact=exact)
        decision = await self.decide(call, context, decide, int(decided_at))
        if isinstance(decision.refusal, InvalidParameter):
            if context.used_cache:
                raise VersionConflict
            if (
                cause.idempotency_key is not None
                and (stored_reply := await self.find_reply(cause)) is not None
            ):
                return await self.replay(stored_reply, cause.idempotency_key, fingerprint)
            raise decision.refusal
        status, body = self.encode(decision.refusal or decision.answer)
        reply = None
        if cause.idempotency_key is not None:
            reply = _make_reply(fingerprint, status, body, decision)
        elif not decision.changes:
            if context.used_cache:
                raise VersionConflict
            return CommandResult(status, body)
        position = await self._store.journal.append(
            Append(cause, decision.changes, reply, context.expected_versions)
        )
        return CommandResult(status, body, position=position)


async def apply_and_render(
    call: Call, context: DecisionContext, now: int, state: State | None, events: Sequence[DomainEvent]
) -> Decision:
    """What most commands come to: `events` after `state`, answered with the object as it then is."""
    changes = fold_changes(events, state)
    after = changes[-1].state if changes else state
    assert after is not None
    answer = render_object(after, now)
    if call.expand:
        await expand(after, answer, call.expand, now, overlay_changes(context, changes))
    return Decision(changes, answer)


def overlay_changes(context: DecisionContext, changes: Sequence[Change]) -> Fetch:
    """What `context` finds, but as just decided where `changes` say: an answer expands to one moment."""
    new_states = {change.state.id: change.state for change in changes}

    async def fetch(stream: str) -> State | None:
        return new_states[stream] if stream in new_states else await context.get(stream)

    return fetch


def fingerprint_of(method: str, path: str, parameters: Mapping[str, Any]) -> str:
    """What two uses of an idempotency key must share: compared on decoded parameters, not on bytes."""
    document = _sorted_json.encode((method, path, parameters))
    return hashlib.blake2b(document, digest_size=16).hexdigest()


def _make_reply(fingerprint: str, status: int, body: str, decision: Decision) -> Reply:
    if decision.secret is None:
        return Reply(fingerprint, status, body)
    secret_at = body.index(decision.secret)
    redacted_body = body[:secret_at] + body[secret_at + len(decision.secret) :]
    return Reply(fingerprint, status, redacted_body, decision.secret_of, secret_at)
