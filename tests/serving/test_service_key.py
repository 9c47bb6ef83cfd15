"""A process that has another service key than the data was made with does not start, and writes nothing."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger.config import load_settings
from ledger.errors import SettingError
from ledger.files.storage import FileStorage
from ledger.postgres.connections import Pool
from ledger.postgres.deployment import ConfiguredKeys
from ledger.service_key import check_service_key, derive_check_value
from projections.rebuild.processes import BackfillProcesses
from projections.rebuild.shards import BackfillFailed
from tests.serving.process import run_ledger, run_refused, run_serve
from tests.store.stores import KEY, create_customer, open_store

RIGHT_KEY = KEY.decode()
WRONG_KEY = RIGHT_KEY.replace("service", "another")
REFUSAL = "is not the key that the data of this database was made with"
COMMANDS = (
    ["serve"],
    ["api"],
    ["worker"],
    ["migrate"],
    ["import", "lines.ndjson"],
    ["accounts", "create", "Berlin"],
    ["accounts", "list"],
    ["keys", "list"],
    ["projections", "status"],
    ["projections", "verify"],
    ["projections", "retry", "customers", "cus_1"],
    ["projections", "rebuild", "customers"],
)

_COUNTS = """
SELECT (SELECT count(*) FROM ledger.events), (SELECT count(*) FROM ledger.accounts),
       (SELECT count(*) FROM projections.rebuilds), (SELECT count(*) FROM ledger.service_key)
"""
# What an event that seals nothing can look like: a caller named a member of its metadata `sealed`.
_INSERT_UNSEALED = """
INSERT INTO ledger.events (notification_id, originator_id, originator_version, topic, state, account,
                           livemode, recorded_at)
