"""Restores dumps, each in one transaction: it fails as a whole, and the database is as empty as before.

What belongs to the roles of the service in the dump belongs to them afterwards; all else belongs to the user
who restores it, whoever owned it before. Not by pg_restore alone: it stops at the first role that the server
does not have, it gives tables away before their new owner may own any, and from release 17 on it begins with
a setting that older servers do not know.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from ledger.errors import SettingError
from ledger.postgres.cluster import find_reason
from ledger.postgres.migrations import release_version
from ledger.postgres.programs.client import (
    connect,
    describe_connection,
    describe_server,
    find_newest_program,
    find_program,
)
from ledger.postgres.sessions import ROLES

_MAGIC = b"PGDMP"
_FACTS = ("activations", "alembic_version", "erasure_epoch", "served", "service_key", "service_keys")
_IDENTITY = ("at", "database_oid", "system_identifier")
_DEFINES_TABLES = " TABLE ledger events "
_DATA_OF_KEYS = " TABLE DATA ledger data_keys_"
_COPIED = re.compile(r"^COPY ledger\.(\w+) \(([^)]*)\) FROM stdin;\n(.*?)^\\\.$", re.MULTILINE | re.DOTALL)
_OWNER = re.compile(r'^ALTER .* OWNER TO ("?)(.+)\1;$')
_GRANT = re.compile(r'^(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES) .* (?:TO|FROM) ("?)(.+)\1(?: WITH .*)?;$')
_FOR_OWNER = re.compile(r"^(ALTER DEFAULT PRIVILEGES) FOR ROLE (?!ledger_)\S+ ")
_OF_LEDGER = re.compile(r"^ledger_\w+$")
_UNKNOWN_TO_OLDER_SERVERS = "SET transaction_timeout = 0;"

_SELECT_ANYTHING = """
SELECT n.nspname FROM pg_namespace n
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    AND (n.nspname <> 'public' OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid))
LIMIT 1
"""
_DROP_SCHEMAS = """
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT n.nspname FROM pg_namespace n
        WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'public')
    LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
END $$;
"""
_SELECT_ROLES = "SELECT rolname FROM pg_roles"
_CREATE_ROLE = """
DO $$ BEGIN CREATE ROLE {0} NOLOGIN; {1} EXCEPTION WHEN duplicate_object THEN NULL; END $$;
"""
_JOIN_ROLE = """
DO $$ BEGIN
    EXECUTE format('GRANT {0} TO %I', current_user);
