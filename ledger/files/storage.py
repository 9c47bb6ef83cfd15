"""Stores file contents in the database as encrypted chunks, written before the event that creates the file.

So a file that is in the log has its contents, whenever a process crashes. A chunk is encrypted (AES-256-GCM)
under a key derived for its file, and bound to its number: the table reveals nothing, and no chunk can be
moved. While a slow client sends or receives, no connection is held, and at most one chunk is in memory. To
keep contents elsewhere (an object store), replace `FileStorage` and `IncomingFile`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from ledger.domain.file import EVIDENCE_BYTES_MAX, SNIFF_BYTES, File, detect_type
from ledger.errors import InvalidParameter
from ledger.files.pdf import count_pages
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import Conn, Pool

CHUNK_BYTES = 256 * 1024

_NONCE_BYTES = 12

# A chunk that is there is this one: a lost connection makes its only writer repeat the statement.
_INSERT_CHUNK = """
INSERT INTO ledger.file_chunks (file, number, sealed) VALUES (%b, %b, %b)
ON CONFLICT ON CONSTRAINT file_chunks_key DO NOTHING
"""
_SELECT_CHUNK = "SELECT sealed FROM ledger.file_chunks WHERE file = %b AND number = %b"
# Requests that store a file under one id run one after another: each sees what the one before has stored.
_LOCK_FILE = "SELECT pg_advisory_xact_lock(hashtextextended(%b, 0))"
_DELETE_CHUNKS = "DELETE FROM ledger.file_chunks WHERE file = %b"
# Chunks left by a crash: older than a day, so of no running request, with no event for their file. Only those
# of the last month, so that a start does not look at every file there ever was.
_DELETE_ORPHANS = """
DELETE FROM ledger.file_chunks WHERE file IN (
    SELECT c.file FROM ledger.file_chunks c
    WHERE c.stored_at BETWEEN now() - interval '31 days' AND now() - interval '1 day' AND c.number = 0
    AND NOT EXISTS (SELECT FROM ledger.events e WHERE e.originator_id = c.file))
"""


@dataclass(frozen=True, slots=True)
class Upload:
    """File contents that were received and stored, under the id of a file that does not exist yet.

    `size` in bytes; `digest` is SHA-256 in hex; `type` and `pages` as in `domain.file.FileUploaded`.
    """

    file_id: str
    filename: str | None
    size: int
    type: str | None
    digest: str
    pages: int | None


class ChunkCipher:
    """Encrypts and decrypts the chunks of files. `key` is the service key."""

    def __init__(self, key: ServiceKeys | bytes) -> None:
        self._key = ServiceKeys.of(key).derive(b"ledger/files/seal/1")

    def seal(self, file_id: str, number: int, plaintext: bytes) -> bytes:
        """A chunk as it is stored."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher(file_id).encrypt(nonce, plaintext, _associated_data(file_id, number))

    def open(self, file_id: str, number: int, sealed: bytes) -> bytes:
        """A stored chunk, decrypted. Raises cryptography's InvalidTag when it was sealed under another key,
        or as another chunk."""
        associated_data = _associated_data(file_id, number)
        return self._cipher(file_id).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated_data)

    def can_open(self, file_id: str, number: int, sealed: bytes) -> bool:
        """Whether the key opens a stored chunk."""
        try:
            self.open(file_id, number, sealed)
        except (InvalidTag, ValueError):
            return False
        return True

    def _cipher(self, file_id: str) -> AESGCM:
        return AESGCM(hmac.digest(self._key, file_id.encode(), "sha256"))


