"""Seals and opens the stored chunks of files: under the data key of the file, bound to file and number.

So the table reveals nothing, no chunk can be moved, and an erasure destroys contents by their key. A chunk of
a release before data keys has no subject: its key was derived from the service key then, and is in
`ledger.stream_keys` since it was migrated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.crypto.entropy import RandomPieces
from ledger.errors import ContentsErased, UnreadableReason, UnreadableRecord
from ledger.keys.data_keys import DataKey, DataKeys, NewKey
from ledger.keys.service_keys import ServiceKeys
from ledger.keys.stream_keys import derive_chunk_key, name_chunk_stream, open_stream_key
from ledger.postgres.connections import Conn, fetch_all, fetch_one

_NONCE_BYTES = 12
_CONTEXT = "file_chunks"
_nonces = RandomPieces(_NONCE_BYTES)

_INSERT_KEY = """
INSERT INTO ledger.data_keys (subject, wrapped, wrapped_by) VALUES (%(subject)s, %(wrapped)s, %(wrapped_by)s)
ON CONFLICT DO NOTHING RETURNING subject
"""
_SELECT_STREAM_KEY = """
SELECT k.subject, k.wrapped, m.finished_at IS NULL
FROM ledger.key_migration m LEFT JOIN ledger.stream_keys k ON k.stream = %(stream)s
"""


class ChunkSeal(NamedTuple):
    """What the chunks of one file are sealed with now.

    subject  the file's id; None: in the form of releases before data keys, which still read it
    new_key  was made for this file by the transaction under way
    """

    file_id: str
    subject: str | None
    key: DataKey | None
    derived: AESGCM | None
    new_key: NewKey | None = None

    def seal(self, number: int, plaintext: bytes) -> bytes:
        """A chunk as it is stored."""
        place = _encode_place(self.file_id, number)
        if self.key is not None:
            return self.key.seal(_CONTEXT, plaintext, place)
        assert self.derived is not None
        nonce = _nonces.draw()
        return nonce + self.derived.encrypt(nonce, plaintext, place)


class ChunkSeals:
    """Prepares seals, and opens what is stored, with the data keys of one process."""

    def __init__(self, data_keys: DataKeys) -> None:
        self._data_keys = data_keys

    async def prepare(self, conn: Conn, file_id: str) -> ChunkSeal:
        """What to seal chunks of the file with in the transaction under way; a file without a key gets one.
        Call `remember` once it is committed. Raises ContentsErased."""
        watch = self._data_keys.watch
        if not watch.seals_by_subject and await watch.hold(conn) == 0:
            derived = AESGCM(derive_chunk_key(self._data_keys.service_keys, file_id))
            return ChunkSeal(file_id, None, None, derived)
        key = await self._load_key(conn, file_id)
        if key is not None:
            return ChunkSeal(file_id, file_id, key, None)
        new_key = self._data_keys.create(file_id)
        wrap = {"subject": file_id, "wrapped": new_key.wrapped, "wrapped_by": new_key.wrapped_by}
        if await fetch_one(conn, _INSERT_KEY, wrap) is not None:
            return ChunkSeal(file_id, file_id, new_key.key, None, new_key)
        return ChunkSeal(file_id, file_id, await self._load_key(conn, file_id), None)

    def remember(self, seal: ChunkSeal) -> None:
        """Keep the key that was made for the file, whose transaction has committed."""
        if seal.new_key is not None:
            self._data_keys.remember(seal.new_key)

    def forget(self, file_id: str) -> None:
        """Forget the key of a file that was deleted."""
        self._data_keys.forget([file_id])

    async def open(self, conn: Conn, file_id: str, number: int, subject: str | None, sealed: bytes) -> bytes:
        """A stored chunk, decrypted. Raises ContentsErased, and UnreadableRecord if no key opens it."""
        place = _encode_place(file_id, number)
        try:
            if subject is not None:
                key = await self._load_key(conn, subject)
                if key is None:
                    raise LookupError(subject)
                return key.open(_CONTEXT, sealed, place)
            return _decrypt(await self._load_derived(conn, file_id), sealed, place)
        except (InvalidTag, LookupError) as error:
            topic, reason = "file_chunk", UnreadableReason.CANNOT_BE_OPENED
            raise UnreadableRecord(file_id, number, topic, reason) from error

    async def _load_key(self, conn: Conn, subject: str) -> DataKey | None:
        """The key of the subject; None if it has none. Raises ContentsErased."""
        keyring = await self._data_keys.load(conn, [subject])
        if keyring.is_erased(subject):
            raise ContentsErased(subject)
        return keyring.get(subject)

    async def _load_derived(self, conn: Conn, file_id: str) -> bytes:
        """The key of a file whose chunks are of an earlier release. Raises ContentsErased, LookupError."""
        stream = name_chunk_stream(file_id)
        ((subject, wrapped, is_derived),) = await fetch_all(conn, _SELECT_STREAM_KEY, {"stream": stream})
        if subject is None:
            if not is_derived:
                raise LookupError(stream)
            return derive_chunk_key(self._data_keys.service_keys, file_id)
        key = await self._load_key(conn, subject)
        if key is None or wrapped is None:
            raise LookupError(stream)
        return open_stream_key(key, stream, wrapped)


def opens_any(service_key: bytes, chunks: Sequence[tuple[str, int, bytes]]) -> bool:
    """Whether a service key opens any of the chunks of releases before data keys: (file, number, sealed)."""
    service_keys = ServiceKeys(service_key)
    for file_id, number, sealed in chunks:
        try:
            _decrypt(derive_chunk_key(service_keys, file_id), sealed, _encode_place(file_id, number))
        except (InvalidTag, ValueError):
            continue
        return True
    return False


def _decrypt(key: bytes, sealed: bytes, place: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)


def _encode_place(file_id: str, number: int) -> bytes:
    return f"{file_id}\x1f{number}".encode()
