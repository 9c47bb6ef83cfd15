"""The scans find what is there: in a row, compressed, in many pages; on the primary and on its standby.

Without this, a scan that finds nothing says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.compression.documents import compress
from tests.erasure.markers import Person, draw_letters
from tests.erasure.scans import find_places, scan_data_directory, scan_dump, scan_files, scan_wal
from tests.postgres.standby import ReplicatedServers, run_replicated


@pytest.fixture(scope="module")
def servers() -> Iterator[ReplicatedServers]:
    """A primary and its standby, which keep their WAL."""
    with run_replicated(settings={"wal_keep_size": "1GB"}) as servers:
        servers.primary.execute("CREATE TABLE planted (id int PRIMARY KEY, body bytea, words text)", "ledger")
        yield servers


def describe(person: Person) -> bytes:
    return b'{"id": "cus_1", "name": "%s"}' % person.mark("name").encode()


CONTENTS = {
    "a row": describe,
    "a compressed document": lambda person: compress(describe(person)),
    "a value that Postgres compresses": lambda person: describe(person) + b"a long text " * 1_000,
    "a value of many pages": lambda person: draw_letters(50_000).encode() + describe(person),
}


def insert(servers: ReplicatedServers, content: bytes) -> None:
    with psycopg.connect(servers.primary.dsn()) as conn:
        conn.execute("INSERT INTO planted SELECT coalesce(max(id), 0) + 1, %s FROM planted", (content,))
    servers.wait_caught_up()


def test_a_planted_text_is_found_everywhere(servers: ReplicatedServers) -> None:
    before = servers.primary.read_wal_position()
    planted = [Person(kind) for kind in CONTENTS]
    for person in planted:
        insert(servers, CONTENTS[person.name](person))
    persons = [*planted, Person("nobody")]
    for findings, place in (
        (scan_dump(servers.primary.dsn(), persons), "dump of public.planted"),
        (scan_data_directory(servers.primary, persons), "planted"),
        (scan_wal(servers.primary, before, persons), "WAL"),
        (scan_data_directory(servers.standby, persons), "planted"),
    ):
        for person in planted:
            assert place in find_places(findings, person), (person.name, place)
        assert {finding.name for finding in findings} == set(CONTENTS), place


def test_the_wal_before_the_moment_is_not_looked_at(servers: ReplicatedServers) -> None:
    earlier, later = Person("Ada"), Person("Ben")
    insert(servers, describe(earlier))
    servers.primary.execute("SELECT pg_switch_wal()")
    after = servers.primary.read_wal_position()
    servers.primary.execute(f"SELECT pg_logical_emit_message(true, 'of', '{later.mark('name')}')")
    assert {finding.name for finding in scan_wal(servers.primary, after, [earlier, later])} == {"Ben"}


def test_a_removed_row_is_still_in_the_file(servers: ReplicatedServers) -> None:
    """Why rows are sealed: deleting and vacuuming does not wipe the bytes of a page."""
    person = Person("Ada")
    insert(servers, describe(person))
    servers.primary.execute("DELETE FROM planted WHERE id = (SELECT max(id) FROM planted)", "ledger")
    assert not scan_dump(servers.primary.dsn(), [person])
    assert find_places(scan_data_directory(servers.primary, [person]), person)


def test_files_are_found_by_what_is_in_them(tmp_path: Path) -> None:
    person = Person("Ada")
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (tmp_path / "deep" / "down" / "x.bin").write_bytes(compress(describe(person)))
    (tmp_path / "other").write_bytes(b"nothing")
    assert find_places(scan_files([tmp_path], [person]), person) == {"deep/down/x.bin"}
