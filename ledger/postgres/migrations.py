"""Migrate the database schema, and check that this release can work with the schema it finds.

A release needs its own schema version, or a later one whose migrations have removed nothing that the
release uses: the table `ledger.served` names the oldest release that the schema still supports. So all
processes of a release keep working while the next release migrates. Synchronous, for it runs before a process
starts its event loop; but for the questions whether all releases that may run can read a form of stored data.
"""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from ledger.errors import SettingError
from ledger.postgres.connections import Conn, fetch_one, first_line
from ledger.postgres.sessions import CONNECT_TIMEOUT_SECONDS, ReplicationWarnings

# In the package when it was installed from a wheel (setup.py), beside the package in a checkout.
_PACKAGED = Path(__file__).resolve().parents[1] / "migrations"
MIGRATIONS = _PACKAGED if _PACKAGED.is_dir() else _PACKAGED.parents[1] / "alembic"
SERVER_VERSION_MIN = 150000
# A migration stops waiting for a lock after two seconds (its lock_timeout), so that it delays nobody longer.
MIGRATE_ATTEMPTS_MAX = 5
MIGRATE_PAUSE_SECONDS = 1.0

COMPRESSED_SINCE = "0020"
"""The schema version of the first release that reads compressed documents."""

REPLIES_AS_BYTES_SINCE = "0021"
"""The schema version of the first release that reads replies in the column `compressed`."""

SEALED_BY_SUBJECT_SINCE = "0039"
"""The schema version of the first release that reads events sealed under the keys of their subjects."""

_LOCK_MIGRATIONS = "SELECT pg_advisory_lock(hashtext('ledger.migrate'))"
_SELECT_SCHEMA_VERSION = "SELECT version_num FROM ledger.alembic_version"
_END_SUPPORT = "UPDATE ledger.served SET oldest = %(release)s WHERE oldest < %(release)s"
_DROP_SUPERSEDED = "SELECT DISTINCT superseded FROM projections.drop_superseded() AS superseded ORDER BY 1"
_SELECT_OLDEST_SUPPORTED_RELEASE = "SELECT oldest FROM ledger.served"
# ledger.oldest_snapshots runs with the rights of its owner.
_SELECT_BLIND_OWNER = """
SELECT proowner::regrole::text FROM pg_proc
WHERE oid = to_regproc('ledger.oldest_snapshots') AND NOT pg_has_role(proowner, 'pg_read_all_stats', 'USAGE')
"""


def migrate(dsn: str) -> None:
    """Upgrade the schema to this release's version. Does not change a later schema that supports this
    release.

    Raises SettingError when the database cannot be used, its log is damaged, or the schema no longer supports
    this release.
    """
    with _connect_checked(dsn) as conn:
        if _supports_this_release(conn):
            return
        conn.execute(_LOCK_MIGRATIONS)
        try:
            conn.execute("CREATE SCHEMA IF NOT EXISTS ledger")
            conn.commit()
            _upgrade_with_retries(dsn)
        except psycopg.errors.InsufficientPrivilege as error:
            raise SettingError(
                f"the database user lacks the rights to migrate ({first_line(error)}): "
                "it needs CREATE on the database and CREATEROLE"
            ) from None
        except psycopg.errors.RaiseException as error:
            raise SettingError(f"the schema was not changed: {first_line(error)}") from None


def end_support(dsn: str) -> list[str]:
    """Let no release before this one start on the migrated database any more, and drop what only those use.

    Returns the projections that still need it: their rows were written before. Raises SettingError when other
    transactions hold locks on it.
    """
    with _connect_checked(dsn) as conn:
        conn.execute(_END_SUPPORT, {"release": release_version()})
        conn.commit()
        try:
            return [row[0] for row in conn.execute(_DROP_SUPERSEDED)]
        except psycopg.errors.LockNotAvailable as error:
            raise SettingError(
                f"older releases do not start any more, but what only they use was not dropped because other "
                f"transactions hold locks ({first_line(error)}): run `ledger migrate --contract` again"
            ) from None


def find_blind_owner(dsn: str) -> str | None:
    """The owner of the migrated schema, if he may not see for how long sessions of other users are open:
    `ledger_oldest_snapshot_seconds` leaves those out then. Raises SettingError."""
    with _connect_checked(dsn) as conn:
        row = conn.execute(_SELECT_BLIND_OWNER).fetchone()
    return row[0] if row else None


def check_schema(dsn: str) -> None:
    """Check that this release can work with the database as it is.

    Raises SettingError when the database is unreachable, too old, not migrated to this release, or migrated
    to a release that no longer supports this one.
    """
    with _connect_checked(dsn) as conn:
        if not _supports_this_release(conn):
            schema_version = _read_schema_version(conn)
            if schema_version is None:
                raise SettingError("the database is not migrated: run `ledger migrate`")
            raise SettingError(
                f"the database schema is at {schema_version}, this release needs {release_version()}: "
                "run `ledger migrate`"
            )