VALUES (1, 'cus_1', 1, 'customer.created', '{"metadata":{"sealed":"AAAA"}}', 'acct_1', false, now())
"""


def check(dsn: str, key: str) -> None:
    check_service_key(load_settings(database_url=dsn, secret_key=key), dsn, ConfiguredKeys(key.encode()))


def seal_as_before(dsn: str) -> None:
    """Let data be sealed as releases before data keys did, and read."""
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE ledger.erasure_epoch SET epoch = 0")
        conn.execute("UPDATE ledger.key_migration SET finished_at = NULL")


def append_customers(dsn: str, count: int, first: int = 0) -> None:
    """Append events with personal data, sealed with the right key by an earlier release."""
    seal_as_before(dsn)

    async def append() -> None:
        async with open_store(dsn) as store:
            for number in range(first, first + count):
                await store.journal.append(create_customer(f"cus_{number}"))

    asyncio.run(append())


def store_file(dsn: str) -> None:
    """Store the contents of a file, sealed with the right key by an earlier release."""
    seal_as_before(dsn)

    async def store() -> None:
        async with Pool(dsn) as pool:
            await FileStorage(pool, KEY).store_whole("file_1", None, b"abc")

    asyncio.run(store())


def append_unsealed(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute(_INSERT_UNSEALED)


def store_file_after_unsealed(dsn: str) -> None:
    append_unsealed(dsn)
    store_file(dsn)


def append_damaged(dsn: str) -> None:
    """Events of which the newest is no JSON, and the one before is sealed with a wrong key."""
    append_customers(dsn, 2)
    with psycopg.connect(dsn) as conn:
        conn.execute("ALTER TABLE ledger.events DISABLE TRIGGER events_append_only")
        conn.execute(
            """UPDATE ledger.events SET state = CASE notification_id WHEN 1 THEN state
                   ELSE convert_to('{"sealed":"' || repeat('A', 80) || '"}', 'UTF8') END"""
        )
        conn.execute(
            """INSERT INTO ledger.events SELECT 3, 'cus_9', 1, topic, '{"sealed":"', account, livemode, actor,
                   request_id, idempotency_key, causation, customer, charge, payment_intent, recorded_at
               FROM ledger.events WHERE notification_id = 1"""
        )


def fetch_row(dsn: str, query: str) -> Any:
    with psycopg.connect(dsn) as conn:
        return conn.execute(query.encode()).fetchone()


def test_every_command_refuses_a_wrong_key_and_writes_nothing(dsn: str, place: Path) -> None:
    append_customers(dsn, 1)
    data_dir = place / "wrong"
    (place / "lines.ndjson").write_text('{"op": "customer", "id": "cus_2", "name": "Ada"}\n')
    run_ledger(data_dir, "accounts", "create", "Test", database_url=dsn, secret_key=RIGHT_KEY)
    before = fetch_row(dsn, _COUNTS)
    assert before == (1, 1, 0, 1)
    for command in COMMANDS:
        line = run_refused(data_dir, *command, database_url=dsn, secret_key=WRONG_KEY)
        assert line.startswith(f"ledger: LEDGER_SECRET_KEY {REFUSAL}"), command
        assert fetch_row(dsn, _COUNTS) == before, command
    completed = run_ledger(data_dir, "accounts", "list", database_url=dsn, secret_key=RIGHT_KEY)
    assert (completed.returncode, completed.stderr) == (0, "")


def test_a_backfill_process_refuses_a_wrong_key(dsn: str) -> None:
    check(dsn, RIGHT_KEY)
    with pytest.raises(BackfillFailed, match=f"^ledger: LEDGER_SECRET_KEY {REFUSAL}"):
        asyncio.run(BackfillProcesses(dsn, WRONG_KEY.encode()).backfill_shard(1, 0))


@pytest.mark.parametrize(
    "make_data", [lambda dsn: append_customers(dsn, 3), store_file, store_file_after_unsealed, append_damaged]
)
def test_data_of_an_earlier_release_must_open_before_a_key_is_accepted(
    dsn: str, make_data: Callable[[str], None]
) -> None:
    make_data(dsn)
    with pytest.raises(SettingError, match="LEDGER_SECRET_KEY"):
        check(dsn, WRONG_KEY)
    assert fetch_row(dsn, "SELECT count(*) FROM ledger.service_key") == (0,)
    check(dsn, RIGHT_KEY)
    with pytest.raises(SettingError, match="LEDGER_SECRET_KEY"):
        check(dsn, WRONG_KEY)


@pytest.mark.parametrize("make_data", [lambda dsn: None, append_unsealed])
def test_the_first_key_of_a_database_without_sealed_data_is_its_key(
    dsn: str, make_data: Callable[[str], None]
) -> None:
    make_data(dsn)
    check(dsn, RIGHT_KEY)
    assert fetch_row(dsn, "SELECT check_value FROM ledger.service_key") == (derive_check_value(KEY),)
    check(dsn, RIGHT_KEY)
    with pytest.raises(SettingError):
        check(dsn, WRONG_KEY)


def test_of_two_keys_at_once_one_is_accepted(dsn: str) -> None:
    async def start(key: str) -> bool:
        try:
            await asyncio.to_thread(check, dsn, key)
        except SettingError:
            return False
        return True

    async def run() -> list[bool]:
        return await asyncio.gather(*(start(f"{number} {RIGHT_KEY}") for number in range(8)))

    assert sum(asyncio.run(run())) == 1


@pytest.fixture(scope="module")
def stopped(place: Path) -> Iterator[Path]:
    """The data directory of an embedded service that has stopped."""
    data_dir = place / "embedded"
    with run_serve(data_dir):
        pass
    yield data_dir
    shutil.rmtree(data_dir)


def test_another_key_file_is_refused_by_its_name(stopped: Path) -> None:
    file = stopped / "secret.key"
    right_key = file.read_text()
    file.write_text(WRONG_KEY)
    for command in (["serve"], ["keys", "list"], ["projections", "status"]):
        line = run_refused(stopped, *command)
        assert line.startswith(f"ledger: LEDGER_SECRET_KEY, read from {file}, {REFUSAL}")
    file.write_text(right_key)
    assert run_ledger(stopped, "keys", "list").returncode == 0


def test_a_lost_key_file_is_not_replaced_by_a_new_key(stopped: Path) -> None:
    file = stopped / "secret.key"
    kept = file.rename(stopped / "kept.key")
    line = run_refused(stopped, "serve")
    assert line.startswith(f"ledger: {file} is missing")
    assert "LEDGER_SECRET_KEY" in line
    assert not file.exists()
    assert run_ledger(stopped, "keys", "list", secret_key=kept.read_text()).returncode == 0
    kept.rename(file)
    with run_serve(stopped):
        pass
