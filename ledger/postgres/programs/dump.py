"""Dumps of a database: files of pg_dump's custom format, complete or not there at all, for their owner alone.

There are two, of one snapshot: the keys of personal data are in a file of their own, so that it can be
deleted long before the other one. Each is read back whole before it gets its name, so what its disk has lost
is found while the database is still there.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import psycopg

from ledger.errors import SettingError
from ledger.postgres.cluster import find_reason
from ledger.postgres.connections import first_line
from ledger.postgres.private_files import open_new_file
from ledger.postgres.programs.client import (
    connect,
    describe_connection,
    describe_server,
    find_newest_program,
    find_program,
)

REBUILDABLE = (
    "--exclude-table=projections.*_g[0-9]*",
    "--exclude-table-data=projections.(checkpoints|live|parked|rebuilds|builds|shares|verified)",
)
"""What can be rebuilt from the log. Without both, a later rebuild finds a table of its name."""
KEY_TABLES = ("data_keys", "stream_keys", "remnants", "key_migration")
"""The tables of the schema `ledger` that are in the file of the keys alone."""
COPIED_TABLES = ("erasure_epoch", "service_key", "service_keys", "service_secrets")
"""Those that are in both files: what the service key wraps, and how many erasures the keys know of."""
_FACT_TABLES = ("activations", "alembic_version", "served")
_POLL_SECONDS = 0.2

# An erasure that destroys keys while the log is dumped waits: else the file of the keys would have them
# destroyed, and from its snapshot, that of before, lack what stays of the person's events.
_KEEP_KEYS = "LOCK TABLE ledger.data_keys IN ACCESS SHARE MODE"
_EXPORT_SNAPSHOT = "SELECT pg_export_snapshot(), (SELECT position FROM ledger.head)"

ShowBytes = Callable[[int], None]
"""Is called again and again with the size of the file so far."""


class Dump(NamedTuple):
    """A dump that was written: the sizes of its two files, and the last position of the log in it."""

    size_bytes: int
    keys_size_bytes: int
    position: int


def write_dump(
    dsn: str, path: Path, keys_path: Path, *, log_only: bool, overwrite: bool, show_bytes: ShowBytes
) -> Dump:
    """Dump the database into the file `path`, and the keys of personal data into `keys_path`. Both are there
    as a whole or not at all, with mode 0600.

    log_only   leave out what can be rebuilt from the log
    overwrite  replace files of these names

    Raises SettingError, also for a file that exists.
    """
    # Closed without a rollback, which would fail aloud where the server is lost.
    with (
        open_new_file(path, overwrite=overwrite) as (_, partial),
        open_new_file(keys_path, overwrite=overwrite) as (_, partial_keys),
        closing(connect(dsn)) as conn,
    ):
        server = describe_server(conn)
        pg_dump, pg_restore = find_program("pg_dump", server), find_newest_program("pg_restore")
        snapshot, position = _export_snapshot(conn)
        connection = describe_connection(dsn)
        without_keys = f"--exclude-table-data=ledger.{_match_tables(KEY_TABLES)}"
        keys = f"--table=ledger.{_match_tables((*KEY_TABLES, *COPIED_TABLES, *_FACT_TABLES))}"
        for file, selection in (
            (partial, (without_keys, *(REBUILDABLE if log_only else ()))),
            (partial_keys, ("--data-only", "--load-via-partition-root", keys)),
        ):
            # Not to standard output: then the file has its table of contents twice, the second one at the
            # end, and what is cut off there is missed by nobody.
            command = [pg_dump, "--format=custom", f"--file={file}", f"--snapshot={snapshot}", *selection]
            _run([*command, *connection.arguments], file, connection.environment, show_bytes)
            _read_back(pg_restore, file)
    return Dump(path.stat().st_size, keys_path.stat().st_size, position)


def _match_tables(names: Sequence[str]) -> str:
    """A pattern of pg_dump for these tables and their partitions."""
    return f"({'|'.join(f'{name}|{name}_[0-9]*' for name in names)})"


def _export_snapshot(conn: psycopg.Connection) -> tuple[str, int]:
    """The name of the snapshot that lasts while this connection's transaction does, and the log's head in
    it. Raises SettingError for a database that is not a ledger's."""
    try:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        try:
            conn.execute(_KEEP_KEYS)
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            conn.rollback()  # of a release that has no such keys, or of none
        row = conn.execute(_EXPORT_SNAPSHOT).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise SettingError("the database is not migrated: there is nothing to back up") from None
    except psycopg.OperationalError as error:
        raise SettingError(f"the database cannot be dumped: {first_line(error)}") from None
    except psycopg.Error as error:
        raise SettingError(
            f"the database user cannot dump the database ({first_line(error)}): use the owner's, as for "
            "`ledger migrate`"
        ) from None
    assert row is not None
    return row[0], row[1]


def _run(
    command: Sequence[str | Path], file: Path, environment: dict[str, str], show_bytes: ShowBytes
) -> None:
    """Run pg_dump, which writes `file`. Raises SettingError with its reason."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(command, stderr=errors, env=environment) as process,
    ):
        try:
            while process.poll() is None:
                show_bytes(file.stat().st_size)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_SECONDS)
        finally:
            process.kill()  # only has an effect if this process is interrupted
        errors.seek(0)
        if process.returncode != 0:
            raise SettingError(f"the database cannot be dumped: {explain(errors.read())}")


def _read_back(pg_restore: Path, path: Path) -> None:
    completed = subprocess.run(
        [pg_restore, f"--file={os.devnull}", path], stderr=subprocess.PIPE, check=False
    )
    if completed.returncode != 0:
        reason = explain(completed.stderr.decode(errors="replace"))
        raise SettingError(f"the dump cannot be read back: {reason}")


def explain(output: str) -> str:
    """The one line of a program's output that names the reason why it failed, and what helps."""
    reason = find_reason(output)
    if "permission denied" in reason or "may lack" in reason:
        reason += ": use the user who owns the database, as for `ledger migrate`"
    return reason
