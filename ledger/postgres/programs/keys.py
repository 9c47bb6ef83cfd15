"""Restores the file of the keys over a database that was restored from a log of the same lineage.

The keys decide what can be read. They may be newer than the log: then what was erased after the log was
dumped stays erased, although its sealed bytes are back. And a person whose key is in no file given is as one
that was erased: what is sealed for them can be read by nobody.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ledger.postgres.programs.client import connect, describe_server, find_newest_program, find_program
from ledger.postgres.programs.dump import COPIED_TABLES, KEY_TABLES
from ledger.postgres.programs.restore import copy_data, read_script, run_psql

_DATA_ENTRY = re.compile(r" TABLE DATA ledger (\w+) ")
_PARTITION = re.compile(r"_\d+$")
_OF_KEYS = re.compile(rf"(?:{'|'.join((*KEY_TABLES, *COPIED_TABLES))})(?:_\d+)?")
# The log may be older than its keys, and go on from there: its next events are others than those were.
_FORGET_LATER_REMNANTS = """
DELETE FROM ledger.remnants r WHERE NOT EXISTS (
    SELECT FROM ledger.events e WHERE (e.originator_id, e.originator_version) = (r.stream, r.version));
"""
# As `ledger backup --log-only` leaves them out: rows that are sealed under keys which are gone since are made
# again.
_DROP_REBUILDABLE = """
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'projections' AND c.relkind IN ('r', 'p') AND c.relname ~ '_g[0-9]'
    LOOP
        EXECUTE format('DROP TABLE IF EXISTS projections.%I', name);
    END LOOP;
END $$;
DELETE FROM projections.parked; DELETE FROM projections.shares; DELETE FROM projections.builds;
DELETE FROM projections.rebuilds; DELETE FROM projections.verified; DELETE FROM projections.live;
DELETE FROM projections.checkpoints;
"""
# The subject stands before a colon, which Base64 does not have. One scan of the log each.
_SEALED = """
SELECT e.originator_id AS stream, e.customer, substring(
    convert_from(substr(e.state, position('"sealed":"'::bytea IN e.state) + 10, 300), 'LATIN1')
    FROM '^([^":]+):') AS subject
FROM ledger.events e WHERE position('"sealed":"'::bytea IN e.state) > 0
"""
_ERASE = "INSERT INTO ledger.data_keys (subject, erasing_since, destroyed_at)"
_MARK_UNREADABLE = f"""
{_ERASE}
SELECT subject, now(), now()
FROM (SELECT subject FROM ({_SEALED}) e UNION SELECT subject FROM ledger.stream_keys) s
WHERE subject IS NOT NULL ON CONFLICT DO NOTHING
"""  # noqa: S608 (constants)
# What earlier releases sealed names no subject, and could be opened again by the service key.
_MARK_OLD_STREAMS = f"""
INSERT INTO ledger.stream_keys (stream, subject)
SELECT stream, coalesce(max(customer), stream) FROM ({_SEALED}) s WHERE subject IS NULL GROUP BY stream
ON CONFLICT DO NOTHING
"""  # noqa: S608 (constants)
_UNFINISHED = "SELECT count(*) FROM ledger.data_keys WHERE erasing_since IS NOT NULL AND destroyed_at IS NULL"
# Before the epoch 1 no release has made a key that cannot be derived again, and nothing was erased.
_START_MIGRATION = "INSERT INTO ledger.key_migration SELECT ON CONFLICT DO NOTHING"
_FINISH_MIGRATION = """
UPDATE ledger.key_migration SET finished_at = coalesce(finished_at, now())
WHERE (SELECT epoch FROM ledger.erasure_epoch) > 0 RETURNING true
"""


class RestoredKeys(NamedTuple):
    """What the keys are of the restored database.

    unreadable  how many persons have data in the log and no key: it cannot be read
    unfinished  how many erasures the keys were taken in the middle of
    """

    unreadable: int
    unfinished: int


def restore_keys(dsn: str, path: Path) -> None:
    """Put the keys of the file in place of those that the migrated database has, in one transaction. Raises
    SettingError."""
    with connect(dsn) as conn:
        server = describe_server(conn)
    pg_restore, psql = find_newest_program("pg_restore"), find_program("psql", server)
    tables = [
        name
        for name in _DATA_ENTRY.findall(read_script(pg_restore, path, "--list"))
        if _OF_KEYS.fullmatch(name)
    ]
    with run_psql(psql, dsn) as script:
        script.write(b"BEGIN;\n")
        replaced = sorted({f"ledger.{_PARTITION.sub('', table)}" for table in tables})
        script.write(f"TRUNCATE {', '.join(replaced)};\n".encode())
        copy_data(pg_restore, path, script, *(f"--table={name}" for name in tables))
        script.write(_FORGET_LATER_REMNANTS.encode())
        script.write(b"COMMIT;\n")


def mark_unreadable(dsn: str, *, has_keys: bool, with_projections: bool) -> RestoredKeys:
    """Mark the persons without a key in the restored database as erased, in one transaction.

    has_keys          whether keys were restored; without any, none may be derived again either
    with_projections  False: an erasure lies between keys and log, so drop what can be rebuilt; so does this
                      function if a person has no key

    Raises SettingError.
    """
    with connect(dsn) as conn:
        if not has_keys:
            conn.execute(_START_MIGRATION)
            if conn.execute(_FINISH_MIGRATION).fetchone() is not None:
                conn.execute(_MARK_OLD_STREAMS)
        unreadable = conn.execute(_MARK_UNREADABLE).rowcount
        if unreadable or not with_projections:
            conn.execute(_DROP_REBUILDABLE)
        row = conn.execute(_UNFINISHED).fetchone()
        assert row is not None
        return RestoredKeys(unreadable, row[0])
