"""Contents of files are sealed under the key of their file, are gone with it, and stay readable without the
service key that an earlier release sealed them with."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from ledger.domain import file
from ledger.errors import ContentsErased, InvalidParameter, UnreadableRecord
from ledger.files.storage import CHUNK_BYTES, FileStorage
from ledger.keys.data_keys import DataKeys
from ledger.keys.service_keys import ServiceKeys
from ledger.keys.stream_keys import derive_chunk_key, name_chunk_stream, seal_stream_key
from ledger.postgres.connections import Pool

KEY = b"the service key that contents are sealed with"
ANOTHER_KEY = b"the service key that has replaced it, later on"
CONTENT = b"%PDF-1.4\n" + b"x" * CHUNK_BYTES

Story = Callable[[FileStorage], Awaitable[None]]


def run(dsn: str, story: Story, keys: DataKeys | bytes = KEY) -> None:
    """Run the story in a process of its own, as far as its caches go."""

    async def tell() -> None:
        async with Pool(dsn) as pool:
            await story(FileStorage(pool, keys))

    asyncio.run(tell())


@pytest.fixture
def named() -> str:
    return f"file_{uuid.uuid4().hex}"


def store(dsn: str, named: str) -> None:
    async def story(storage: FileStorage) -> None:
        await storage.store_whole(named, "a.pdf", CONTENT)

    run(dsn, story)


def read(dsn: str, named: str, keys: DataKeys | bytes = KEY) -> bytes:
    found: list[bytes] = []

    async def story(storage: FileStorage) -> None:
        (event,) = file.upload(
            file_id=named, account="acct_1", livemode=False, purpose="pci_document", filename="a.pdf",
            size=len(CONTENT), type="pdf", digest="", pages=1, now=0,
        )  # fmt: skip
        found.extend([chunk async for chunk in await storage.read(file.evolve(None, event))])

    run(dsn, story, keys)
    return b"".join(found)


def execute(dsn: str, query: str, *parameters: object) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as conn:
        cur = conn.execute(query.encode(), parameters)
        return cur.fetchall() if cur.description else []


def destroy_key(dsn: str, subject: str) -> None:
    execute(
        dsn, "UPDATE ledger.data_keys SET wrapped = NULL, wrapped_by = NULL, erasing_since = now(),"
        " destroyed_at = now() WHERE subject = %s", subject,
    )  # fmt: skip


@pytest.fixture
def before(dsn: str) -> str:
    """A database on which an earlier release still may run."""
    execute(dsn, "UPDATE ledger.erasure_epoch SET epoch = 0")
    execute(dsn, "UPDATE ledger.key_migration SET finished_at = NULL")
    return dsn


def finish_migration(dsn: str) -> None:
    execute(dsn, "UPDATE ledger.erasure_epoch SET epoch = 1")
    execute(dsn, "UPDATE ledger.key_migration SET finished_at = now()")


def keep_chunk_key(dsn: str, named: str) -> None:
    """What the migration of old keys does for a file."""
    keys = DataKeys(KEY)
    new_key, stream = keys.create(named), name_chunk_stream(named)
    wrapped = seal_stream_key(new_key.key, stream, derive_chunk_key(ServiceKeys(KEY), named))
    execute(
        dsn, "INSERT INTO ledger.data_keys (subject, wrapped, wrapped_by) VALUES (%s, %s, %s)",
        named, new_key.wrapped, new_key.wrapped_by,
    )  # fmt: skip
    execute(
        dsn, "INSERT INTO ledger.stream_keys (stream, subject, wrapped) VALUES (%s, %s, %s)",
        stream, named, wrapped,
    )  # fmt: skip


def test_each_file_has_a_key_of_its_own_which_its_chunks_name(dsn: str, named: str) -> None:
    other = f"{named}b"
    store(dsn, named)
    store(dsn, other)
    chunks = execute(dsn, "SELECT file, subject, count(*) FROM ledger.file_chunks GROUP BY 1, 2 ORDER BY 1")
    assert chunks == [(named, named, 2), (other, other, 2)]
    assert read(dsn, named) == CONTENT
    destroy_key(dsn, named)
    with pytest.raises(ContentsErased, match=f"The contents of '{named}' were erased"):
        read(dsn, named)
    assert read(dsn, other) == CONTENT


def test_an_erased_file_never_gets_other_contents(dsn: str, named: str) -> None:
    store(dsn, named)
    destroy_key(dsn, named)
    with pytest.raises(InvalidParameter, match="belongs to another file"):
        store(dsn, named)


def test_a_chunk_opens_in_no_other_place(dsn: str, named: str) -> None:
    store(dsn, named)
    execute(
        dsn, "INSERT INTO ledger.file_chunks (file, number, sealed, subject)"
        " SELECT %s, number, sealed, subject FROM ledger.file_chunks WHERE file = %s", f"{named}b", named,
    )  # fmt: skip
    with pytest.raises(UnreadableRecord, match="cannot_be_opened"):
        read(dsn, f"{named}b")


def test_one_of_many_processes_makes_the_key(dsn: str, named: str) -> None:
    async def tell() -> None:
        async with Pool(dsn) as pool:
            storages = [FileStorage(pool, KEY) for _ in range(6)]
            await asyncio.gather(*(storage.write_chunk(named, 0, b"abc") for storage in storages))
            assert [await storage.read_chunk(named, 0) for storage in storages] == [b"abc"] * 6

    asyncio.run(tell())
    assert execute(dsn, "SELECT count(*) FROM ledger.data_keys") == [(1,)]


def test_a_discarded_upload_leaves_no_key(dsn: str, named: str) -> None:
    async def story(storage: FileStorage) -> None:
        incoming = storage.begin(named)
        incoming.add(CONTENT)
        await incoming.flush()
        assert execute(dsn, "SELECT count(*) FROM ledger.data_keys") == [(1,)]
        await incoming.discard()
        assert execute(dsn, "SELECT count(*) FROM ledger.data_keys") == [(0,)]
        await storage.write_chunk(named, 0, b"abc")  # not under the key that is gone
        assert await storage.read_chunk(named, 0) == b"abc"

    run(dsn, story)


def test_chunks_that_a_crash_left_are_deleted_with_their_key(dsn: str, named: str) -> None:
    store(dsn, named)
    left = f"{named}b"
    execute(
        dsn, "INSERT INTO ledger.file_chunks (file, number, sealed, subject, stored_at)"
        " VALUES (%s, 0, '', %s, now() - interval '2 days')", left, left,
    )  # fmt: skip
    execute(dsn, "INSERT INTO ledger.data_keys (subject, wrapped, wrapped_by) VALUES (%s, '', 'x')", left)

    async def sweep(storage: FileStorage) -> None:
        await storage.delete_orphans()

    run(dsn, sweep)
    assert execute(dsn, "SELECT subject FROM ledger.data_keys") == [(named,)]
    assert execute(dsn, "SELECT DISTINCT file FROM ledger.file_chunks") == [(named,)]


def test_while_an_earlier_release_may_run_chunks_have_the_form_that_it_reads(before: str, named: str) -> None:
    store(before, named)
    assert execute(before, "SELECT DISTINCT subject FROM ledger.file_chunks") == [(None,)]
    assert execute(before, "SELECT count(*) FROM ledger.data_keys") == [(0,)]
    assert read(before, named) == CONTENT
    with pytest.raises(UnreadableRecord):
        read(before, named, ANOTHER_KEY)


def test_contents_of_earlier_releases_need_their_service_key_no_more(before: str, named: str) -> None:
    store(before, named)
    keep_chunk_key(before, named)
    assert read(before, named) == CONTENT
    finish_migration(before)
    rotated = ServiceKeys(ANOTHER_KEY, KEY)  # the previous key is for the wrap alone
    assert read(before, named, DataKeys(rotated)) == CONTENT
    store(before, named)  # the same contents again
    destroy_key(before, named)
    with pytest.raises(ContentsErased):
        read(before, named)


def test_no_key_is_derived_after_the_migration(before: str, named: str) -> None:
    store(before, named)
    finish_migration(before)
    with pytest.raises(UnreadableRecord, match="cannot_be_opened"):
        read(before, named)
