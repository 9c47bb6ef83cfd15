"""The list views of files and file links, a row an object, as in `views`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.domain import file, file_link
from ledger.domain.file import File
from ledger.domain.file_link import FileLink
from ledger.store.codec import State
from ledger.store.log import Recorded
from projections.projection import Change, Projection, Row

_WRITE_FILES = """
INSERT INTO projections.files (generation, position, id, account, livemode, created, purpose, state)
SELECT %b::integer, * FROM unnest(
    %b::bigint[], %b::text[], %b::text[], %b::boolean[], %b::bigint[], %b::text[], %b::bytea[])
ON CONFLICT (generation, id) DO UPDATE SET state = excluded.state
"""
_WRITE_LINKS = """
INSERT INTO projections.file_links
    (generation, position, id, account, livemode, created, file, expires_at, state)
SELECT %b::integer, * FROM unnest(
    %b::bigint[], %b::text[], %b::text[], %b::boolean[], %b::bigint[], %b::text[], %b::bigint[], %b::bytea[])
ON CONFLICT (generation, id) DO UPDATE SET expires_at = excluded.expires_at, state = excluded.state
"""


def _file(before: State | None, recorded: Recorded, after: State) -> Iterable[Row]:
    assert isinstance(after, File)
    state = msgspec.json.encode(after)
    yield after.id, after.account, after.livemode, after.created, after.purpose, state


def _link(before: State | None, recorded: Recorded, after: State) -> Iterable[Row]:
    assert isinstance(after, FileLink)
    state = msgspec.json.encode(after)
    yield after.id, after.account, after.livemode, after.created, after.file, after.expires_at, state


async def _write_files(conn: AsyncConnection[TupleRow], generation: int, changes: Sequence[Change]) -> None:
    await conn.execute(_WRITE_FILES, [generation, *_columns(changes)])


async def _write_links(conn: AsyncConnection[TupleRow], generation: int, changes: Sequence[Change]) -> None:
    await conn.execute(_WRITE_LINKS, [generation, *_columns(changes)])


def _columns(changes: Sequence[Change]) -> list[list[object]]:
    positions, rows = zip(*changes, strict=True)
    return [list(positions), *map(list, zip(*rows, strict=True))]


FILES = Projection(name="files", aggregates=(file,), apply=_file, write=_write_files)
FILE_LINKS = Projection(name="file_links", aggregates=(file_link,), apply=_link, write=_write_links)
