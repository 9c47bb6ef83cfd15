"""Running a command: read, decide, append; decide again when something it relied on has moved.

Decisions may use remembered aggregates, for every version relied on is checked inside the append, so
what is committed was decided on the truth. A refusal is checked the same way, or decided again on exact
reads. With an idempotency key the reply commits together with the change (CONTRACT 1.9): any number of
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

from ledger.call import Call
from ledger.domain.event import DomainEvent
from ledger.errors import Contended, InvalidParameter, KeyReused, LedgerError, Refused
from ledger.ids import new_id
from ledger.objects import Fetch, expanded, shown
from ledger.store.codec import State, evolve
from ledger.store.journal import Append, Cause, Change, KeyTaken, Replied, Reply, StaleRead
from ledger.store.log import Streams
from ledger.store.store import Store

_sorted_json = msgspec.json.Encoder(order="sorted")


log = structlog.get_logger()


class Fault(Refused):
    """A fault of ours, told without internals."""


class Reading:
    """What one decision takes from outside: aggregates, noting the versions it relies on, and fresh ids."""

    def __init__(self, streams: Streams, at: float, *, exact: bool) -> None:
        self._streams = streams
        self.at = at
        self._exact = exact
        self.guards: dict[str, int] = {}
        self.recalled = False

    def new_id(self, prefix: str) -> str:
        """A fresh id for an object that this decision makes."""
        return new_id(prefix, self.at)

    async def unmade(self, stream: str) -> State | None:
        """None for an object that this decision is to make under an id it was given, not asked for at first:
        the append checks it. The aggregate when it is there after all."""
        if self._exact:
            return await self.state(stream)
        state = self._streams.recall(stream)
        self.guards[stream] = state.version if state is not None else 0
        self.recalled = True
        return state

    async def state(self, stream: str) -> State | None:
        """The aggregate, None when there is none; remembered ones only while `exact` is not asked for."""
        state = None if self._exact else self._streams.recall(stream)
        if state is None:
            state = await self._streams.read(stream)
        else:
            self.recalled = True
        self.guards[stream] = state.version if state is not None else 0
        return state


class Together(Reading):
    """What commands find that are decided one after another and appended as one: what was decided before
    them, then what any command finds. `ahead`: what is being appended now, and comes before all of them."""

    def __init__(self, streams: Streams, at: float, ahead: Mapping[str, State], *, exact: bool) -> None:
        super().__init__(streams, at, exact=exact)
        self._ahead = ahead
        self._found: dict[str, State | None] = {}
        self.changes: list[Change] = []

    @property
    def decided(self) -> dict[str, State]:
        """The aggregates after `changes`."""
        return {change.state.id: change.state for change in self.changes}

    async def unmade(self, stream: str) -> State | None:
        if stream in self._found:
            return self._found[stream]
        return self._note(stream, self._before(stream) or await super().unmade(stream))

    async def state(self, stream: str) -> State | None:
        if stream in self._found:
            return self._found[stream]
        return self._note(stream, self._before(stream) or await super().state(stream))

    async def find(self, streams: Iterable[str]) -> None:
        """Look for many at once: one question to the database, not one for each."""
        wanted = {
            stream
            for stream in streams
            if stream not in self._ahead and (self._exact or self._streams.recall(stream) is None)
        }
        await asyncio.gather(*map(self.state, wanted))

    def take(self, changes: Sequence[Change]) -> None:
        """Changes that a command has decided: those after it find them."""
        self.changes += changes
        for change in changes:
            self._found[change.state.id] = change.state

    def _before(self, stream: str) -> State | None:
        state = self._ahead.get(stream)
        if state is not None:
            self.guards[stream] = state.version
        return state

    def _note(self, stream: str, state: State | None) -> State | None:
        self._found[stream] = state
        return state


@dataclass(frozen=True, slots=True)
class Decided:
    """What a command comes to: changes to append and the object to answer with.

    `refusal` is answered instead, after the changes are appended (a declined charge exists). `secret` is a
    text in the answer that must not be kept; it can be derived again from the object `secret_of`.
    """

    changes: Sequence[Change]
    answer: Mapping[str, Any] = field(default_factory=dict)
    refusal: Refused | None = None
    secret: str | None = None
    secret_of: str | None = None


class Answered(NamedTuple):
    """Status and body as sent; `replay_of` is the first request's id when this is its reply again."""

    status: int
    body: str
    replay_of: str | None = None
    position: int | None = None


Decide = Callable[[Call, Reading, int], Awaitable[Decided]]
"""Reads, decides at `now` (unix seconds), answers; raises Refused. May run again: it does nothing else."""
Encode = Callable[[Mapping[str, Any] | Refused], tuple[int, str]]
Reveal = Callable[[State], str]


