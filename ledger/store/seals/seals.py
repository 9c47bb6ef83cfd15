"""Seal the personal data of events, and open it.

What is sealed stands after the id of its data subject, and is bound to stream, version and topic. What
earlier releases sealed has no subject: they derived the key of each stream from the service key.
"""

from __future__ import annotations

import copy
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.crypto.entropy import RandomPieces
from ledger.crypto.mac import Mac
from ledger.errors import ObjectRedacted
from ledger.keys.data_keys import DataKey, DataKeys, Keyring, Source, open_sealed
from ledger.keys.service_keys import ServiceKeys
from ledger.keys.stream_keys import open_stream_key
from ledger.store.seals.records import (
    Record,
    SealedRecords,
    StreamKey,
    fetch_remnants,
    fetch_stream_keys,
    find_sealed_records,
)

CACHED_CIPHERS_MAX = 4096

_DERIVED = b"ledger/events/seal/1"
_NONCE_BYTES = 12
_nonces = RandomPieces(_NONCE_BYTES)


class Seals:
    """What seals with any key, and opens what `prepare` was given: it has the keys of those records, and what
    stays of those that are erased. Without that, it opens what earlier releases sealed."""

    def __init__(self, data_keys: DataKeys) -> None:
        self.data_keys = data_keys
        self._derived = DerivedKeys(data_keys.service_keys)
        self._derive_cipher = lru_cache(CACHED_CIPHERS_MAX)(
            lambda stream: AESGCM(self._derived.derive(stream))
        )
        self._opens_erasing = False
        self._keyring = Keyring(0, {}, {})
        self._stream_keys: Mapping[str, StreamKey] | None = None
        self._remnants: Mapping[tuple[str, int], bytes] = {}
        # The stream, the subject (None in the form of earlier releases), the cipher: a long stream has one.
        self._last_cipher: tuple[str, str | None, AESGCM] | None = None

    def for_erasure(self) -> Self:
        """The same, which also opens what is being erased, for as long as its key is there."""
        seals = copy.copy(self)
        seals._opens_erasing = True
        return seals

    @property
    def keyring(self) -> Keyring:
        """The keys that it was prepared with."""
        return self._keyring

    async def prepare(self, source: Source, records: Iterable[Record], topics: Collection[str]) -> Self:
        """What opens these records; `topics` are those in which something may be sealed. Raises what reading
        from `source` raises, and ServiceKeyMissing."""
        sealed = find_sealed_records(records, topics)
        if not sealed.by_subject and not sealed.by_stream:
            return self
        prepared = copy.copy(self)
        await prepared._load(source, sealed)
        return prepared

    def seal(
        self,
        stream: str,
        version: int,
        topic: str,
        plaintext: bytes,
        subject: str | None,
        key: DataKey | None,
    ) -> str:
        """`plaintext` as an event has it: under the key of its subject; without a subject in the form of
        earlier releases. Raises ObjectRedacted for a subject without a key."""
        place = _encode_place(stream, version, topic)
        if subject is None:
            nonce = _nonces.draw()
            sealed = nonce + self._derive_cipher(stream).encrypt(nonce, plaintext, place)
            return b64encode(sealed).decode()
        if key is None:
            raise ObjectRedacted(subject)
        return f"{subject}:{b64encode(key.seal(_get_context(stream), plaintext, place)).decode()}"

    def open(self, stream: str, version: int, topic: str, sealed: str) -> bytes | None:
        """What is sealed; None if it is erased. Raises cryptography's InvalidTag, ValueError and TypeError;
        LookupError when there is no key."""
        subject, names_subject, text = sealed.rpartition(":")
        cipher = self._find_cipher(stream, subject) if names_subject else self._find_stream_cipher(stream)
        if cipher is None:
            return None
        return open_sealed(cipher, a2b_base64(text), _encode_place(stream, version, topic))

    def get_remnant(self, stream: str, version: int, sealed: str) -> tuple[bytes, str]:
        """What stays of an erased event's personal fields, as JSON, and how far its erasure is: `processing`
        or `redacted`."""
        remnant = self._remnants.get((stream, version))
        if remnant is not None:
            return remnant, "redacted"
        subject, names_subject, _ = sealed.rpartition(":")
        if not names_subject and self._stream_keys is not None:
            subject = self._stream_keys[stream].subject
        return b"{}", "redacted" if self._keyring.erased[subject] else "processing"

    async def _load(self, source: Source, sealed: SealedRecords) -> None:
        self._stream_keys, derives = {}, False
        if sealed.by_stream:
            self._stream_keys, derives = await fetch_stream_keys(source, list(sealed.by_stream))
        subjects = {*sealed.by_subject, *(key.subject for key in self._stream_keys.values())}
        self._keyring = await self.data_keys.load(source, subjects, erasing=self._opens_erasing)
        if derives:
            derived = {stream: StreamKey("", None) for stream in sealed.by_stream}
            self._stream_keys = derived | self._stream_keys
        if self._keyring.erased:
            self._remnants = await fetch_remnants(source, sealed.select(self._keyring, self._stream_keys))

    def _get_key(self, subject: str) -> DataKey | None:
        """The key of a subject; None if it is erased. Raises LookupError."""
        key = self._keyring.get(subject)
        if key is None and not self._keyring.is_erased(subject):
            raise LookupError(f"no key of {subject}")
        return key

    def _find_cipher(self, stream: str, subject: str) -> AESGCM | None:
        """The cipher of a stream under the key of a subject; None if that is erased. Raises LookupError."""
        key = self._get_key(subject)
        if key is None:
            return None
        last = self._last_cipher
        if last is None or last[0] != stream or last[1] != subject:
            last = self._last_cipher = (stream, subject, key.make_cipher(_get_context(stream)))
        return last[2]

    def _find_stream_cipher(self, stream: str) -> AESGCM | None:
        """The cipher of a stream in the form of earlier releases; None if its subject is erased. Raises
        LookupError and InvalidTag."""
        if self._stream_keys is None:
            return self._derive_cipher(stream)
        subject, wrapped = self._stream_keys[stream]
        if not subject:
            return self._derive_cipher(stream)
        key = self._get_key(subject)
        if key is None:
            return None
        last = self._last_cipher
        if last is None or last[0] != stream or last[1] is not None:
            if wrapped is None:
                raise LookupError(f"no key of {stream}")
            last = self._last_cipher = (stream, None, AESGCM(open_stream_key(key, stream, wrapped)))
        return last[2]


class DerivedKeys:
    """The keys that earlier releases derived for streams. The service key is asked when the first is needed:
    once the keys are kept elsewhere it may be another one."""

    def __init__(self, service_keys: ServiceKeys) -> None:
        self._service_keys = service_keys
        self._mac: Mac | None = None

    def derive(self, stream: str) -> bytes:
        """The key of the stream."""
        if self._mac is None:
            self._mac = Mac(self._service_keys.derive(_DERIVED))
        return self._mac.digest(stream.encode())


def _encode_place(stream: str, version: int, topic: str) -> bytes:
    return f"{stream}\x1f{version}\x1f{topic}".encode()


def _get_context(stream: str) -> str:
    return f"events/{stream}"
