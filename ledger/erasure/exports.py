"""Exports in the clear: registered when they are written, and written again when somebody in them is erased.

`ledger export --unseal` writes personal data into a file, which no destroyed key reaches. A process finds the
file only on its own host; what it cannot write again is named by the certificate of the erasure, until an
operator does so there (`ledger erase exports rewrite`).
"""

from __future__ import annotations

import asyncio
import socket
from hashlib import file_digest
from pathlib import Path
from typing import NamedTuple

from ledger.audit.importable.redaction import NotAnExport, find_erased, rewrite
from ledger.errors import InvalidState, SettingError
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.postgres.private_files import open_new_file

_COLUMNS = """e.id, e.account, e.livemode, e.position, e.host, e.path, e.operator, e.size_bytes, e.digest,
    extract(epoch FROM e.made_at)::float8"""
_REGISTER = """
INSERT INTO ledger.clear_exports
    (account, livemode, position, host, path, operator, size_bytes, digest, first_digest)
VALUES (%(account)s, %(livemode)s, %(position)s, %(host)s, %(path)s, %(operator)s, %(size_bytes)s, %(digest)s,
    %(digest)s)
"""
# Also those of other accounts and modes that name the person. One that was made after the request shows the
# person's data as redacted already.
_MAY_SHOW = """
e.position < j.requested_position AND ((e.account, e.livemode) = (j.account, j.livemode) OR EXISTS (
    SELECT FROM ledger.events n
    WHERE n.customer = ANY (j.subjects) AND (n.account, n.livemode) = (e.account, e.livemode)))
"""
_OF_JOB = f"""
SELECT {_COLUMNS} FROM ledger.clear_exports e JOIN ledger.erasures j ON {_MAY_SHOW}
WHERE j.job = %(job)s AND e.removed_at IS NULL AND NOT EXISTS (
    SELECT FROM ledger.export_rewrites r WHERE (r.export, r.job) = (e.id, j.job) AND r.obstacle IS NULL)
ORDER BY e.id
"""  # noqa: S608 (a constant)
_ERASED = """
SELECT unnest(subjects) FROM ledger.erasures WHERE job = %(job)s
UNION SELECT stream FROM ledger.erasure_streams WHERE job = %(job)s
"""
_RECORD = """
INSERT INTO ledger.export_rewrites (export, job, lines, obstacle)
VALUES (%(export)s, %(job)s, %(lines)s, %(obstacle)s)
ON CONFLICT ON CONSTRAINT export_rewrites_key
DO UPDATE SET lines = excluded.lines, obstacle = excluded.obstacle, at = now()
"""
_UPDATE = """
UPDATE ledger.clear_exports
SET size_bytes = %(size_bytes)s, digest = %(digest)s, rewritten_at = now() WHERE id = %(export)s
"""
_OBSTACLES = f"""
SELECT r.obstacle, {_COLUMNS} FROM ledger.export_rewrites r JOIN ledger.clear_exports e ON e.id = r.export
WHERE r.job = %(job)s AND r.obstacle IS NOT NULL ORDER BY e.id
"""  # noqa: S608 (a constant)
_JOBS_SINCE = f"""
SELECT j.job, EXISTS (
    SELECT FROM ledger.export_rewrites r WHERE (r.export, r.job) = (e.id, j.job) AND r.obstacle IS NULL)
FROM ledger.erasures j JOIN ledger.clear_exports e ON {_MAY_SHOW}
WHERE e.id = %(export)s ORDER BY j.requested_position
"""  # noqa: S608 (a constant)
_LIST = f"SELECT {_COLUMNS} FROM ledger.clear_exports e WHERE e.removed_at IS NULL ORDER BY e.id"  # noqa: S608
_ONE = f"""
SELECT {_COLUMNS} FROM ledger.clear_exports e
WHERE e.removed_at IS NULL AND (e.id = %(number)s OR %(digest)s IN (e.digest, e.first_digest)) ORDER BY e.id
"""  # noqa: S608 (a constant)
_REMOVE = "UPDATE ledger.clear_exports SET removed_at = now() WHERE id = %(export)s AND removed_at IS NULL"

STANDARD_OUTPUT = "standard output, so nobody knows where it is"
ON_ANOTHER_HOST = "on another host"
NOT_THERE = "not there any more: moved, or removed"


class ClearExport(NamedTuple):
    """An export that was written in the clear. `position`: that of the log which it shows; `path`: absolute,
    None for standard output; `digest`: SHA-256 of the file; `made_at`: unix seconds."""

    id: int
    account: str
    livemode: bool
    position: int
    host: str
    path: str | None
    operator: str
    size_bytes: int
    digest: bytes
    made_at: float


class Rewritten(NamedTuple):
    """A file that was written again: how many lines changed, and what it is now."""

    lines: int
    size_bytes: int
    digest: bytes


