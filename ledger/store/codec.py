"""Encode domain events as stored bytes and decode them: the library's mapper, with fast JSON and sealing.

An event is stored as JSON. The fields that its class lists in PERSONAL are stored together under `sealed`,
encrypted by AES-256-GCM with a key derived for the stream and bound to stream, version and topic: nobody can
read them from the table, or move them to another event. A class upcasts its own old versions. The class of a
stored topic is looked up in a closed table: what is stored never decides what is imported.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder
from eventsourcing.utils import register_topic

from ledger.crypto.entropy import RandomPieces
from ledger.crypto.mac import Mac
from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent, domain_event
from ledger.errors import UnreadableReason, UnreadableRecord
from ledger.keys.service_keys import ServiceKeys
from ledger.logs import describe_error
from ledger.wire.aggregates import AGGREGATES_BY_EVENT, EVENT_CLASSES

CACHED_CIPHERS_MAX = 4096

_SEALED = "sealed"
_VERSION_1 = msgspec.Raw(b"1")
_NONCE_BYTES = 12
_nonces = RandomPieces(_NONCE_BYTES)
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
    return _EVOLVE_BY_CLASS[type(event)](state, event)


def evolve_stored(state: State | None, event: DomainEvent) -> State:
    """The aggregate after `event`, which was read from the log. Raises UnreadableRecord."""
    try:
        return _EVOLVE_BY_CLASS[type(event)](state, event)
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

    key            the service keys, or the bytes of one
    event_classes  those that the log may contain; a record of any other topic cannot be read
    """

    def __init__(
        self, key: ServiceKeys | bytes, event_classes: Iterable[type[DomainEvent]] = EVENT_CLASSES
    ) -> None:
        register_topics()
        super().__init__(JsonTranscoder())
        self._encode = msgspec.json.Encoder().encode
        self._key = key
        self._event_classes = tuple(event_classes)
        self._shapes = {each.TOPIC: _StoredShape.of(each) for each in self._event_classes}
        self._seal_mac = Mac(ServiceKeys.of(key).derive(b"ledger/events/seal/1"))
        self._cipher = lru_cache(CACHED_CIPHERS_MAX)(self._make_cipher)

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """The event as the log stores it: its fields as JSON, the personal ones sealed."""
        assert isinstance(domain_event, DomainEvent)
        topic, state = self.encode_event(domain_event)
        return StoredEvent(domain_event.originator_id, domain_event.originator_version, topic, state)

    def encode_event(self, event: DomainEvent) -> tuple[str, bytes]:
        """The topic of the event, and its fields as JSON, the personal ones sealed."""
        cls = type(event)
        fields = event.__dict__.copy()
        stream, version = fields.pop("originator_id"), fields.pop("originator_version")
        if cls.PERSONAL:
            personal = {name: value for name in cls.PERSONAL if (value := fields.pop(name)) is not None}
            if personal:
                fields[_SEALED] = self._seal(stream, version, cls.TOPIC, self._encode(personal))
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
            if erased:
                state = self._open_personal(state, erased, stream, version, topic)
            from_version = state.pop("class_version", 1)
            if from_version != class_version:
                _upcast(cls, state, from_version, class_version)
            if len(state) < field_count:
                raise ValueError("fields are missing")
            state["originator_id"] = stream
            state["originator_version"] = version
            event = object.__new__(cls)
            event.__dict__.update(state)
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
        """Whether the key opens what is sealed in a stored event; None when nothing is sealed in it."""
        try:
            sealed = _decode(stored_state)[_SEALED]
        except (ValueError, TypeError, KeyError):
            return None
        try:
            self._unseal(stream, version, topic, sealed)
        except (InvalidTag, ValueError, TypeError):
            return False
        return True

    def without_personal_data(self) -> Codec:
        """A codec that decodes every event as if its personal data had been erased, and opens nothing."""
        return _ClosedCodec(self._key, self._event_classes)

    def _open_personal(
        self, state: dict[str, Any], erased: dict[str, None], stream: str, version: int, topic: str
    ) -> dict[str, Any]:
        """`state` with its personal fields: opened, or None where they have been erased."""
        sealed = state.pop(_SEALED, None)
        if sealed is None:
            return {**erased, **state}
        return {**erased, **state, **_decode(self._unseal(stream, version, topic, sealed))}

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

    def _seal(self, stream: str, version: int, topic: str, plaintext: bytes) -> str:
        nonce = _nonces.draw()
        associated_data = f"{stream}\x1f{version}\x1f{topic}".encode()
        return b64encode(nonce + self._cipher(stream).encrypt(nonce, plaintext, associated_data)).decode()

    def _unseal(self, stream: str, version: int, topic: str, sealed: str) -> bytes:
        raw = a2b_base64(sealed)
        associated_data = f"{stream}\x1f{version}\x1f{topic}".encode()
        return self._cipher(stream).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], associated_data)

    def _make_cipher(self, stream: str) -> AESGCM:
        return AESGCM(self._seal_mac.digest(stream.encode()))


class _ClosedCodec(Codec):
    """Decodes events without what is sealed in them."""

    def _open_personal(
        self, state: dict[str, Any], erased: dict[str, None], stream: str, version: int, topic: str
    ) -> dict[str, Any]:
        state.pop(_SEALED, None)
        return {**erased, **state}


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