class Execution:
    """Runs commands against a store. `encode` gives status and body of an answer or refusal; `reveal`
    derives the secret of an object again."""

    def __init__(self, store: Store, *, encode: Encode, reveal: Reveal, attempts_max: int) -> None:
        self._store = store
        self.encode = encode
        self._reveal = reveal
        self._attempts_max = attempts_max
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, cause: Cause, call: Call, decide: Decide, *, fingerprint: str) -> Answered:
        """Decide and append. After a lost race, commands on one target take turns.

        A refusal is an answer, but InvalidParameter is raised: it is for the parameters alone, so no reply is
        kept of it. Raises KeyReused, Contended, Overloaded, Unavailable, too.
        """
        for attempt in range(self._attempts_max):
            async with self._turn(call.target) if attempt and call.target else nullcontext():
                try:
                    return await self._attempt(cause, call, decide, fingerprint, exact=attempt > 0)
                except StaleRead:
                    continue
                except KeyTaken:
                    assert cause.idempotency_key is not None
                    replied = await self.replied(cause)
                    assert replied is not None, "a taken key has a reply for a day"
                    return await self.replay(replied, cause.idempotency_key, fingerprint)
        raise Contended

    def together(self, ahead: Mapping[str, State], *, exact: bool) -> Together:
        """What a group of commands finds, none decided yet."""
        return Together(self._store.streams, self._store.clock.now(), ahead, exact=exact)

    async def append(self, cause: Cause, together: Together) -> None:
        """Append a group of commands as one. Raises StaleRead (nothing was changed: decide again),
        Overloaded, Unavailable."""
        if together.changes or together.recalled:
            await self._store.journal.append(Append(cause, together.changes, None, together.guards))

    async def decided(self, call: Call, reading: Reading, decide: Decide, now: int) -> Decided:
        """What a command comes to on what `reading` finds: a refusal, and a fault of ours, are told in it.
        Raises Unavailable."""
        try:
            return await decide(call, reading, now)
        except Refused as refusal:
            return Decided([], refusal=refusal)
        except LedgerError:
            raise
        except Exception as error:  # the edge of a decision: execution has begun, so its answer is kept
            log.error("fault", exc_info=error, request_id=call.request_id)
            return Decided([], refusal=Fault("An unexpected error occurred."))

    def _turn(self, target: str) -> asyncio.Lock:
        turn = self._turns.get(target)
        if turn is None:
            turn = self._turns[target] = asyncio.Lock()
        return turn

    async def replied(self, cause: Cause) -> Replied | None:
        """What the cause's idempotency key was answered before, if it was."""
        assert cause.idempotency_key is not None
        return await self._store.journal.replied(cause.account, cause.livemode, cause.idempotency_key)

    async def replay(self, replied: Replied, key: str, fingerprint: str) -> Answered:
        """The kept reply, byte for byte. Raises KeyReused when it was given to other parameters."""
        reply = replied.reply
        if reply.fingerprint != fingerprint:
            raise KeyReused(
                "Keys for idempotent requests can only be used with the same parameters they were first "
                f"used with. Try using a key other than '{key}' if you meant to execute a different request."
            )
        body = reply.body
        if reply.secret_of is not None:
            state = await self._store.streams.read(reply.secret_of)
            assert state is not None, "the reply committed together with the object"
            body = body[: reply.secret_at] + self._reveal(state) + body[reply.secret_at :]
        return Answered(reply.status, body, replay_of=replied.request_id)

    async def _attempt(
        self, cause: Cause, call: Call, decide: Decide, fingerprint: str, *, exact: bool
    ) -> Answered:
        at = self._store.clock.now()
        reading = Reading(self._store.streams, at, exact=exact)
        decided = await self.decided(call, reading, decide, int(at))
        if isinstance(decided.refusal, InvalidParameter):
            if reading.recalled:
                raise StaleRead
            if cause.idempotency_key is not None and (replied := await self.replied(cause)) is not None:
                return await self.replay(replied, cause.idempotency_key, fingerprint)
            raise decided.refusal
        status, body = self.encode(decided.refusal or decided.answer)
        reply = None
        if cause.idempotency_key is not None:
            reply = _reply(fingerprint, status, body, decided)
        elif not decided.changes:
            if reading.recalled:
                raise StaleRead
            return Answered(status, body)
        position = await self._store.journal.append(Append(cause, decided.changes, reply, reading.guards))
        return Answered(status, body, position=position)


async def answering(
    call: Call, reading: Reading, now: int, state: State | None, events: Sequence[DomainEvent]
) -> Decided:
    """What most commands come to: `events` after `state`, answered with the object as it then is."""
    changes = []
    for event in events:
        state = evolve(state, event)
        changes.append(Change(event, state))
    assert state is not None
    answer = shown(state, now)
    if call.expand:
        await expanded(state, answer, call.expand, now, with_changes(reading, changes))
    return Decided(changes, answer)


def with_changes(reading: Reading, changes: Sequence[Change]) -> Fetch:
    """What `reading` finds, but as just decided where `changes` say: an answer expands to one moment."""
    decided = {change.state.id: change.state for change in changes}

    async def fetch(stream: str) -> State | None:
        return decided[stream] if stream in decided else await reading.state(stream)

    return fetch


def fingerprint_of(method: str, path: str, parameters: Mapping[str, Any]) -> str:
    """What two uses of an idempotency key must share: compared on decoded parameters, not on bytes."""
    document = _sorted_json.encode((method, path, parameters))
    return hashlib.blake2b(document, digest_size=16).hexdigest()


def _reply(fingerprint: str, status: int, body: str, decided: Decided) -> Reply:
    if decided.secret is None:
        return Reply(fingerprint, status, body)
    at = body.index(decided.secret)
    kept = body[:at] + body[at + len(decided.secret) :]
    return Reply(fingerprint, status, kept, decided.secret_of, at)