class FileStorage:
    """The contents of all files. `key` is the service key."""

    def __init__(self, pool: Pool, key: ServiceKeys | bytes) -> None:
        self._pool = pool
        self._cipher = ChunkCipher(key)

    def begin(self, file_id: str) -> IncomingFile:
        """Begin to store the contents of a new file."""
        return IncomingFile(self, file_id)

    async def read(self, file: File) -> AsyncIterator[bytes]:
        """The file's contents, in chunks. The first one is read at once, so that a response that cannot be
        sent does not begin. Raises Unavailable, and so does each further chunk."""
        chunks = self._read_chunks(file)
        return _chain(await anext(chunks, b""), chunks)

    async def store_whole(self, file_id: str, filename: str | None, plaintext: bytes) -> Upload:
        """Store contents that are complete in memory, under an id from the caller. Idempotent: the
        same contents that an earlier request stored, before a crash or before it creates the file, are used
        as they are. Raises InvalidParameter if other contents are stored under the id, and Unavailable."""
        pieces = [plaintext[start : start + CHUNK_BYTES] for start in range(0, len(plaintext), CHUNK_BYTES)]
        await self._pool.run_idempotent(lambda conn: self._store_pieces(conn, file_id, pieces))
        kind = detect_type(plaintext[:SNIFF_BYTES], filename)
        pages = (
            await count_pages(plaintext) if kind == "pdf" and len(plaintext) <= EVIDENCE_BYTES_MAX else None
        )
        return Upload(file_id, filename, len(plaintext), kind, hashlib.sha256(plaintext).hexdigest(), pages)

    async def delete_orphans(self) -> None:
        """Delete chunks that a crash left without a file. Raises Unavailable."""
        await self._execute(_DELETE_ORPHANS, ())

    async def write_chunk(self, file_id: str, number: int, plaintext: bytes) -> None:
        """Store one chunk; numbers begin at 0. Raises Unavailable."""
        await self._execute(_INSERT_CHUNK, (file_id, number, self._cipher.seal(file_id, number, plaintext)))

    async def read_chunk(self, file_id: str, number: int) -> bytes:
        """One chunk, decrypted. Raises Unavailable."""
        row = await self._execute(_SELECT_CHUNK, (file_id, number))
        assert row is not None, "a file in the log has its contents"
        return self._cipher.open(file_id, number, row[0])

    async def delete(self, file_id: str) -> None:
        """Delete contents that no event refers to; the database refuses to delete a file's. Raises
        Unavailable."""
        await self._execute(_DELETE_CHUNKS, (file_id,))

    async def _execute(self, query: str, parameters: tuple[object, ...]) -> TupleRow | None:
        """The first row of the result, None without one. Every query here may be repeated."""

        async def run(conn: Conn) -> TupleRow | None:
            cur = await conn.cursor(binary=True).execute(query.encode(), parameters)
            return await cur.fetchone() if cur.description else None

        return await self._pool.run_idempotent(run)

    async def _store_pieces(self, conn: Conn, file_id: str, pieces: Sequence[bytes]) -> None:
        async with conn.transaction():
            cur = conn.cursor(binary=True)
            await cur.execute(_LOCK_FILE.encode(), (file_id,))
            stored_pieces = [
                await self._find_chunk(cur, file_id, number) for number in range(len(pieces) + 1)
            ]
            if stored_pieces[0] is not None and stored_pieces != [*pieces, None]:
                text = f"The id '{file_id}' belongs to another file."
                raise InvalidParameter(text, code="resource_already_exists", param="id")
            if stored_pieces[0] is None:
                for number, piece in enumerate(pieces):
                    await cur.execute(
                        _INSERT_CHUNK.encode(), (file_id, number, self._cipher.seal(file_id, number, piece))
                    )

    async def _read_chunks(self, file: File) -> AsyncIterator[bytes]:
        for number in range(-(-file.size // CHUNK_BYTES)):
            yield await self.read_chunk(file.id, number)

    async def _find_chunk(self, cur: AsyncCursor[TupleRow], file_id: str, number: int) -> bytes | None:
        row = await (await cur.execute(_SELECT_CHUNK.encode(), (file_id, number))).fetchone()
        return None if row is None else self._cipher.open(file_id, number, row[0])


class IncomingFile:
    """A file that is being received: `add` pieces, `flush` now and then, at the end `finish` or `discard`."""

    def __init__(self, storage: FileStorage, file_id: str) -> None:
        self._storage = storage
        self._file_id = file_id
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._chunk_count = 0
        self._head = b""
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Append to the contents; pieces may have any size."""
        if len(self._head) < SNIFF_BYTES:
            self._head += piece[: SNIFF_BYTES - len(self._head)]
        self._digest.update(piece)
        self._buffer += piece
        self.size += len(piece)

    async def flush(self, *, bytes_min: int = CHUNK_BYTES) -> None:
        """Store what was added, in chunks, until fewer than `bytes_min` bytes are left in memory. Raises
        Unavailable."""
        while len(self._buffer) >= bytes_min:
            await self._storage.write_chunk(
                self._file_id, self._chunk_count, bytes(self._buffer[:CHUNK_BYTES])
            )
            del self._buffer[:CHUNK_BYTES]
            self._chunk_count += 1

    async def finish(self, filename: str | None) -> Upload:
        """Store the rest and describe what was received. Raises Unavailable."""
        await self.flush(bytes_min=1)
        kind = detect_type(self._head, filename)
        pages = None
        if kind == "pdf" and self.size <= EVIDENCE_BYTES_MAX:
            chunks = [
                await self._storage.read_chunk(self._file_id, number) for number in range(self._chunk_count)
            ]
            pages = await count_pages(b"".join(chunks))
        digest = self._digest.hexdigest()
        return Upload(self._file_id, filename, self.size, kind, digest, pages)

    async def discard(self) -> None:
        """Delete what was stored: the file will not be created. Raises Unavailable."""
        if self._chunk_count:
            await self._storage.delete(self._file_id)


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _associated_data(file_id: str, number: int) -> bytes:
    return f"{file_id}\x1f{number}".encode()
