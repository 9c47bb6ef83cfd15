"""The entries of a search: what the log says about a recorded event, without its content."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ledger.audit.causes import render_actor, render_causation
from ledger.audit.moments import format_time
from ledger.domain.imported_event import EventImported
from ledger.domain.resource import ResourceDeleted, ResourcePublished
from ledger.errors import UnreadableRecord, printable_topic
from ledger.ids import derive_id
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec
from ledger.wire.aggregates import AGGREGATES_BY_EVENT
from ledger.wire.json_values import Json
from ledger.wire.public_events import FIXED_EVENT_TYPES, derive_public_event_types

# The content is read only where the public Events, or the type of the object, depend on it. A deleted
# resource has its type in the first event of its stream. The name of a key is shown to its own account.
_SELECT_ENTRIES = """
SELECT e.notification_id, extract(epoch FROM e.recorded_at)::float8, e.originator_id, e.originator_version,
       e.topic, e.actor, k.name, k.kind, k.livemode, k.last4, e.request_id, e.idempotency_key, e.causation,
       e.customer, e.charge, e.payment_intent,
       CASE WHEN e.topic <> ALL (%(fixed)s::text[]) THEN e.state END,
       CASE WHEN e.topic = %(deleted)s THEN (
           SELECT f.state FROM ledger.events f
           WHERE f.originator_id = e.originator_id AND f.originator_version = 1) END
FROM ledger.events e
LEFT JOIN ledger.api_keys k ON k.id = e.actor AND k.account = e.account
WHERE e.notification_id = ANY (%(positions)s::bigint[])
"""
_OBJECT_TYPES = {
    event_class.TOPIC: row.object_type or row.noun for event_class, row in AGGREGATES_BY_EVENT.items()
}


class PublicEventRef(NamedTuple):
    """A public Event that the recorded event made."""

    id: str
    type: str


class LogEntry(NamedTuple):
    """One recorded event.

    time           unix seconds: when it was recorded
    object_type    None for an event of a topic, or a resource, that this release cannot read
    actor          who caused it: see `render_actor`
    causation      what caused it besides a request; see `render_causation`
    events         the public Events that it made; None when the record cannot be read
    """

    position: int
    time: float
    stream: str
    version: int
    topic: str
    object_type: str | None
    actor: Json | None
    request_id: str | None
    idempotency_key: str | None
    causation: str | None
    customer: str | None
    charge: str | None
    payment_intent: str | None
    events: list[PublicEventRef] | None

    def to_json(self) -> Json:
        """The entry as JSON shows it."""
        return {
            "position": self.position,
            "time": format_time(self.time),
            "stream": self.stream,
            "version": self.version,
            "type": printable_topic(self.topic),
            "object_type": self.object_type,
            "actor": self.actor,
            "request_id": self.request_id,
            "idempotency_key": self.idempotency_key,
            "causation": render_causation(self.causation),
            "customer": self.customer,
            "charge": self.charge,
            "payment_intent": self.payment_intent,
            "events": None if self.events is None else [each._asdict() for each in self.events],
        }


@lru_cache(maxsize=4)
def get_closed_codec(codec: Codec) -> Codec:
    """The codec that leaves personal data sealed. It takes longer to make than to use."""
    return codec.without_personal_data()


async def fetch_entries(conn: Conn, codec: Codec, positions: Sequence[int]) -> list[LogEntry]:
    """The entries at `positions`, in that order. Raises psycopg.Error."""
    if not positions:
        return []
    cur = conn.cursor(binary=True)
    parameters = {
        "positions": list(positions),
        "fixed": list(FIXED_EVENT_TYPES),
        "deleted": ResourceDeleted.TOPIC,
    }
    await cur.execute(_SELECT_ENTRIES, parameters)
    rows = {row[0]: row for row in await cur.fetchall()}
    closed = get_closed_codec(codec)
    return [_make_entry(closed, *rows[position]) for position in positions]


def _make_entry(
    codec: Codec,
    position: int,
    time: float,
    stream: str,
    version: int,
    topic: str,
    actor: str | None,
    key_name: str | None,
    key_kind: str | None,
    key_livemode: bool | None,
    key_last4: str | None,
    request_id: str | None,
    idempotency_key: str | None,
    causation: str | None,
    customer: str | None,
    charge: str | None,
    payment_intent: str | None,
    state: bytes | None,
    first_state: bytes | None,
) -> LogEntry:
    types, object_type = FIXED_EVENT_TYPES.get(topic), _OBJECT_TYPES.get(topic)
    if state is not None:
        types, object_type = _read_types(codec, stream, version, topic, state, first_state)
    events = None
    if types is not None:
        events = [
            PublicEventRef(_derive_id(topic, time, stream, version, ordinal), event_type)
            for ordinal, event_type in enumerate(types)
        ]
    return LogEntry(
        position, time, stream, version, topic, object_type,
        render_actor(actor, key_name, key_kind, key_livemode, key_last4),
        request_id, idempotency_key, causation, customer, charge, payment_intent, events,
    )  # fmt: skip


def _read_types(
    codec: Codec, stream: str, version: int, topic: str, state: bytes, first_state: bytes | None
) -> tuple[tuple[str, ...] | None, str | None]:
    """The types of the public Events and of the object, from the content of the event."""
    object_type = _OBJECT_TYPES.get(topic)
    try:
        event = codec.decode_event(stream, version, topic, state)
        if isinstance(event, ResourcePublished):
            object_type = event.type
        elif isinstance(event, ResourceDeleted):
            object_type = None
            first = codec.decode_event(stream, 1, ResourcePublished.TOPIC, first_state or b"")
            assert isinstance(first, ResourcePublished)
            object_type = first.type
        return derive_public_event_types(event), object_type
    except UnreadableRecord:
        return None, object_type


def _derive_id(topic: str, time: float, stream: str, version: int, ordinal: int) -> str:
    return stream if topic == EventImported.TOPIC else derive_id("evt", time, stream, version, ordinal)
