"""Encode domain events as stored bytes and decode them: the library's mapper, with fast JSON and sealing.

An event is stored as JSON. The fields that its class lists in PERSONAL are stored together under `sealed`,
after the id of their data subject, encrypted with that subject's key and bound to stream, version and topic:
nobody can read them from the table, or move them to another event. A class upcasts its own old versions. The
class of a stored topic is looked up in a closed table: what is stored never decides what is imported.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from typing import Any, ClassVar, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder
from eventsourcing.utils import register_topic

from ledger.domain.aggregate import State, mark_redacted
from ledger.domain.event import DomainEvent, domain_event
from ledger.errors import UnreadableReason, UnreadableRecord
from ledger.keys.data_keys import DataKey, DataKeys, Keyring, Source
from ledger.keys.service_keys import ServiceKeys
from ledger.logs import describe_error
from ledger.store.seals.records import Record
from ledger.store.seals.seals import Seals
from ledger.wire.aggregates import AGGREGATES_BY_EVENT, EVENT_CLASSES

_SEALED = "sealed"
_VERSION_1 = msgspec.Raw(b"1")
_decode = msgspec.json.Decoder().decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

# Fields of an event that are stored beside its content.
_STREAM_FIELDS = ("originator_id", "originator_version")

_EVOLVE_BY_CLASS: dict[type[DomainEvent], Callable[[Any, DomainEvent], State]] = {
    event_class: row.module.evolve for event_class, row in AGGREGATES_BY_EVENT.items()
}


@domain_event
class UnreadableEvent(DomainEvent):
    """Stands in the place of a record that cannot be read, for readers that go on past it.

    first_topic  the topic of the stream's first record: it tells the aggregate when the record's own topic
                 is unknown
    """

    TOPIC: ClassVar[str] = ""

    error: UnreadableRecord
    first_topic: str


def register_topics() -> None:
    """Register with the library which class each stored topic names, for tools that use its own mapper."""
    for event in EVENT_CLASSES:
        register_topic(event.TOPIC, event)


def evolve(state: State | None, event: DomainEvent) -> State:
    """The aggregate after `event`. `state` is None before its first event."""
    after = _EVOLVE_BY_CLASS[type(event)](state, event)
    return after if event.redaction is None else mark_redacted(after, event)


def evolve_stored(state: State | None, event: DomainEvent) -> State:
    """The aggregate after `event`, which was read from the log. Raises UnreadableRecord."""
    try:
        after = _EVOLVE_BY_CLASS[type(event)](state, event)
        return after if event.redaction is None else mark_redacted(after, event)
    except Exception as error:  # an event that another release has stored may raise anything
        if isinstance(event, UnreadableEvent):
            raise event.error from None
        raise UnreadableRecord(
            event.originator_id,
            event.originator_version,
            event.TOPIC,
            UnreadableReason.CANNOT_BE_FOLDED,
            detail=describe_error(error),
        ) from error


def fold(events: Iterable[DomainEvent], state: State | None = None) -> State | None:
    """The aggregate after `events` of the log, which follow `state`. None without events and `state`. Raises
    UnreadableRecord."""
    for event in events:
        state = evolve_stored(state, event)
    return state


class _StoredShape(NamedTuple):
    """What decoding an event of a class needs to know.

    erased          its personal fields, as they are read once they have been erased
    field_count     how many fields it must have
    stored_version  `class_version` as it is stored
    """

    event_class: type[DomainEvent]
    erased: dict[str, None]
    class_version: int
    field_count: int
    stored_version: msgspec.Raw

    @classmethod
    def of(cls, event_class: type[DomainEvent]) -> _StoredShape:
        """The shape of the class as it is now."""
        class_version = getattr(event_class, "class_version", 1)
        erased = dict.fromkeys(each.name for each in fields(event_class) if each.name in event_class.PERSONAL)
        stored_version = msgspec.Raw(b"%d" % class_version)
        return cls(event_class, erased, class_version, len(_required_fields(event_class)), stored_version)


def _required_fields(event_class: type[DomainEvent]) -> set[str]:
    """The fields that a decoded event always has: those without a default, and the personal ones."""
    required = {
        each.name
        for each in fields(event_class)
        if each.default is MISSING and each.default_factory is MISSING and each.name not in _STREAM_FIELDS
    }
    return required | event_class.PERSONAL


class JsonTranscoder(Transcoder):
    """JSON by msgspec. Events hold JSON values only, so nothing needs to be converted."""

    def __init__(self) -> None:
        super().__init__()
        self._encoder = msgspec.json.Encoder()

    def encode(self, obj: Any) -> bytes:
        """`obj` as compact UTF-8 JSON."""
        return self._encoder.encode(obj)

    def decode(self, data: bytes) -> Any:
        """The value of UTF-8 JSON. Raises msgspec.DecodeError."""
        return _decode(data)


class Codec(Mapper[str]):
    """The library's mapper, which also seals personal data.

    keys           the data keys of the process; or its service keys, for a codec that caches no data keys
    event_classes  those that the log may contain; a record of any other topic cannot be read

    It opens what earlier releases sealed, under keys derived from the service key. What is sealed under keys
    of data subjects is opened by the codec that `prepare` returns for it.
    """

    def __init__(
        self,
        keys: DataKeys | ServiceKeys | bytes,
        event_classes: Iterable[type[DomainEvent]] = EVENT_CLASSES,
    ) -> None:
        register_topics()
        super().__init__(JsonTranscoder())
        self.data_keys = keys if isinstance(keys, DataKeys) else DataKeys(keys)
        self.service_keys = self.data_keys.service_keys
        self._encode = msgspec.json.Encoder().encode
        self._event_classes = tuple(event_classes)
        self._shapes = {each.TOPIC: _StoredShape.of(each) for each in self._event_classes}
        self._personal_topics = frozenset(topic for topic, shape in self._shapes.items() if shape.erased)
        self._seals = Seals(self.data_keys)

    async def prepare(self, source: Source, records: Iterable[Record]) -> Codec:
        """The codec that opens these records: it has the keys of their subjects, and what stays of those that
        are erased. `records` are tuples of stream, version, topic and stored state, read before. Raises what
        reading from `source` raises, and ServiceKeyMissing."""
        return self._with(await self._seals.prepare(source, records, self._personal_topics))

    @property
    def keyring(self) -> Keyring:
        """The keys of the records for which it was prepared; none of a codec that was not."""
        return self._seals.keyring

    def for_erasure(self) -> Codec:
        """The codec that also opens what is being erased, for as long as its key is there."""
        return self._with(self._seals.for_erasure())

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """The event as earlier releases store it: its fields as JSON, the personal ones sealed."""
        assert isinstance(domain_event, DomainEvent)
        topic, state = self.encode_event(domain_event)
        return StoredEvent(domain_event.originator_id, domain_event.originator_version, topic, state)

    def encode_event(
        self, event: DomainEvent, subject: str | None = None, key: DataKey | None = None
    ) -> tuple[str, bytes]:
        """The topic of the event, and its fields as JSON, the personal ones sealed: under the key of their
        subject; without a subject in the form of earlier releases. Raises ObjectRedacted for a subject whose
        key is gone."""
        cls = type(event)
        fields = event.__dict__.copy()
        stream, version = fields.pop("originator_id"), fields.pop("originator_version")
        if cls.PERSONAL:
            fields.pop("redaction", None)
            personal = {name: value for name in cls.PERSONAL if (value := fields.pop(name)) is not None}
            if personal:
                plaintext = self._encode(personal)
                fields[_SEALED] = self._seals.seal(stream, version, cls.TOPIC, plaintext, subject, key)
        class_version = getattr(cls, "class_version", 1)
        if class_version > 1:
            fields["class_version"] = class_version
        return cls.TOPIC, self._encode(fields)

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEvent:
        """The domain event of a stored event, upcast to the current version of its class. Raises
        UnreadableRecord."""
        stream = stored_event.originator_id
        assert isinstance(stream, str)
        return self.decode_event(
            stream, stored_event.originator_version, stored_event.topic, stored_event.state
        )

    def decode_event(self, stream: str, version: int, topic: str, stored_state: bytes) -> DomainEvent:
        """The event stored in `stream` at `version`. Raises UnreadableRecord.

        Readers of the log call this: creating a StoredEvent for the four values would take a tenth of the
        time of a read. What is wrong with a record is found out only when decoding it has failed.
        """
        try:
            cls, erased, class_version, field_count, _ = self._shapes[topic]
            state: dict[str, Any] = _decode(stored_state)
            redaction = None
            if erased:
                state, redaction = self._open_personal(state, erased, stream, version, topic)
            from_version = state.pop("class_version", 1)
            if from_version != class_version:
                _upcast(cls, state, from_version, class_version)
            if len(state) < field_count:
                raise ValueError("fields are missing")
            state["originator_id"] = stream
            state["originator_version"] = version
            event = object.__new__(cls)
            event.__dict__.update(state)
            if redaction is not None:
                event.__dict__["redaction"] = redaction
        except Exception as error:  # whatever the bytes hold
            reason = self._find_reason(stream, version, topic, stored_state)
            raise UnreadableRecord(stream, version, topic, reason) from error
        return event

    def read_members(self, topic: str, stored_state: bytes) -> dict[str, msgspec.Raw] | None:
        """The fields of a stored event but the personal ones, each as it is stored: `decode_event` has the
        same values, for three times as much. None where only that tells what they are: an older version of
        the class, a record that cannot be read."""
        shape = self._shapes.get(topic)
        try:
            members = _decode_members(stored_state)
            if not stored_state.isascii():
                stored_state.decode()  # of a Raw, only the syntax has been checked
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if shape is None or members.pop("class_version", _VERSION_1) != shape.stored_version:
            return None
        if b"\n" in stored_state or b"\r" in stored_state:
            return None  # white space of another writer, which readers of lines take for an end
        if erased := shape.erased:
            members.pop(_SEALED, None)
            if not erased.keys().isdisjoint(members):
                return None
        return members if len(members) + len(erased) >= shape.field_count else None

    def can_open(self, stream: str, version: int, topic: str, stored_state: bytes) -> bool | None:
        """Whether a key of this codec opens what is sealed in a stored event; None when nothing is, or it is
        erased."""
        try:
            sealed = _decode(stored_state)[_SEALED]
        except (ValueError, TypeError, KeyError):
            return None
        try:
            return None if self._seals.open(stream, version, topic, sealed) is None else True
        except (InvalidTag, ValueError, TypeError, LookupError):
            return False

    def without_personal_data(self) -> Codec:
        """A codec that decodes every event as if its personal data had been erased, and opens nothing."""
        return _ClosedCodec(self.data_keys, self._event_classes)

    def _with(self, seals: Seals) -> Codec:
        if seals is self._seals:
            return self
        codec = copy.copy(self)
        codec._seals = seals
        return codec

    def _open_personal(
        self, state: dict[str, Any], erased: dict[str, None], stream: str, version: int, topic: str
    ) -> tuple[dict[str, Any], str | None]:
        """`state` with its personal fields: opened, or what stays of them where they have been erased; then
        also how far that is."""
        sealed = state.pop(_SEALED, None)
        if sealed is None:
            return {**erased, **state}, None
        opened = self._seals.open(stream, version, topic, sealed)
        if opened is not None:
            return {**erased, **state, **_decode(opened)}, None
        remnant, redaction = self._seals.get_remnant(stream, version, sealed)
        return {**erased, **state, **_decode(remnant)}, redaction

    def _find_reason(self, stream: str, version: int, topic: str, stored_state: bytes) -> UnreadableReason:
        """Which step of decoding a record fails."""
        shape = self._shapes.get(topic)
        if shape is None:
            return UnreadableReason.UNKNOWN_TOPIC
        try:
            state = _decode(stored_state)
        except Exception:
            return UnreadableReason.NOT_JSON
        if not isinstance(state, dict):
            return UnreadableReason.NOT_JSON
        try:
            self._open_personal(state, shape.erased, stream, version, topic)
        except Exception:
            return UnreadableReason.CANNOT_BE_OPENED
        from_version = state.get("class_version", 1)
        if isinstance(from_version, int) and from_version > shape.class_version:
            return UnreadableReason.NEWER_VERSION
        if from_version != shape.class_version:
            return UnreadableReason.CANNOT_BE_UPCAST
        return UnreadableReason.FIELDS_MISSING


class _ClosedCodec(Codec):
    """Decodes events without what is sealed in them."""

    async def prepare(self, source: Source, records: Iterable[Record]) -> Codec:
        return self

    def _open_personal(
        self, state: dict[str, Any], erased: dict[str, None], stream: str, version: int, topic: str
    ) -> tuple[dict[str, Any], str | None]:
        state.pop(_SEALED, None)
        return {**erased, **state}, None


def _upcast(cls: type[DomainEvent], state: dict[str, Any], from_version: int, class_version: int) -> None:
    """Convert the fields of an older version in place. A later release's version is read as it is, if it has
    all fields of this release's: releases that run side by side only add fields (docs/rebuilding.md)."""
    if from_version > class_version:
        missing = _required_fields(cls).difference(state)
        if missing:
            raise ValueError("fields are missing")
    while from_version < class_version:
        getattr(cls, f"upcast_v{from_version}_v{from_version + 1}")(state)
        from_version += 1
