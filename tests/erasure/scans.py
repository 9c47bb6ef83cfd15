"""Looks for a person's texts wherever a database keeps bytes: dumps, files of servers, WAL, files on disk.

Each scan takes several persons, whose texts it tells apart. What it has not found is not there: test_scans.py
plants texts in all these places and shows that they are found.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psycopg

from ledger.postgres.binaries import find_wheel_bin_dir
from tests.erasure.forms import find_forms
from tests.erasure.markers import Person
from tests.postgres.standby import Server


class Finding(NamedTuple):
    """Whose text, in which file or table, and in which form."""

    name: str
    place: str
    form: str


Findings = set[Finding]
WAL_PAGE_BYTES = 8192
WAL_HEADER_BYTES = 24
WAL_LONG_HEADER_BYTES = 40
_RELATIONS = """
SELECT pg_relation_filepath(c.oid), coalesce(o.oid, c.oid)::regclass::text
FROM pg_class c LEFT JOIN pg_class o ON o.reltoastrelid = c.oid WHERE pg_relation_filepath(c.oid) IS NOT NULL
"""


def describe(findings: Findings) -> dict[str, list[str]]:
    """Whose texts there are, by place: short enough for a message."""
    places = sorted({finding.place for finding in findings})
    return {
        place: sorted({finding.name for finding in findings if finding.place == place}) for place in places
    }


def find_places(findings: Findings, person: Person) -> set[str]:
    """Where a text of this person is."""
    return {finding.place for finding in findings if finding.name == person.name}


def scan_contents(contents: Iterable[tuple[str, bytes]], persons: Sequence[Person]) -> Findings:
    """What is in each of the named contents."""
    names = {person.stem: person.name for person in persons}
    assert len(names) == len(set(names.values())) == len(persons)
    return {
        Finding(names[stem], place, form)
        for place, content in contents
        for stem, form in find_forms(content.rstrip(b"\0"), names)
    }


def scan_files(
    folders: Iterable[Path], persons: Sequence[Person], *, names: Mapping[str, str] = {}
) -> Findings:
    """Every file in and below the folders, whatever its name. `names`: what files hold, by relative path."""

    def read() -> Iterator[tuple[str, bytes]]:
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.is_symlink() or not path.is_file():
                    continue
                place = str(path.relative_to(folder))
                try:
                    yield names.get(re.sub(r"[._]\w+$", "", place), place), path.read_bytes()
                except FileNotFoundError:
                    continue  # a server removes files of its own meanwhile

    return scan_contents(read(), persons)


def find_bytes(folder: Path, needles: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """Which of the named bytes are in which files in and below the folder: pairs of name and path."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            place = str(path.relative_to(folder))
            found |= {(name, place) for name, needle in needles.items() if needle in content}
    return found


def scan_dump(dsn: str, persons: Sequence[Person]) -> Findings:
    """A whole dump in plain text, by table."""
    dump = subprocess.run(
        [find_wheel_bin_dir() / "pg_dump", "--dbname", dsn], capture_output=True, check=True, timeout=120
    ).stdout
    sections = re.split(rb"(?m)^COPY ", dump)
    assert len(sections) > 50, "the dump has no tables"
    return scan_contents(((f"dump of {part.split(b' ', 1)[0].decode()}", part) for part in sections), persons)


def scan_data_directory(server: Server, persons: Sequence[Person], *, database: str = "ledger") -> Findings:
    """All files of a running server: everything that it holds in memory is written to them before. A primary
    removes dead rows first."""
    if not server.fetch_value("SELECT pg_is_in_recovery()"):
        server.execute("VACUUM", database)
    server.execute("CHECKPOINT")
    with psycopg.connect(server.dsn(database)) as conn:
        names: dict[str, str] = dict(conn.execute(_RELATIONS).fetchall())
    return scan_files([server.directory], persons, names=names)


def scan_wal(server: Server, since: str, persons: Sequence[Person]) -> Findings:
    """The WAL after the position `since` up to now: as it is, and the images of pages that pg_waldump takes
    out of it. Asserts that there is some, and that none of it has been removed."""
    end = str(server.fetch_value("SELECT pg_switch_wal()::text"))
    query = f"""
    SELECT string_agg(name, ' ' ORDER BY name), (pg_walfile_name_offset('{since}')).file_offset
    FROM pg_ls_waldir() WHERE length(name) = 24
    AND name BETWEEN pg_walfile_name('{since}') AND pg_walfile_name('{end}'::pg_lsn - 1)
    """
    with psycopg.connect(server.dsn("postgres")) as conn:
        row = conn.execute(query.encode()).fetchone()
        first = conn.execute("SELECT pg_walfile_name(%s)", (since,)).fetchone()
    assert row is not None
    assert first is not None
    names = str(row[0]).split()
    assert names[0] == first[0], "the WAL of that time has been removed"
    folder = server.directory / "pg_wal"
    segments = [(folder / name).read_bytes() for name in names]
    stream = b"".join(_join_pages(segments, row[1] - row[1] % WAL_PAGE_BYTES))
    with TemporaryDirectory() as images:
        subprocess.run(
            [
                find_wheel_bin_dir() / "pg_waldump", "--quiet", f"--start={since}", f"--end={end}",
                f"--path={folder}", f"--save-fullpage={images}",
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
        return scan_contents([("WAL", stream)], persons) | scan_files([Path(images)], persons)


def _join_pages(segments: Iterable[bytes], first_page: int) -> Iterator[bytes]:
    """The records without the headers of the pages, which may stand in the middle of a text."""
    for segment in segments:
        for start in range(first_page, len(segment), WAL_PAGE_BYTES):
            header = WAL_LONG_HEADER_BYTES if start == 0 else WAL_HEADER_BYTES
            yield segment[start + header : start + WAL_PAGE_BYTES]
        first_page = 0
