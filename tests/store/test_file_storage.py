"""Bytes kept under an id that a caller gave: whole, once, and never taken from another's hands."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from ledger.domain import file
from ledger.errors import InvalidParameter
from ledger.files.storage import CHUNK_BYTES, FileStorage
from ledger.postgres.connections import Pool

KEY = b"the bytes of files are sealed with this"
CONTENT = b"%PDF-1.4\n" + b"x" * (2 * CHUNK_BYTES)


def run_with_storage(dsn: str, story: Callable[[FileStorage], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Pool(dsn) as pool:
            await story(FileStorage(pool, KEY))

    asyncio.run(run())


@pytest.fixture
def named() -> str:
    return f"file_{uuid.uuid4().hex}"


async def read(contents: FileStorage, named: str, content: bytes) -> bytes:
    upload = await contents.store_whole(named, "a.pdf", content)
    (event,) = file.upload(
        file_id=upload.file_id, account="acct_1", livemode=False, purpose="pci_document",
        filename=upload.filename, size=upload.size, type=upload.type, digest=upload.digest,
        pages=upload.pages, now=0,
    )  # fmt: skip
    chunks = await contents.read(file.evolve(None, event))
    return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("content", [b"", b"x", CONTENT[:CHUNK_BYTES], CONTENT], ids=len)
def test_stored_bytes_are_read_and_storing_them_again_changes_nothing(
    dsn: str, named: str, content: bytes
) -> None:
    """As after a crash between the bytes and the event that makes the file."""

    async def story(contents: FileStorage) -> None:
        assert await read(contents, named, content) == content
        assert await read(contents, named, content) == content

    run_with_storage(dsn, story)
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT count(*) FROM ledger.file_chunks WHERE file = %s", (named,)).fetchone()
        assert row == (-(-len(content) // CHUNK_BYTES),)


@pytest.mark.parametrize(
    "other", [CONTENT + b"x", CONTENT[:-1], CONTENT[:CHUNK_BYTES], b"y" + CONTENT[1:]], ids=len
)
def test_other_bytes_under_the_id_are_refused_and_change_nothing(dsn: str, named: str, other: bytes) -> None:
    async def story(contents: FileStorage) -> None:
        await contents.store_whole(named, None, CONTENT)
        with pytest.raises(InvalidParameter) as refusal:
            await contents.store_whole(named, None, other)
        assert (refusal.value.code, refusal.value.param) == ("resource_already_exists", "id")
        assert await read(contents, named, CONTENT) == CONTENT

    run_with_storage(dsn, story)


def test_of_many_writers_at_once_one_stores_its_bytes(dsn: str, named: str) -> None:
    async def story(contents: FileStorage) -> None:
        wanted = [CONTENT + bytes([48 + number % 3]) for number in range(9)]
        kept = await asyncio.gather(
            *(contents.store_whole(named, None, content) for content in wanted), return_exceptions=True
        )
        digests = {upload.digest for upload in kept if not isinstance(upload, BaseException)}
        assert len(digests) == 1
        assert sum(isinstance(upload, InvalidParameter) for upload in kept) == 6

    run_with_storage(dsn, story)
