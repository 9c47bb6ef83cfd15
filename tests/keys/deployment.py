"""A deployment whose service key is replaced: its database, data keys in it, starts of processes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import psycopg

from ledger.config import load_settings
from ledger.keys.data_keys import DataKeys
from ledger.keys.rotation import SESSION_SETTINGS, Rewrapped, rotate
from ledger.keys.service_keys import PURPOSES, ServiceKeys
from ledger.postgres.connections import open_connection
from ledger.postgres.deployment import ConfiguredKeys
from ledger.service_key import check_service_key, derive_check_value

OLD = b"the old service key of these tests, 32 bytes and more"
NEW = b"the new service key of these tests, 32 bytes and more"
OLD_ID, NEW_ID = ServiceKeys(OLD).current_id, ServiceKeys(NEW).current_id

_INSERT = "INSERT INTO ledger.data_keys (subject, wrapped, wrapped_by) VALUES (%s, %s, %s)"


def start(dsn: str, current: bytes, previous: bytes | None = None) -> ServiceKeys:
    """What every process does first. Raises SettingError."""
    settings = load_settings(database_url=dsn, secret_key=current.decode())
    return check_service_key(settings, dsn, ConfiguredKeys(current, previous))


def insert_data_keys(dsn: str, keys: ServiceKeys, *subjects: str) -> None:
    """Keys for these subjects, as appends insert them."""
    data_keys = DataKeys(keys)
    with psycopg.connect(dsn) as conn, conn.cursor() as cur:
        made = [data_keys.create(subject) for subject in subjects]
        cur.executemany(_INSERT, [(new.subject, new.wrapped, new.wrapped_by) for new in made])


def rotate_to(dsn: str, current: bytes, previous: bytes | None) -> Rewrapped:
    """A rotation. Raises SettingError."""

    async def run() -> Rewrapped:
        async with open_connection(dsn, "ledger_api", name="secrets", settings=SESSION_SETTINGS) as conn:
            return await rotate(
                conn, ServiceKeys(current, previous), derive_check_value(current), settle_seconds=0.1
            )

    return asyncio.run(run())


def load_data_keys(dsn: str, keys: ServiceKeys, *subjects: str) -> dict[str, bytes | None]:
    """What each data key yields for one context: the same as long as it is the same key."""

    async def load() -> dict[str, bytes | None]:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            keyring = await DataKeys(keys).load(conn, subjects)
            found = {subject: keyring.get(subject) for subject in subjects}
            return {subject: None if key is None else key.derive(b"test") for subject, key in found.items()}

    return asyncio.run(load())


def derive_all(keys: ServiceKeys) -> Mapping[bytes, bytes]:
    """The secret of each purpose."""
    return {label: keys.derive(label) for label in PURPOSES}


def list_states(dsn: str) -> dict[str, str]:
    """The state of each service key by its id."""
    with psycopg.connect(dsn) as conn:
        return dict(conn.execute("SELECT id, state FROM ledger.service_keys").fetchall())


def count_wraps(dsn: str) -> dict[tuple[str, str], int]:
    """How many wraps there are, by table and id of the service key."""
    query = """
    SELECT 'data_keys', wrapped_by, count(*) FROM ledger.data_keys WHERE wrapped IS NOT NULL GROUP BY 2
    UNION ALL SELECT 'service_secrets', wrapped_by, count(*) FROM ledger.service_secrets GROUP BY 2
    """
    with psycopg.connect(dsn) as conn:
        return {(table, key_id): count for table, key_id, count in conn.execute(query)}
