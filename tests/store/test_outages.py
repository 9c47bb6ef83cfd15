"""A Postgres that crashes and comes back, and one without room: what was acknowledged stays, what waits
continues by itself, and no caller gets a wrong result (invariant 3)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.errors import Unavailable
from ledger.postgres.connections import connect
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate
from ledger.store import batching
from ledger.store.batching import BatchQueue
from ledger.store.codec import Codec
from ledger.store.journal import VersionConflict
from ledger.store.log import read_log
from ledger.store.store import Store
from tests.store.stores import (
    KEY,
    check_gapless,
    create_customer,
    open_store,
    read_positions,
    rename_customer,
    wait_until,
)

Acknowledged = list[tuple[int, str, int]]
WRITERS = 8


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server of this module's own, to crash: what it wrote is safe with the kernel, fsync or not."""
    place = Path(tempfile.mkdtemp(prefix="outages-"))
    place.chmod(0o755)
    server = EmbeddedPostgres(place / "data", settings={"fsync": "off", "shared_buffers": "16MB"})
    server.start()
    migrate(server.dsn())
    yield server
    server.destroy()
    shutil.rmtree(place)


class Load:
    """Writers and a follower that go on over outages of the server, and what was acknowledged to them."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._stop, self._written = asyncio.Event(), asyncio.Event()
        self.acknowledged: Acknowledged = []

    async def write(self, store: Store, stream: str) -> None:
        """Write a stream of its own."""
        position = await store.journal.append(create_customer(stream))
        self.acknowledged.append((position, stream, 1))
        while not self._stop.is_set():
            # A server that was lost and is back may have lost what was cached.
            state = store.streams.get_cached(stream) or await store.streams.read(stream)
            assert state is not None
            position = await store.journal.append(rename_customer(state, f"name {state.version}"))
            self.acknowledged.append((position, stream, state.version + 1))

    async def write_shared(self, store: Store) -> None:
        """Write a stream that the other store writes too: decided again, not failed."""
        while not self._stop.is_set():
            try:
                state = await store.streams.read("cus_shared")
                version = state.version if state else 0
                position = await store.journal.append(rename_customer(state, f"name {version}"))
                self.acknowledged.append((position, "cus_shared", version + 1))
            except (VersionConflict, Unavailable):
                await asyncio.sleep(0.01)

    async def follow(self) -> int:
        """Read the log over all restarts; the last position seen. Each must be the next."""
        position, codec = 0, Codec(KEY)
        while not self._all_seen(position):
            try:
                async with await connect(self._dsn, "ledger_api", name="follower") as conn:
                    while not self._all_seen(position):
                        for recorded in await read_log(conn, codec, position, 1000):
                            assert recorded.position == position + 1
                            position += 1
                        await asyncio.sleep(0.002)
            except psycopg.OperationalError:
                await asyncio.sleep(0.01)
        return position

    def _all_seen(self, position: int) -> bool:
        return self._written.is_set() and position >= len(self.acknowledged)

    async def run(self, cause_outages: Callable[[], Awaitable[None]]) -> int:
        """Write and follow until the outages are over; the last position that the follower saw."""
        async with open_store(self._dsn) as store, open_store(self._dsn) as other:
            await store.journal.append(create_customer("cus_shared"))
            self.acknowledged.append((1, "cus_shared", 1))
            following = asyncio.create_task(self.follow())
            writing = [
                asyncio.create_task(self.write(one, f"cus_{name}_{n}"))
                for name, one in (("a", store), ("b", other))
                for n in range(WRITERS // 2)
            ]
            writing += [asyncio.create_task(self.write_shared(one)) for one in (store, other)]
            await cause_outages()
            self._stop.set()
            await asyncio.gather(*writing)
            # Not before: an append still under way would come after the follower had ended.
            self._written.set()
            return await following


def test_a_crash_and_restart_under_load_loses_duplicates_and_fails_nothing(server: EmbeddedPostgres) -> None:
    load = Load(server.dsn())

    async def wait_for_appends() -> None:
        reached = len(load.acknowledged)
        await wait_until(lambda: len(load.acknowledged) > reached + 300)

    async def crash_twice() -> None:
        for _ in range(2):
            await wait_for_appends()
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(0.1)
            await asyncio.to_thread(server.start)
        await wait_for_appends()

    seen = asyncio.run(load.run(crash_twice))
    log = read_positions(server.dsn())
    check_gapless(log)
    # Nothing acknowledged is missing, nothing there was not acknowledged: each command happened once.
    assert sorted(load.acknowledged) == log
    assert seen == len(log)


def test_a_full_disk_is_reported_and_writes_resume_when_there_is_room(server: EmbeddedPostgres) -> None:
    """The events table lies on a file system of 1 MB, which a ballast fills."""
    place = Path(tempfile.mkdtemp(prefix="small-"))
    place.chmod(0o755)
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", place],
            check=False,
            capture_output=True,
        ).returncode
    )
    if not mounted:
        place.rmdir()
        pytest.skip("a small file system can only be mounted by root, where mounting is allowed at all")
    dsn = server.dsn()
    try:
        with psycopg.connect(dsn, autocommit=True) as conn:
            directory = place / "space"
            directory.mkdir(mode=0o700)
            data_directory = conn.execute("SHOW data_directory").fetchone()
            assert data_directory is not None
            owner = os.stat(data_directory[0])
            os.chown(directory, owner.st_uid, owner.st_gid)
            conn.execute(f"CREATE TABLESPACE small LOCATION '{directory}'".encode())
            conn.execute(b"CREATE DATABASE small TABLESPACE pg_default")
            small = server.dsn("small")
            migrate(small)
        with psycopg.connect(small, autocommit=True) as conn:
            conn.execute(b"ALTER TABLE ledger.events SET TABLESPACE small")
        asyncio.run(_append_beyond_room(small, place / "ballast"))
        check_gapless(read_positions(small))
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(b"DROP DATABASE small WITH (FORCE)")
            conn.execute(b"DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()


async def _append_beyond_room(dsn: str, ballast: Path) -> None:
    async with open_store(dsn) as store:
        assert await store.journal.append(create_customer("cus_0")) == 1
        _fill_up(ballast)
        # The page begun has room for some more.
        outcomes = [
            await asyncio.gather(store.journal.append(create_customer(f"cus_{n}")), return_exceptions=True)
            for n in range(1, 60)
        ]
        taken = [position for [position] in outcomes if isinstance(position, int)]
        refused = [error for [error] in outcomes if isinstance(error, Unavailable)]
        assert len(taken) + len(refused) == 59
        assert taken == list(range(2, 2 + len(taken)))
        assert "No space left" in str(refused[0])
        assert await store.streams.read("cus_0") is not None
        os.unlink(ballast)
        assert await store.journal.append(create_customer("cus_last")) == 2 + len(taken)


def _fill_up(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass


def test_callers_of_an_append_that_is_cut_off_at_the_end_are_told() -> None:
    """What began and what waited: none of them waits for an answer that does not come any more."""

    async def main() -> list[object]:
        async def hang(batch: object) -> None:
            await asyncio.Event().wait()

        queue: BatchQueue[str, int] = BatchQueue(hang, batch_max=1, queue_max=2)
        queue.start("test")
        begun = queue.submit("begun")
        await asyncio.sleep(0.01)
        waiting = queue.submit("waiting")
        await queue.close()
        async with asyncio.timeout(5):
            return list(await asyncio.gather(begun, waiting, return_exceptions=True))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "CLOSE_TIMEOUT_SECONDS", 0.05)
        assert [type(outcome) for outcome in asyncio.run(main())] == [Unavailable] * 2
