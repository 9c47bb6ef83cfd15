"""The library's ApplicationRecorder over our journal, so that its own test cases judge it.

The library hands over stored events; a codec that passes them through stands in for ours, and an event loop
in a thread for the service's. Our versions start at 1 and the library's cases at 0: one is added.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar, cast

import msgspec
import psycopg
from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    ListenNotifySubscription,
    Notification,
    StoredEvent,
    Subscription,
)

from ledger.call import Cause
from ledger.clock import Clock
from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent, domain_event
from ledger.keys.data_keys import DataKey
from ledger.store.codec import Codec
from ledger.store.journal import Append, Change, Journal, VersionConflict
from ledger.store.log import StreamReader
from ledger.store.notifications import HeadNotifier
from tests.store.stores import KEY

FIRST_VERSION = 1
CAUSE = Cause("acct_library", False, None, None, None)

_COLUMNS = "originator_id, originator_version, topic, state"
_EVENTS = f"""
SELECT {_COLUMNS} FROM ledger.events
WHERE originator_id = %(stream)s AND originator_version > %(gt)s AND originator_version <= %(lte)s
ORDER BY originator_version
"""
_NOTIFICATIONS = f"""
SELECT {_COLUMNS}, notification_id FROM ledger.events
WHERE notification_id >= %(start)s AND notification_id <= %(stop)s
AND (%(topics)s::text[] = '{{}}' OR topic = ANY (%(topics)s))
ORDER BY notification_id LIMIT %(limit)s
"""

Result = TypeVar("Result")


@domain_event
class RawEvent(DomainEvent):
    """An event of which only the stored form is known."""

    topic: str
    state: bytes


class StubState(msgspec.Struct, frozen=True):
    """All that the journal asks of a state."""

    id: str
    version: int


class PassThroughCodec(Codec):
    """Leaves stored events as they are."""

    def encode_event(
        self, event: DomainEvent, subject: str | None = None, key: DataKey | None = None
    ) -> tuple[str, bytes]:
        assert isinstance(event, RawEvent)
        return event.topic, event.state


class JournalRecorder(ApplicationRecorder):
    """Writes through a Journal, as a process of the service would; `close` ends it."""

    def __init__(self, dsn: str) -> None:
        self._conn = psycopg.connect(dsn, options="-c role=ledger_api", autocommit=True)
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.run(self._open(dsn))

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self, dsn: str) -> None:
        codec = PassThroughCodec(KEY)
        self.notifier = HeadNotifier(dsn, "ledger_api")
        streams = StreamReader(dsn, codec, self.notifier, cached_streams_max=10)
        self._journal = Journal(
            dsn, codec, Clock(), streams, self.notifier, batch_max=512, queue_max=4096, timeout_ms=10_000
        )
        await self.notifier.start()
        await self._journal.start()

    def close(self) -> None:
        self.run(self._journal.close())
        self.run(self.notifier.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        # The library's cases leave reading threads behind: none may be in the middle of a query.
        with self._lock:
            self._conn.close()

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        if not stored_events:
            return []
        changes = [
            Change(
                RawEvent(
                    originator_id=str(event.originator_id),
                    originator_version=event.originator_version + FIRST_VERSION,
                    at=0,
                    topic=event.topic,
                    state=event.state,
                ),
                cast(State, StubState(str(event.originator_id), event.originator_version + FIRST_VERSION)),
            )
            for event in stored_events
        ]
        try:
            last = self.run(self._journal.append(Append(CAUSE, changes)))
        except (VersionConflict, psycopg.IntegrityError) as error:
            raise IntegrityError(str(error)) from error
        return list(range(last - len(changes) + 1, last + 1))

    def select_events(
        self,
        originator_id: Any,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        parameters = {
            "stream": originator_id,
            "gt": 0 if gt is None else gt + FIRST_VERSION,
            "lte": 2**31 - 1 if lte is None else lte + FIRST_VERSION,
        }
        events = [
            StoredEvent(stream, version - FIRST_VERSION, topic, state)
            for stream, version, topic, state in self._fetch(_EVENTS, parameters)
        ]
        return (events[::-1] if desc else events)[:limit]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        parameters = {
            "start": (start or 0) + (0 if inclusive_of_start else 1),
            "stop": 2**63 - 1 if stop is None else stop,
            "topics": list(topics),
            "limit": limit,
        }
        return [
            Notification(stream, version - FIRST_VERSION, topic, state, position)
            for stream, version, topic, state, position in self._fetch(_NOTIFICATIONS, parameters)
        ]

    def max_notification_id(self) -> int | None:
        [(position,)] = self._fetch("SELECT nullif(position, 0) FROM ledger.head", {})
        return cast("int | None", position)

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        return JournalSubscription(self, gt, topics)

    def _fetch(self, query: str, parameters: dict[str, Any]) -> list[Any]:
        with self._lock:
            return self._conn.execute(query.encode(), parameters).fetchall()


class JournalSubscription(ListenNotifySubscription[JournalRecorder]):
    """The library's subscription, woken by our wake-ups."""

    def __init__(self, recorder: JournalRecorder, gt: int | None, topics: Sequence[str]) -> None:
        super().__init__(recorder, gt, topics)
        self._notify_thread = threading.Thread(target=self._notify_on_append)
        self._notify_thread.start()

    def __exit__(self, *args: object, **kwargs: Any) -> None:
        super().__exit__(*args, **kwargs)
        self._notify_thread.join()

    def _notify_on_append(self) -> None:
        seen = 0
        while not self._has_been_stopped:
            wake = self._recorder.notifier
            if self._recorder.run(wake.wait_past(seen, timeout_seconds=0.1)):
                seen = wake.position
                self._has_been_notified.set()