EXCEPTION WHEN unique_violation OR invalid_grant_operation {1} THEN NULL;
END $$;
"""
# As the migrations made them: no dump of a database has the settings of a role.
_ROLE_SETTINGS = {
    "ledger_analyst": (
        "default_transaction_read_only = on",
        "timezone = 'UTC'",
        "statement_timeout = '5min'",
        "idle_in_transaction_session_timeout = '1min'",
    )
}


class DumpFacts(NamedTuple):
    """What a dump says about the database that it is of.

    schema_version  of the release that migrated it last
    oldest_release  the oldest release that may run on it
    check_value     of its first service key, of releases before 0040; None if no process with a key started
    service_keys    its service keys: id → state, as in ledger.service_keys
    identity        of the database that it was made of, and of that one's first start; None before that
    erasures        how many erasures its keys know of; None before there were any keys of persons
    has_log         whether it has the log; a file of the keys does not
    has_keys        whether it has the keys of personal data
    """

    schema_version: str
    oldest_release: str
    check_value: bytes | None
    service_keys: Mapping[str, str]
    identity: tuple[str, ...] | None
    erasures: int | None
    has_log: bool
    has_keys: bool


def read_facts(path: Path) -> DumpFacts:
    """What the dump says about its database. Raises SettingError for a file that is no dump of a ledger, and
    for one of a later release that does not support this one."""
    _check_file(path)
    selection = ["--data-only", "--schema=ledger", *(f"--table={name}" for name in _FACTS)]
    pg_restore = find_newest_program("pg_restore")
    script = read_script(pg_restore, path, *selection)
    tables = {name: _read_rows(columns, text) for name, columns, text in _COPIED.findall(script)}
    if not tables.get("alembic_version"):
        raise SettingError(f"{path} is a dump of another database than a ledger's")
    schema_version = tables["alembic_version"][0]["version_num"]
    oldest = next((row["oldest"] for row in tables.get("served", ())), schema_version)
    if schema_version > release_version() < oldest:
        raise SettingError(
            f"{path} has schema {schema_version}, which supports releases from {oldest} on; this release is "
            f"{release_version()}: use a newer one"
        )
    key_rows = tables.get("service_key")
    try:
        check_value = bytes.fromhex(key_rows[0]["check_value"].removeprefix("\\\\x")) if key_rows else None
    except ValueError:
        raise damaged_error(path, "its check value of the service key is none") from None
    contents = read_script(pg_restore, path, "--list")
    starts = sorted(tables.get("activations", ()), key=lambda row: int(row["id"]))
    epochs = tables.get("erasure_epoch")
    return DumpFacts(
        schema_version,
        oldest,
        check_value,
        {row["id"]: row["state"] for row in tables.get("service_keys", ())},
        tuple(starts[0][name] for name in _IDENTITY) if starts else None,
        int(epochs[0]["epoch"]) if epochs else None,
        has_log=_DEFINES_TABLES in contents,
        has_keys=_DATA_OF_KEYS in contents,
    )


def _read_rows(columns: str, text: str) -> list[dict[str, str]]:
    """The rows of a COPY, each by the names of its columns."""
    return [dict(zip(columns.split(", "), line.split("\t"), strict=False)) for line in text.splitlines()]


def check_whole(path: Path) -> None:
    """Read the whole dump. Raises SettingError for a damaged one."""
    with Path(os.devnull).open("wb") as sink:
        copy_data(find_newest_program("pg_restore"), path, sink)


def check_empty(dsn: str) -> None:
    """Raises SettingError for a database that has something in it."""
    with connect(dsn) as conn:
        row = conn.execute(_SELECT_ANYTHING).fetchone()
        if row is not None:
            raise SettingError(
                f"the database is not empty (it has the schema {row[0]}): nothing was restored. Restore "
                "into a new one (CREATE DATABASE)"
            )


def empty_again(dsn: str) -> None:
    """Drop all that was restored into a database that `check_empty` had found empty."""
    with connect(dsn) as conn:
        conn.execute(_DROP_SCHEMAS)


def restore_dump(dsn: str, path: Path) -> list[str]:
    """Restore the dump into the empty database, with the roles of the service. Returns the roles to which
    the dump gave rights and which the server does not have: they get none.

    Raises SettingError; then the database is empty as before.
    """
    with connect(dsn) as conn:
        server = describe_server(conn)
        roles = {row[0] for row in conn.execute(_SELECT_ROLES)}
    pg_restore, psql = find_newest_program("pg_restore"), find_program("psql", server)
    before, after = (
        _Definitions(read_script(pg_restore, path, f"--section={section}"), roles)
        for section in ("pre-data", "post-data")
    )
    with run_psql(psql, dsn) as script:
        script.write(b"BEGIN;\n")
        for role in sorted(before.created_roles | after.created_roles):
            settings = "".join(f"ALTER ROLE {role} SET {text};" for text in _ROLE_SETTINGS.get(role, ()))
            script.write(_CREATE_ROLE.format(role, settings).encode())
            if role in ROLES:
                script.write(_JOIN_ROLE.format(role, "").encode())
            elif role in _ROLE_SETTINGS:  # nothing but `ledger psql --role` needs it
                script.write(_JOIN_ROLE.format(role, "OR insufficient_privilege").encode())
        script.write(before.text.encode())
        copy_data(pg_restore, path, script)
        script.write(after.text.encode())
        # Last: a new owner needs rights that the script grants.
        script.write("\n".join([*before.owners, *after.owners, "ANALYZE;", "COMMIT;", ""]).encode())
    return sorted(before.missing_roles | after.missing_roles)


class _Definitions:
    """A script of definitions, taken apart.

    text           what needs no owner or role that is missing
    owners         the statements that give something to a role of the service
    created_roles  the roles of the service
    missing_roles  other roles that the server does not have
    """

    def __init__(self, script: str, known_roles: set[str]) -> None:
        self.owners: list[str] = []
        self.created_roles: set[str] = set()
        self.missing_roles: set[str] = set()
        lines = [_FOR_OWNER.sub(r"\1 ", line) for line in script.split("\n")]
        self.text = "\n".join(line for line in lines if self._keep(line, known_roles))

    def _keep(self, line: str, known_roles: set[str]) -> bool:
        if line == _UNKNOWN_TO_OLDER_SERVERS:
            return False
        owner = _OWNER.match(line)
        if owner is not None:
            if _OF_LEDGER.match(owner[2]):
                self.created_roles.add(owner[2])
                self.owners.append(line)
            return False
        grant = _GRANT.match(line)
        if grant is None or grant[2] == "PUBLIC":
            return True
        if _OF_LEDGER.match(grant[2]):
            self.created_roles.add(grant[2])
            return True
        if grant[2] not in known_roles:
            self.missing_roles.add(grant[2])
        return grant[2] in known_roles


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}") from None
    if magic != _MAGIC:
        raise SettingError(f"{path} is not a backup: it is not a file of pg_dump's custom format")


def read_script(pg_restore: Path, path: Path, *options: str) -> str:
    """What pg_restore prints of a dump: a script, or with `--list` its contents. Raises SettingError."""
    completed = subprocess.run([pg_restore, "--file=-", *options, path], capture_output=True, check=False)
    if completed.returncode != 0:
        raise damaged_error(path, completed.stderr.decode(errors="replace"))
    try:
        return completed.stdout.decode()
    except UnicodeDecodeError:
        raise damaged_error(path, "its definitions are not UTF-8") from None


def damaged_error(path: Path, output: str) -> SettingError:
    """The error for a dump of which pg_restore has printed this."""
    if "unsupported version" in output:
        return SettingError(f"{path} is of a newer pg_dump than pg_restore here: {find_reason(output)}")
    return SettingError(f"{path} is damaged or incomplete: {find_reason(output)}")


def copy_data(pg_restore: Path, path: Path, script: IO[bytes], *options: str) -> None:
    """Write the part of the script that has the rows. Raises SettingError for a damaged file."""
    command: list[str | Path] = [pg_restore, "--file=-", "--section=data", *options, path]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            for line in process.stdout:  # up to the first table: what follows is not looked at
                if line.rstrip() != _UNKNOWN_TO_OLDER_SERVERS.encode():
                    script.write(line)
                if line.startswith(b"COPY "):
                    break
            shutil.copyfileobj(process.stdout, script, 1 << 20)
        if process.returncode != 0:
            errors.seek(0)
            raise damaged_error(path, errors.read())


@contextmanager
def run_psql(psql: Path, dsn: str) -> Iterator[IO[bytes]]:
    """The standard input of psql. If the block ends by an error, psql does not commit. Raises SettingError
    with the reason for which it failed."""
    connection = describe_connection(dsn)
    options = ["--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1"]
    command: list[str | Path] = [psql, *options, *connection.arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors, env=connection.environment)
        assert process.stdin is not None
        try:
            yield process.stdin
            process.stdin.close()
        except BrokenPipeError:
            pass  # psql has ended, and says why
        except BaseException:
            process.kill()  # its connection ends without a commit
            raise
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
        errors.seek(0)
        output = errors.read()
    if process.returncode != 0:
        raise SettingError(f"the dump cannot be restored, and nothing was: {find_reason(output)}")