async def register_export(
    conn: Conn,
    *,
    account: str,
    livemode: bool,
    position: int,
    path: str | None,
    operator: str,
    size_bytes: int,
    digest: bytes,
) -> None:
    """Record an export in the clear, before it has its name. `path`: absolute. Raises psycopg.Error."""
    parameters = {
        "account": account,
        "livemode": livemode,
        "position": position,
        "host": socket.gethostname(),
        "path": path,
        "operator": operator,
        "size_bytes": size_bytes,
        "digest": digest,
    }
    await conn.execute(_REGISTER, parameters)


async def rewrite_exports(conn: Conn, job: str) -> int:
    """Write the exports again that may have data of this erasure's subjects; returns how many files changed.
    Those that could not be are kept with the reason. To be repeated safely. Raises psycopg.Error."""
    changed = 0
    for export in [ClearExport(*row) for row in await fetch_all(conn, _OF_JOB, {"job": job})]:
        obstacle = _find_obstacle(export)
        if obstacle is None:
            assert export.path is not None
            obstacle = await apply_erasure(conn, export, Path(export.path), job)
            changed += obstacle is None
        if obstacle is not None:
            await _record(conn, export, job, obstacle=obstacle)
    return changed


async def apply_erasure(conn: Conn, export: ClearExport, path: Path, job: str) -> str | None:
    """Write one export, or a copy of it at `path`, again without the data of an erasure's subjects. Returns
    why that is not possible; None when it is done. Raises psycopg.Error."""
    erased = {row[0] for row in await fetch_all(conn, _ERASED, {"job": job})}
    try:
        rewritten = await asyncio.to_thread(rewrite_file, path, erased)
    except FileNotFoundError:
        return NOT_THERE
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    except (SettingError, NotAnExport) as error:
        return str(error)
    async with conn.transaction():
        await conn.execute(
            _UPDATE,
            {"export": export.id, "size_bytes": rewritten.size_bytes, "digest": rewritten.digest},
        )
        await _record(conn, export, job, lines=rewritten.lines)
    return None


def rewrite_file(path: Path, erased: set[str]) -> Rewritten:
    """Write a file again without the personal data of these objects and of what belongs to them: whoever
    reads it sees the old file or all of the new one. Raises OSError, SettingError, NotAnExport."""
    with path.open("rb") as source:
        every = find_erased(source, erased)
        with open_new_file(path, overwrite=True) as (target, partial):
            lines = rewrite(source, target, every)
            target.flush()
            size_bytes = partial.stat().st_size
            with partial.open("rb") as written:
                digest = file_digest(written, "sha256").digest()
    return Rewritten(lines, size_bytes, digest)


async def list_not_reached(conn: Conn, job: str) -> list[str]:
    """The exports that an erasure could not write again, each as a line for its certificate. Raises
    psycopg.Error."""
    rows = await fetch_all(conn, _OBSTACLES, {"job": job})
    return [_describe(ClearExport(*columns), obstacle) for obstacle, *columns in rows]


async def list_exports(conn: Conn) -> list[ClearExport]:
    """All exports in the clear that are not known to be removed. Raises psycopg.Error."""
    return [ClearExport(*row) for row in await fetch_all(conn, _LIST)]


async def find_exports(conn: Conn, *, number: int | None, digest: bytes | None) -> list[ClearExport]:
    """The exports with this number, or those with this digest, now or when they were made. Raises
    psycopg.Error."""
    return [ClearExport(*row) for row in await fetch_all(conn, _ONE, {"number": number, "digest": digest})]


async def list_erasures_since(conn: Conn, export: ClearExport) -> list[tuple[str, bool]]:
    """The jobs that were run after an export was made, and whether its file was written again for each.
    Raises psycopg.Error."""
    return [(row[0], row[1]) for row in await fetch_all(conn, _JOBS_SINCE, {"export": export.id})]


async def forget_export(conn: Conn, number: int) -> None:
    """Record that an export, and every copy of it, was removed. Raises InvalidState for an unknown one."""
    if (await conn.execute(_REMOVE, {"export": number})).rowcount == 0:
        raise InvalidState(f"There is no export {number} in the clear.")


async def read_epoch(conn: Conn) -> int:
    """How many erasures there were: it grows with each request. Raises psycopg.Error."""
    row = await fetch_one(conn, "SELECT epoch FROM ledger.erasure_epoch")
    assert row is not None, "the migration inserts the row"
    return int(row[0])


async def _record(
    conn: Conn, export: ClearExport, job: str, *, lines: int = 0, obstacle: str | None = None
) -> None:
    await conn.execute(_RECORD, {"export": export.id, "job": job, "lines": lines, "obstacle": obstacle})


def _find_obstacle(export: ClearExport) -> str | None:
    if export.path is None:
        return STANDARD_OUTPUT
    return None if export.host == socket.gethostname() else ON_ANOTHER_HOST


def _describe(export: ClearExport, obstacle: str) -> str:
    place = f"{export.host}:{export.path}" if export.path is not None else f"from {export.host}"
    return f"export {export.id} in the clear, {place}, SHA-256 {export.digest.hex()}: {obstacle}"
