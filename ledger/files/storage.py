"""The bytes of files: sealed chunks in the database, written before the event that makes the file.

So a file that is in the log has its bytes, whoever crashes when. Chunks are AES-256-GCM with a key derived
for the file and bound to their place in it: they can neither be read from the table, nor be moved. No
connection is held and no more than a chunk in memory while a client sends or takes its time. Whoever wants
the bytes elsewhere (an object store) replaces this class: `begin`, `read`, `sweep`, and `Incoming`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from ledger.domain.file import EVIDENCE_BYTES_MAX, HEAD_BYTES, File, kind_of
from ledger.errors import InvalidParameter, Unavailable
from ledger.files.pdf import count_pages
from ledger.postgres.connections import first_line

CHUNK_BYTES = 256 * 1024

_NONCE_BYTES = 12

_PUT = "INSERT INTO ledger.file_chunks (file, number, sealed) VALUES (%b, %b, %b)"
_GET = "SELECT sealed FROM ledger.file_chunks WHERE file = %b AND number = %b"
# Of several who keep a file under one id each sees what the one before has kept.
_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended(%b, 0))"
_DROP = "DELETE FROM ledger.file_chunks WHERE file = %b"
# What a crash left: bytes older than any request, that no event speaks of. Those of a month, so that a
# start does not ask about every file there ever was.
_SWEEP = """
DELETE FROM ledger.file_chunks WHERE file IN (
    SELECT c.file FROM ledger.file_chunks c
    WHERE c.stored_at BETWEEN now() - interval '31 days' AND now() - interval '1 day' AND c.number = 0
    AND NOT EXISTS (SELECT FROM ledger.events e WHERE e.originator_id = c.file))
"""

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes that were received and stored under `file_id`, which is to become a file's.

    `type` and `pages` as in `domain.file.FileUploaded`; `digest` SHA-256, hex; `size` in bytes.
    """

    file_id: str
    filename: str | None
    size: int
    type: str | None
    digest: str
    pages: int | None


class Contents:
    """The bytes of all files. `key` is the service key's bytes."""

    def __init__(self, pool: Pool, key: bytes) -> None:
        self._pool = pool
        self._key = hmac.digest(key, b"ledger/files/seal/1", "sha256")

    def begin(self, file_id: str) -> Incoming:
        """Takes the bytes of a file to be, piece by piece."""
        return Incoming(self, file_id)

    async def read(self, file: File) -> AsyncIterator[bytes]:
        """The file's bytes in chunks. Raises Unavailable."""
        for number in range(-(-file.size // CHUNK_BYTES)):
            yield await self.chunk(file.id, number)

    async def keep(self, file_id: str, filename: str | None, clear: bytes) -> Upload:
        """Bytes that are here whole, under an id that a caller gave. The same again is as once: what a crash
        left is taken over, and nobody loses what another is about to make a file of. Raises InvalidParameter
        when other bytes are kept under the id, and Unavailable."""
        pieces = [clear[start : start + CHUNK_BYTES] for start in range(0, len(clear), CHUNK_BYTES)]
        try:
            async with self._pool.connection() as conn, conn.transaction():
                cur = conn.cursor(binary=True)
                await cur.execute(_ALONE.encode(), (file_id,))
                kept = [await self._opened(cur, file_id, number) for number in range(len(pieces) + 1)]
                if kept[0] is not None and kept != [*pieces, None]:
                    text = f"The id '{file_id}' belongs to another file."
                    raise InvalidParameter(text, code="resource_already_exists", param="id")
                if kept[0] is None:
                    for number, piece in enumerate(pieces):
                        await cur.execute(
                            _PUT.encode(), (file_id, number, self._seal(file_id, number, piece))
                        )
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise Unavailable(first_line(error)) from error
        kind = kind_of(clear[:HEAD_BYTES], filename)
        pages = await count_pages(clear) if kind == "pdf" and len(clear) <= EVIDENCE_BYTES_MAX else None
        return Upload(file_id, filename, len(clear), kind, hashlib.sha256(clear).hexdigest(), pages)

    async def sweep(self) -> None:
        """Remove what a crash left behind."""
        await self._execute(_SWEEP, ())

    async def put(self, file_id: str, number: int, clear: bytes) -> None:
        await self._execute(_PUT, (file_id, number, self._seal(file_id, number, clear)))

    async def chunk(self, file_id: str, number: int) -> bytes:
        row = await self._execute(_GET, (file_id, number))
        assert row is not None, "a file in the log has its bytes"
        return self._open(file_id, number, row[0])

    async def drop(self, file_id: str) -> None:
        """Forget bytes that no event speaks of; the database refuses to lose a file's."""
        await self._execute(_DROP, (file_id,))

    async def _execute(self, query: str, parameters: tuple[object, ...]) -> TupleRow | None:
        try:
            async with self._pool.connection() as conn:
                cur = await conn.cursor(binary=True).execute(query.encode(), parameters)
                return await cur.fetchone() if cur.description else None
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise Unavailable(first_line(error)) from error

    async def _opened(self, cur: AsyncCursor[TupleRow], file_id: str, number: int) -> bytes | None:
        row = await (await cur.execute(_GET.encode(), (file_id, number))).fetchone()
        return None if row is None else self._open(file_id, number, row[0])

    def _seal(self, file_id: str, number: int, clear: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher(file_id).encrypt(nonce, clear, _place(file_id, number))

    def _open(self, file_id: str, number: int, sealed: bytes) -> bytes:
        place = _place(file_id, number)
        return self._cipher(file_id).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)

    def _cipher(self, file_id: str) -> AESGCM:
        return AESGCM(hmac.digest(self._key, file_id.encode(), "sha256"))


class Incoming:
    """A file on its way in: `add` pieces, `store` now and then, `finish` at the end, or `drop`."""

    def __init__(self, contents: Contents, file_id: str) -> None:
        self._contents = contents
        self._file_id = file_id
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._chunks = 0
        self._head = b""
        self.size = 0

    def add(self, piece: bytes) -> None:
        if len(self._head) < HEAD_BYTES:
            self._head += piece[: HEAD_BYTES - len(self._head)]
        self._digest.update(piece)
        self._buffer += piece
        self.size += len(piece)

    async def store(self, *, least: int = CHUNK_BYTES) -> None:
        """Store what was added, in whole chunks, down to fewer than `least` bytes."""
        while len(self._buffer) >= least:
            await self._contents.put(self._file_id, self._chunks, bytes(self._buffer[:CHUNK_BYTES]))
            del self._buffer[:CHUNK_BYTES]
            self._chunks += 1

    async def finish(self, filename: str | None) -> Upload:
        """Store the rest, and tell what was received."""
        await self.store(least=1)
        kind = kind_of(self._head, filename)
        pages = None
        if kind == "pdf" and self.size <= EVIDENCE_BYTES_MAX:
            chunks = [await self._contents.chunk(self._file_id, number) for number in range(self._chunks)]
            pages = await count_pages(b"".join(chunks))
        digest = self._digest.hexdigest()
        return Upload(self._file_id, filename, self.size, kind, digest, pages)

    async def drop(self) -> None:
        """Forget what was stored: there will be no such file."""
        if self._chunks:
            await self._contents.drop(self._file_id)


def _place(file_id: str, number: int) -> bytes:
    return f"{file_id}\x1f{number}".encode()
