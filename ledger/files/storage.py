"""Stores file contents in the database as encrypted chunks, written before the event that creates the file.

So a file that is in the log has its contents, whenever a process crashes, until an erasure deletes them.
Chunks are sealed (`ledger.files.chunk_seals`) under the data key of their file, which is stored before the
first of them. While a slow client sends or receives, no connection is held, and at most one chunk is in
memory. To keep contents elsewhere (an object store), replace `FileStorage` and `IncomingFile`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from ledger.domain.file import EVIDENCE_BYTES_MAX, SNIFF_BYTES, File, detect_type
from ledger.errors import ContentsErased, InvalidParameter
from ledger.files.chunk_seals import ChunkSeal, ChunkSeals
from ledger.files.pdf import count_pages
from ledger.keys.data_keys import DataKeys
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import Conn, Pool

CHUNK_BYTES = 256 * 1024

# A chunk that is there is this one: a lost connection makes its only writer repeat the statement.
_INSERT_CHUNK = """
INSERT INTO ledger.file_chunks (file, number, sealed, subject) VALUES (%b, %b, %b, %b)
ON CONFLICT ON CONSTRAINT file_chunks_key DO NOTHING
"""
_SELECT_CHUNK = "SELECT sealed, subject FROM ledger.file_chunks WHERE file = %b AND number = %b"
# Requests that store a file under one id run one after another: each sees what the one before has stored.
_LOCK_FILE = "SELECT pg_advisory_xact_lock(hashtextextended(%b, 0))"
# With the key that was made for them, unless an erasure knows of it.
_DELETE_CHUNKS = """
WITH deleted AS (DELETE FROM ledger.file_chunks WHERE file = %b)
DELETE FROM ledger.data_keys
WHERE subject = %b AND ledger.key_group(subject) = ledger.key_group(%b) AND erasing_since IS NULL
"""
# Chunks left by a crash: older than a day, so of no running request, with no event for their file. Only those
# of the last month, so that a start does not look at every file there ever was.
_DELETE_ORPHANS = """
WITH orphans AS MATERIALIZED (
    SELECT c.file FROM ledger.file_chunks c
    WHERE c.stored_at BETWEEN now() - interval '31 days' AND now() - interval '1 day' AND c.number = 0
    AND NOT EXISTS (SELECT FROM ledger.events e WHERE e.originator_id = c.file)
), deleted AS (DELETE FROM ledger.file_chunks WHERE file IN (SELECT file FROM orphans))
DELETE FROM ledger.data_keys WHERE subject = ANY (ARRAY(SELECT file FROM orphans)) AND erasing_since IS NULL
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


class FileStorage:
    """The contents of all files. `keys`: the data keys of this process, or the service keys for them."""

    def __init__(self, pool: Pool, keys: DataKeys | ServiceKeys | bytes) -> None:
        self._pool = pool
        self._seals = ChunkSeals(keys if isinstance(keys, DataKeys) else DataKeys(keys))

    def begin(self, file_id: str) -> IncomingFile:
        """Begin to store the contents of a new file."""
        return IncomingFile(self, file_id)

    async def read(self, file: File) -> AsyncIterator[bytes]:
        """The file's contents, in chunks. The first one is read at once, so that a response that cannot be
        sent does not begin. Raises ContentsErased, UnreadableRecord, Unavailable; each further chunk too."""
        chunks = self._read_chunks(file)
        return _chain(await anext(chunks, b""), chunks)

    async def store_whole(self, file_id: str, filename: str | None, plaintext: bytes) -> Upload:
        """Store contents that are complete in memory, under an id from the caller. Idempotent: the
        same contents that an earlier request stored, before a crash or before it creates the file, are used
        as they are. Raises InvalidParameter if other contents are stored under the id, and Unavailable."""
        pieces = [plaintext[start : start + CHUNK_BYTES] for start in range(0, len(plaintext), CHUNK_BYTES)]
        seal = await self._pool.run_idempotent(lambda conn: self._store_pieces(conn, file_id, pieces))
        if seal is not None:
            self._seals.remember(seal)
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

        async def run(conn: Conn) -> ChunkSeal:
            async with conn.transaction():
                seal = await self._seals.prepare(conn, file_id)
                chunk = (file_id, number, seal.seal(number, plaintext), seal.subject)
                await conn.cursor(binary=True).execute(_INSERT_CHUNK.encode(), chunk)
            return seal

        self._seals.remember(await self._pool.run_idempotent(run))

    async def read_chunk(self, file_id: str, number: int) -> bytes:
        """One chunk, decrypted. Raises ContentsErased, UnreadableRecord, Unavailable."""

        async def run(conn: Conn) -> bytes:
            chunk = await self._find_chunk(conn, file_id, number)
            if chunk is None:  # a file in the log has its contents, until an erasure deletes them
                raise ContentsErased(file_id)
            return chunk

        return await self._pool.run_idempotent(run)

    async def delete(self, file_id: str) -> None:
        """Delete contents that no event refers to; the database refuses to delete a file's. Raises
        Unavailable."""
        await self._execute(_DELETE_CHUNKS, (file_id, file_id, file_id))
        self._seals.forget(file_id)

    async def _execute(self, query: str, parameters: tuple[object, ...]) -> None:
        """Run a statement that may be repeated."""

        async def run(conn: Conn) -> None:
            await conn.cursor(binary=True).execute(query.encode(), parameters)

        await self._pool.run_idempotent(run)

    async def _store_pieces(self, conn: Conn, file_id: str, pieces: Sequence[bytes]) -> ChunkSeal | None:
        """Returns what they were sealed with; None if they were stored before."""
        seal = None
        async with conn.transaction():
            cur = conn.cursor(binary=True)
            await cur.execute(_LOCK_FILE.encode(), (file_id,))
            try:
                stored_pieces = [
                    await self._find_chunk(conn, file_id, number) for number in range(len(pieces) + 1)
                ]
                if stored_pieces[0] is None and pieces:
                    seal = await self._seals.prepare(conn, file_id)
            except ContentsErased:
                raise _taken_error(file_id) from None
            if stored_pieces[0] is not None and stored_pieces != [*pieces, None]:
                raise _taken_error(file_id)
            if seal is not None:
                for number, piece in enumerate(pieces):
                    chunk = (file_id, number, seal.seal(number, piece), seal.subject)
                    await cur.execute(_INSERT_CHUNK.encode(), chunk)
        return seal

    async def _read_chunks(self, file: File) -> AsyncIterator[bytes]:
        for number in range(-(-file.size // CHUNK_BYTES)):
            yield await self.read_chunk(file.id, number)

    async def _find_chunk(self, conn: Conn, file_id: str, number: int) -> bytes | None:
        cur = await conn.cursor(binary=True).execute(_SELECT_CHUNK.encode(), (file_id, number))
        row = await cur.fetchone()
        return None if row is None else await self._seals.open(conn, file_id, number, row[1], row[0])


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


def _taken_error(file_id: str) -> InvalidParameter:
    text = f"The id '{file_id}' belongs to another file."
    return InvalidParameter(text, code="resource_already_exists", param="id")
