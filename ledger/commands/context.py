"""The context of a decision: aggregates of the log, the time, fresh ids, and the environment of the process.

A context records the version of each aggregate that a decision read. The append checks these versions, so
decisions may use cached aggregates: what commits was decided on the current state (README, invariant 2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ledger.call import Call
from ledger.commands.session_secrets import SessionSecrets
from ledger.domain.aggregate import State
from ledger.domain.customer_session import CustomerSession
from ledger.domain.event import DomainEvent
from ledger.domain.file_link import FileLink
from ledger.domain.money import Terms
from ledger.domain.payment_intent import PaymentIntent
from ledger.domain.redaction_job import RedactionJob
from ledger.domain.redaction_job_decisions import Scope
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import UnreadableRecord
from ledger.files.storage import FileStorage
from ledger.files.urls import FileLinkUrls
from ledger.ids import new_id
from ledger.store.journal import Change
from ledger.store.log import StreamReader

FindChargeId = Callable[[Call, str], Awaitable[str]]
"""Finds the id of the charge that paid a payment intent of another service. Once the intent is paid the
answer never changes, so no version of it is checked. Raises UnknownReference."""
SurveyRedaction = Callable[[RedactionJob, Sequence[State], int], Awaitable[Scope]]
"""Finds what a job reaches through its roots and what stands in its way, of what changed after a position.
It looks at the log as it is: what the card network reports later is no reason to decide again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEnvironment:
    """What all commands of a process share.

    terms                   fees, periods and limits of this deployment
    session_secrets         derives and checks client secrets and ephemeral keys
    derive_intent_secret    derives the client secret of a payment intent from its id
    derive_endpoint_secret  derives the signing secret of a webhook endpoint from its id and a number
    link_urls               derives the secret digits in the URL of a file link
    storage                 the contents of files
    find_charge_id          finds the charge of a payment intent that another service keeps
    survey_redaction        finds what a redaction job reaches, and what stands in its way
    """

    terms: Terms
    session_secrets: SessionSecrets
    derive_intent_secret: Callable[[str], str]
    derive_endpoint_secret: Callable[[str, int], str]
    link_urls: FileLinkUrls
    storage: FileStorage
    find_charge_id: FindChargeId
    survey_redaction: SurveyRedaction

    def derive_secret(self, state: State, version: int = 1) -> str:
        """The secret of an object, of its secrets the one with this number; the same at each call. It is not
        stored: this adds it to a reply that is sent again under its idempotency key (README, invariant 7)."""
        match state:
            case CustomerSession():
                return self.session_secrets.derive_client_secret(state)
            case PaymentIntent():
                return self.derive_intent_secret(state.id)
            case FileLink():
                return self.link_urls.derive_digits(state.id)
            case WebhookEndpoint():
                return self.derive_endpoint_secret(state.id, version)
            case _:
                raise AssertionError(f"{type(state).__name__} has no secret")


class DecisionContext:
    """The reads of one decision. An `exact` context reads each aggregate from the log, not from the cache."""

    def __init__(
        self, environment: CommandEnvironment, streams: StreamReader, decided_at: float, *, exact: bool
    ) -> None:
        self.environment = environment
        self.decided_at = decided_at
        self.expected_versions: dict[str, int] = {}
        self.used_cache = False
        self.first_read: State | None = None
        self._streams = streams
        self._exact = exact

    def new_id(self, prefix: str) -> str:
        """A fresh id for an object that this decision creates."""
        return new_id(prefix, self.decided_at)

    async def get_new(self, stream: str) -> State | None:
        """For an object that this decision creates under an id from the caller: None without a read, unless
        the cache has the object. If it exists after all, the append fails, and the next attempt, which is
        exact, reads it. Raises Unavailable."""
        if self._exact:
            return await self.get(stream)
        state = self._streams.get_cached(stream)
        self.expected_versions[stream] = state.version if state is not None else 0
        self.used_cache = True
        return state

    async def get(self, stream: str) -> State | None:
        """The aggregate, or None if there is none. Raises Unavailable."""
        state = None if self._exact else self._streams.get_cached(stream)
        if state is None:
            state = await self._streams.read(stream)
        else:
            self.used_cache = True
        self.first_read = self.first_read or state
        self.expected_versions[stream] = state.version if state is not None else 0
        return state

    async def look_up(self, stream: str) -> State | None:
        """The aggregate, for what no later version of it changes: the decision stands whatever is appended to
        it meanwhile. Raises Unavailable."""
        state = await self.get(stream)
        self.expected_versions.pop(stream, None)
        return state

    async def get_events(self, stream: str) -> list[DomainEvent]:
        """The events of an aggregate that exists, in order. Raises Unavailable."""
        return await self._streams.read_events([stream])


class GroupContext(DecisionContext):
    """The reads of a group of commands that are decided one after another and appended as one.

    Each command sees the changes of those before it in the group, then `pending`, the changes of the append
    under way, then what a DecisionContext reads.
    """

    def __init__(
        self,
        environment: CommandEnvironment,
        streams: StreamReader,
        decided_at: float,
        pending: Sequence[Change],
        *,
        exact: bool,
        failovers: int,
        erasures: int,
    ) -> None:
        super().__init__(environment, streams, decided_at, exact=exact)
        self.failovers = failovers
        """How many of the database were known before the first read."""
        self.erasures = erasures
        """The erasure epoch that was known before the first read."""
        self._pending = {change.state.id: change.state for change in pending}
        self._pending_changes = pending
        self._states: dict[str, State | None] = {}
        self._events: dict[str, list[DomainEvent]] = {}
        self.changes: list[Change] = []

    async def get_new(self, stream: str) -> State | None:
        if stream in self._states:
            return self._states[stream]
        return self._set_state(stream, self._get_pending(stream) or await super().get_new(stream))

    async def get(self, stream: str) -> State | None:
        if stream in self._states:
            return self._states[stream]
        return self._set_state(stream, self._get_pending(stream) or await super().get(stream))

    async def preload(self, streams: Iterable[str]) -> None:
        """Read many aggregates at once: one query instead of one for each. One that cannot be read is left
        to the command that needs it. Raises Unavailable."""
        missing = {
            stream
            for stream in streams
            if stream not in self._pending and (self._exact or self._streams.get_cached(stream) is None)
        }
        for result in await asyncio.gather(*map(self.get, missing), return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, UnreadableRecord):
                raise result

    async def preload_events(self, streams: Iterable[str]) -> None:
        """Read the events of many aggregates at once; none of them if one cannot be read, which is left to
        the command that needs it. Raises Unavailable."""
        with suppress(UnreadableRecord):
            for event in await self._streams.read_events(list(streams)):
                self._events.setdefault(event.originator_id, []).append(event)

    async def get_events(self, stream: str) -> list[DomainEvent]:
        changes = (*self._pending_changes, *self.changes)
        events = [change.event for change in changes if change.event.originator_id == stream]
        if not events or events[0].originator_version > 1:
            first = self._events.get(stream) or await super().get_events(stream)
            events = first + [event for event in events if event.originator_version > len(first)]
        return events

    def add(self, changes: Sequence[Change]) -> None:
        """Add the changes of a decided command; the commands after it see them."""
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
