"""The service key is replaced while everything stays readable; who lacks a needed key does not start."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest

from ledger.clock import Clock
from ledger.config import load_settings
from ledger.errors import SettingError
from ledger.keys.announcements import list_announced
from ledger.keys.rotation import PAGE_ROWS
from ledger.keys.service_keys import PURPOSES, ServiceKeys
from ledger.postgres.connections import open_connection
from ledger.service_key import derive_check_value
from ledger.store.store import Store
from tests.keys.deployment import (
    NEW,
    NEW_ID,
    OLD,
    OLD_ID,
    count_wraps,
    derive_all,
    insert_data_keys,
    list_states,
    load_data_keys,
    rotate_to,
    start,
)

WRONG = b"another service key of these tests, 32 bytes and more"
NOT_THE_KEY = "LEDGER_SECRET_KEY is not the key that the data of this database was made with"
SECRETS = len(PURPOSES)
WAIT_SECONDS = 60.0


def test_a_first_start_keeps_the_secrets_that_releases_before_derived(dsn: str) -> None:
    assert derive_all(start(dsn, OLD)) == derive_all(ServiceKeys(OLD))
    assert count_wraps(dsn) == {("service_secrets", OLD_ID): SECRETS}
    with psycopg.connect(dsn) as conn:
        stored = conn.execute("SELECT string_agg(wrapped, '') FROM ledger.service_secrets").fetchone()
    assert stored is not None
    assert not any(secret in stored[0] for secret in derive_all(ServiceKeys(OLD)).values())
    assert derive_all(start(dsn, OLD)) == derive_all(ServiceKeys(OLD))


def is_root(dsn: str) -> dict[str, bool]:
    with psycopg.connect(dsn) as conn:
        return dict(conn.execute("SELECT id, is_root FROM ledger.service_keys").fetchall())


def test_a_database_of_an_earlier_release_keeps_its_key_whichever_is_set_first(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("INSERT INTO ledger.service_key VALUES (%s)", (derive_check_value(OLD),))
    for pair in ((WRONG,), (WRONG, NEW)):
        with pytest.raises(SettingError, match=NOT_THE_KEY):
            start(dsn, *pair)
    assert list_states(dsn) == {}
    keys = start(dsn, NEW, OLD)  # the upgrade, and the replacement of the key at once
    assert derive_all(keys) == derive_all(ServiceKeys(OLD))
    assert list_states(dsn) == {OLD_ID: "current", NEW_ID: "accepted"}
    assert is_root(dsn) == {OLD_ID: True, NEW_ID: False}


def test_nothing_was_ever_derived_from_the_key_of_a_new_database(dsn: str) -> None:
    start(dsn, OLD)
    assert is_root(dsn) == {OLD_ID: False}


def test_everything_is_wrapped_again_and_only_the_new_key_is_needed(dsn: str) -> None:
    subjects = [f"cus_{number}" for number in range(2 * PAGE_ROWS + 1)]
    before = start(dsn, OLD)
    insert_data_keys(dsn, before, *subjects)
    opened = load_data_keys(dsn, before, *subjects)
    both = start(dsn, NEW, OLD)
    assert both.current_id == OLD_ID  # no other process has to know the new key yet
    done = rotate_to(dsn, NEW, OLD)
    assert done == (len(subjects), SECRETS, [OLD_ID])
    assert count_wraps(dsn) == {("data_keys", NEW_ID): len(subjects), ("service_secrets", NEW_ID): SECRETS}
    assert list_states(dsn) == {OLD_ID: "retired", NEW_ID: "current"}
    after = start(dsn, NEW)
    assert derive_all(after) == derive_all(before)
    assert load_data_keys(dsn, after, *subjects) == opened
    assert rotate_to(dsn, NEW, None) == (0, 0, [])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ((OLD,), f"to the other one, with the id {NEW_ID}"),
        ((NEW,), f"to the other one, with the id {OLD_ID}"),
        ((WRONG,), NOT_THE_KEY),
        ((WRONG, NEW), f"to the other one, with the id {OLD_ID}"),
    ],
)
def test_while_there_are_two_keys_a_process_needs_both(
    dsn: str, keys: tuple[bytes, ...], message: str
) -> None:
    start(dsn, OLD)
    start(dsn, NEW, OLD)
    for pair in ((NEW, OLD), (OLD, NEW)):
        assert start(dsn, *pair).current_id == OLD_ID
    states = list_states(dsn)
    with pytest.raises(SettingError, match=message) as raised:
        start(dsn, *keys)
    assert "service key of these tests" not in str(raised.value)
    assert list_states(dsn) == states


def test_a_new_key_needs_the_one_that_it_replaces(dsn: str) -> None:
    start(dsn, OLD)
    for pair in ((NEW,), (NEW, WRONG)):
        with pytest.raises(SettingError, match=NOT_THE_KEY):
            start(dsn, *pair)
        with pytest.raises(SettingError, match=NOT_THE_KEY):
            rotate_to(dsn, pair[0], pair[1] if len(pair) > 1 else None)
    assert list_states(dsn) == {OLD_ID: "current"}


def test_a_replaced_key_is_refused_by_its_name_and_does_not_come_back(dsn: str) -> None:
    start(dsn, OLD)
    rotate_to(dsn, NEW, OLD)
    with pytest.raises(SettingError, match=f"was replaced by the key with the id {NEW_ID}"):
        start(dsn, OLD)
    assert start(dsn, OLD, NEW).current_id == NEW_ID  # harmless: it also has the key that is needed
    with pytest.raises(SettingError, match="a retired key does not come back"):
        rotate_to(dsn, OLD, NEW)
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT check_value FROM ledger.service_key").fetchone()
    assert row == (derive_check_value(NEW),)


def test_a_mistyped_new_key_is_given_up_by_a_rotation_back(dsn: str) -> None:
    keys = start(dsn, OLD)
    start(dsn, WRONG, OLD)
    with pytest.raises(SettingError):
        start(dsn, OLD)
    insert_data_keys(dsn, keys, "cus_1")
    assert rotate_to(dsn, OLD, None) == (0, 0, [ServiceKeys(WRONG).current_id])
    assert load_data_keys(dsn, start(dsn, OLD), "cus_1")["cus_1"] is not None


def test_a_rotation_does_not_bring_back_a_destroyed_key(dsn: str) -> None:
    keys = start(dsn, OLD)
    insert_data_keys(dsn, keys, "cus_1", "cus_2")
    with psycopg.connect(dsn) as conn:
        conn.execute(
            "UPDATE ledger.data_keys SET wrapped = NULL, wrapped_by = NULL, erasing_since = now(),"
            " destroyed_at = now() WHERE subject = 'cus_1'"
        )
    assert rotate_to(dsn, NEW, OLD).data_keys == 1
    found = load_data_keys(dsn, start(dsn, NEW), "cus_1", "cus_2")
    assert (found["cus_1"], found["cus_2"] is None) == (None, False)


def test_a_row_that_somebody_else_has_locked_is_not_waited_for(dsn: str) -> None:
    keys = start(dsn, OLD)
    insert_data_keys(dsn, keys, "cus_1", "cus_2")
    with psycopg.connect(dsn) as conn:
        conn.execute("SELECT FROM ledger.data_keys WHERE subject = 'cus_1' FOR UPDATE")
        with pytest.raises(SettingError, match="run this again"):
            rotate_to(dsn, NEW, OLD)
        assert count_wraps(dsn)["data_keys", NEW_ID] == 1
    assert list_states(dsn) == {OLD_ID: "accepted", NEW_ID: "current"}
    assert rotate_to(dsn, NEW, OLD) == (1, 0, [OLD_ID])


def test_a_damaged_wrap_retires_nothing(dsn: str) -> None:
    keys = start(dsn, OLD)
    insert_data_keys(dsn, keys, "cus_1", "cus_2")
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE ledger.data_keys SET wrapped = wrapped || '\\x00' WHERE subject = 'cus_2'")
    with pytest.raises(SettingError, match="data_key cus_2 is damaged, so nothing was retired"):
        rotate_to(dsn, NEW, OLD)
    assert list_states(dsn)[OLD_ID] == "accepted"
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE ledger.service_secrets SET wrapped = wrapped || '\\x00'")
    with pytest.raises(SettingError, match=r"in ledger\.service_secrets is damaged"):
        start(dsn, NEW, OLD)


def test_nothing_is_rotated_while_data_depends_on_keys_that_are_derived(dsn: str) -> None:
    start(dsn, OLD)
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE ledger.key_migration SET finished_at = NULL")
    with pytest.raises(SettingError, match="ledger migrate --contract"):
        rotate_to(dsn, NEW, OLD)
    assert list_states(dsn) == {OLD_ID: "current"}


def test_a_process_without_the_new_key_is_in_the_way_and_one_with_both_changes_over(dsn: str) -> None:
    start(dsn, OLD)

    async def wait_for_announcement() -> None:
        async with open_connection(dsn, "ledger_api", name="test") as conn, asyncio.timeout(WAIT_SECONDS):
            while True:
                announced = await list_announced(conn, NEW_ID)
                if any(wraps_under_old for *_, wraps_under_old in announced):
                    return
                await asyncio.sleep(0.02)

    async def run(keys: ServiceKeys) -> ServiceKeys:
        store = Store(dsn, keys, load_settings(), Clock())
        await store.start()
        try:
            await wait_for_announcement()
            await asyncio.to_thread(rotate_to, dsn, NEW, OLD)
        finally:
            await store.close()
        return store.service_keys

    with pytest.raises(SettingError, match=f"1 running process .* is without .* {NEW_ID}: restart every"):
        asyncio.run(run(ServiceKeys(OLD)))
    assert list_states(dsn) == {OLD_ID: "current"}
    started = time.monotonic()
    assert asyncio.run(run(start(dsn, NEW, OLD))).current_id == NEW_ID
    assert time.monotonic() - started < 10
    assert list_states(dsn) == {OLD_ID: "retired", NEW_ID: "current"}
