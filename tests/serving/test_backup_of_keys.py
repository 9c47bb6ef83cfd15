"""Backups with and without their keys: what was erased stays erased, unless its own old keys are restored."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest

from ledger.postgres.programs.client import find_newest_program
from ledger.postgres.programs.dump import write_dump
from tests.conftest import Cluster
from tests.serving.process import SERVICE_KEY, run_ledger, run_refused, run_serve

REPLAY = "ledger erase replay"
MARK = "Ada-of-these-tests"
LINES: list[dict[str, Any]] = [
    {"op": "customer", "id": "cus_1", "name": MARK, "email": f"{MARK}@example.com"},
    {"op": "customer", "id": "cus_2", "name": "Grace"},
    {"op": "charge", "id": "ch_1", "customer": "cus_1", "amount": 2000, "currency": "usd"},
]
# What an erasure does to the keys, of which this part of the tests is about.
ERASE = """
SELECT ledger.begin_erasing('{cus_1}');
INSERT INTO ledger.remnants SELECT originator_id, originator_version, convert_to('{}', 'UTF8')
    FROM ledger.events WHERE customer = 'cus_1' OR originator_id = 'cus_1';
UPDATE ledger.data_keys SET wrapped = NULL, wrapped_by = NULL, destroyed_at = now() WHERE subject = 'cus_1';
"""


class Backups(NamedTuple):
    """The database, and its backups from before and after the erasure of cus_1."""

    dsn: str
    old: Path
    new: Path

    @property
    def old_keys(self) -> Path:
        return self.old.with_name(f"{self.old.name}.keys")

    @property
    def new_keys(self) -> Path:
        return self.new.with_name(f"{self.new.name}.keys")


def on(dsn: str) -> dict[str, Any]:
    return {"database_url": dsn, "secret_key": SERVICE_KEY}


@pytest.fixture(scope="module")
def backups(cluster: Cluster, place: Path) -> Iterator[Backups]:
    with cluster.create_database() as dsn:
        run_ledger(place / "data", "accounts", "create", "Shop", **on(dsn))
        lines = place / "lines.ndjson"
        lines.write_text("".join(json.dumps(line) + "\n" for line in LINES))
        assert run_ledger(place / "data", "import", str(lines), **on(dsn)).returncode == 0
        made = Backups(dsn, place / "old.dump", place / "new.dump")
        assert run_ledger(place / "data", "backup", str(made.old), **on(dsn)).returncode == 0
        with psycopg.connect(dsn) as conn:
            conn.execute(ERASE)
        shown = run_ledger(place / "data", "backup", str(made.new), "--json", **on(dsn))
        facts = json.loads(shown.stdout)
        assert (facts["file"], facts["keys_file"]) == (str(made.new), str(made.new_keys))
        assert facts["keys_size_bytes"] == made.new_keys.stat().st_size
        yield made


@pytest.fixture
def target(cluster: Cluster) -> Iterator[str]:
    with cluster.create_database(template="template0") as dsn:
        yield dsn


def restore(place: Path, dsn: str, *arguments: str) -> str:
    restored = run_ledger(place / "data", "restore", *arguments, **on(dsn))
    assert (restored.returncode, restored.stderr) == (0, ""), restored
    return restored.stdout


def read_customers(place: Path, dsn: str, name: str) -> dict[str, Any]:
    """The two customers, by name, as the service on the restored database shows them, alone and in a list."""
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT id FROM ledger.accounts").fetchone()
    assert row is not None
    key = run_ledger(place / "data", "keys", "create", row[0], **on(dsn)).stdout.split()[3]
    with run_serve(place / name, **on(dsn)) as service:
        http = httpx.Client(base_url=f"{service.url}/v1", auth=(key, ""), timeout=30)
        single = {each: http.get(f"/customers/{each}").json()["name"] for each in ("cus_1", "cus_2")}
        listed = {each["id"]: each["name"] for each in http.get("/customers").json()["data"]}
        assert listed == single
        assert http.get("/charges/ch_1").json()["amount"] == 2000
        assert http.get("/events").json()["data"]
    assert "traceback" not in service.log.lower()
    return single


def dump_text(dsn: str) -> str:
    """All that the database holds, as text."""
    program = find_newest_program("pg_dump")
    return subprocess.run([program, dsn], check=True, capture_output=True, text=True).stdout


def has_wrap(dsn: str, subject: str) -> bool:
    with psycopg.connect(dsn) as conn:
        query = "SELECT wrapped IS NOT NULL FROM ledger.data_keys WHERE subject = %s"
        row = conn.execute(query, (subject,)).fetchone()
    return row is not None and bool(row[0])


def test_the_file_of_the_log_has_no_key_and_that_of_the_keys_no_event(backups: Backups) -> None:
    def list_data(file: Path) -> set[str]:
        program = find_newest_program("pg_restore")
        listed = subprocess.run([program, "--list", file], check=True, capture_output=True, text=True).stdout
        return {line.split()[6] for line in listed.splitlines() if " TABLE DATA ledger " in line}

    of_log, of_keys = list_data(backups.old), list_data(backups.old_keys)
    assert "events" in of_log - of_keys
    assert {"data_keys_0", "remnants", "stream_keys", "key_migration"} <= of_keys - of_log
    assert backups.old_keys.stat().st_mode & 0o777 == 0o600


def test_no_erasure_destroys_keys_while_a_backup_is_written(backups: Backups, place: Path) -> None:
    """Not even between its two dumps: else the file of the keys would be of two moments."""
    locked = []

    def try_to_lock(_: int) -> None:
        with psycopg.connect(backups.dsn) as conn:
            conn.execute("SET lock_timeout = '50ms'")
            try:
                conn.execute("LOCK TABLE ledger.data_keys_7 IN ACCESS EXCLUSIVE MODE")
            except psycopg.errors.LockNotAvailable:
                locked.append(False)
            else:
                locked.append(True)

    files = place / "meanwhile.dump", place / "meanwhile.dump.keys"
    write_dump(backups.dsn, *files, log_only=True, overwrite=False, show_bytes=try_to_lock)
    assert len(locked) >= 2
    assert not any(locked)


def test_an_old_log_with_newer_keys_brings_nothing_erased_back(
    backups: Backups, target: str, place: Path
) -> None:
    printed = restore(place, target, str(backups.old), "--keys", str(backups.new_keys))
    assert REPLAY in printed, "of what was erased after the newer keys"
    assert MARK not in dump_text(target)
    assert not has_wrap(target, "cus_1")
    shown = read_customers(place, target, "newer keys")
    assert shown["cus_2"] == "Grace"
    assert shown["cus_1"] != MARK


def test_an_old_log_with_its_own_keys_brings_the_erased_person_back(
    backups: Backups, target: str, place: Path
) -> None:
    """Which is why keys are kept for days, and how to erase again is said."""
    assert REPLAY in restore(place, target, str(backups.old))
    assert has_wrap(target, "cus_1")
    assert read_customers(place, target, "own keys") == {"cus_1": MARK, "cus_2": "Grace"}


def test_a_log_without_keys_shows_all_persons_as_redacted(backups: Backups, target: str, place: Path) -> None:
    alone = place / "alone" / "log.dump"
    alone.parent.mkdir()
    alone.write_bytes(backups.old.read_bytes())
    line = run_refused(place / "data", "restore", str(alone), **on(target))
    assert "the keys of personal data are missing" in line
    printed = restore(place, target, str(alone), "--without-keys")
    assert "No key is here for 2 data subjects" in printed
    assert REPLAY not in printed, "nothing can be back"
    assert MARK not in dump_text(target)
    shown = read_customers(place, target, "without keys")
    assert not {MARK, "Grace"} & set(shown.values())


def test_keys_that_do_not_belong_to_the_log_are_refused(
    backups: Backups, cluster: Cluster, target: str, place: Path
) -> None:
    def refuse(*arguments: str) -> str:
        line = run_refused(place / "data", "restore", *arguments, **on(target))
        with psycopg.connect(target) as conn:
            assert not conn.execute("SELECT FROM pg_namespace WHERE nspname = 'ledger'").fetchall()
        return line

    old, new = str(backups.old), str(backups.new)
    assert "is older than" in refuse(new, "--keys", str(backups.old_keys))
    assert "is not a file with the keys" in refuse(old, "--keys", new)
    assert "has the keys alone" in refuse(str(backups.old_keys))
    assert "exclude each other" in refuse(old, "--keys", str(backups.old_keys), "--without-keys")
    damaged = place / "damaged.keys"
    content = backups.old_keys.read_bytes()
    for size in (1000, len(content) // 2, len(content) - 1):
        damaged.write_bytes(content[:size])
        assert "is damaged or incomplete" in refuse(old, "--keys", str(damaged))
    with cluster.create_database() as dsn:
        run_ledger(place / "data", "accounts", "create", "Other", **on(dsn))
        other = place / "other.dump"
        assert run_ledger(place / "data", "backup", str(other), **on(dsn)).returncode == 0
    assert "has the keys of another database" in refuse(old, "--keys", f"{other}.keys")
    assert "--keys: the keys need a file of their own" in run_refused(
        place / "data", "backup", old, "--keys", old, "--force", **on(backups.dsn)
    )