async def may_compress(conn: Conn) -> bool:
    """Whether every release that may run on this database reads compressed documents. Raises
    psycopg.Error."""
    return await _fetch_oldest(conn) >= COMPRESSED_SINCE


async def may_store_replies_as_bytes(conn: Conn) -> bool:
    """Whether every release that may run on this database reads replies in the column `compressed`. Raises
    psycopg.Error."""
    return await _fetch_oldest(conn) >= REPLIES_AS_BYTES_SINCE


async def may_seal_by_subject(conn: Conn) -> bool:
    """Whether every release that may run on this database reads events sealed under the keys of their
    subjects. Raises psycopg.Error."""
    return await _fetch_oldest(conn) >= SEALED_BY_SUBJECT_SINCE


def release_version() -> str:
    """The schema version that this release needs, for example `0010`: that of its last migration."""
    return max(path.name for path in MIGRATIONS.glob("versions/[0-9]*.py")).partition("_")[0]


def _connect_checked(dsn: str) -> psycopg.Connection[TupleRow]:
    try:
        conn = psycopg.connect(
            dsn, connect_timeout=CONNECT_TIMEOUT_SECONDS, application_name="ledger migrate"
        )
    except psycopg.ProgrammingError:
        raise SettingError("LEDGER_DATABASE_URL: not a Postgres connection string") from None
    except psycopg.OperationalError as error:
        raise SettingError(
            f"LEDGER_DATABASE_URL: the database cannot be reached: {first_line(error)}"
        ) from None
    if conn.info.server_version < SERVER_VERSION_MIN:
        version = conn.info.server_version // 10000
        conn.close()
        raise SettingError(f"LEDGER_DATABASE_URL: Postgres {version} is too old, 15 or newer is needed")
    encoding = conn.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        conn.close()
        raise SettingError(f"LEDGER_DATABASE_URL: the database is encoded in {encoding}, UTF8 is needed")
    return conn


def _read_schema_version(conn: psycopg.Connection[TupleRow]) -> str | None:
    """The schema's version; None when the database is not migrated at all."""
    try:
        row = conn.execute(_SELECT_SCHEMA_VERSION).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        conn.rollback()
        return None
    return row[0] if row else None


def _supports_this_release(conn: psycopg.Connection[TupleRow]) -> bool:
    """Whether the schema is at this release's version, or at a later one that still supports this release.

    Raises SettingError for a later schema that does not support this release any more.
    """
    schema_version, own_version = _read_schema_version(conn), release_version()
    if schema_version is None or schema_version <= own_version:
        return schema_version == own_version
    row = conn.execute(_SELECT_OLDEST_SUPPORTED_RELEASE).fetchone()
    oldest_supported_release = row[0] if row else schema_version
    if own_version < oldest_supported_release:
        raise SettingError(
            f"the database schema is at {schema_version} and supports releases from "
            f"{oldest_supported_release} on; this release is {own_version}: run a newer release"
        )
    return True


def _upgrade_with_retries(dsn: str) -> None:
    """Retry while other transactions hold locks on what a migration changes; a failed attempt changes
    nothing."""
    for attempt in range(MIGRATE_ATTEMPTS_MAX):
        if attempt:
            time.sleep(MIGRATE_PAUSE_SECONDS)
        try:
            _upgrade(dsn)
        except psycopg.errors.LockNotAvailable as error:
            reason = first_line(error)
        else:
            return
    raise SettingError(
        f"the schema was not changed because other transactions hold locks ({reason}): look for long "
        "transactions in pg_stat_activity, then run `ledger migrate` again"
    )


def _upgrade(dsn: str) -> None:
    # These imports take half of a start's time, and most starts find nothing to migrate.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    warnings = ReplicationWarnings()

    def connect() -> psycopg.Connection[TupleRow]:
        conn = psycopg.connect(dsn)
        conn.add_notice_handler(warnings.add)
        return conn

    engine = create_engine("postgresql+psycopg://", poolclass=NullPool, creator=connect)
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    except DBAPIError as error:
        raise error.orig or error from error
    finally:
        engine.dispose()
    if warnings.not_replicated:
        raise SettingError(
            "the schema was changed, but a wait for standbys was ended, and perhaps none has it: run "
            "`ledger migrate` again once they are back"
        )


async def _fetch_oldest(conn: Conn) -> str:
    row = await fetch_one(conn, _SELECT_OLDEST_SUPPORTED_RELEASE)
    return row[0] if row is not None else ""
