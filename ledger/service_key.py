"""Check at the start of a process that it has the service keys which the data of the database was made with,
and load the secrets that are wrapped under them.

The database knows its keys by ids (`ledger.keys.registered_keys`), which the first process that has a key
registers. Data of a release that registered none has to open under the key first, so an upgrade does not
accept a wrong key for good. The first process also marks the database as the one that acts by itself: a dump
has the mark too, and it does not fit where that is restored.
"""

from __future__ import annotations

import asyncio
import hmac
from contextlib import suppress

from ledger.config import Settings
from ledger.errors import ServiceKeyMissing, SettingError
from ledger.keys.registered_keys import (
    KeyState,
    RegisteredKeys,
    find_unusable,
    keep_secrets,
    lock_registered,
    read_registered,
    register_key,
)
from ledger.keys.service_keys import ServiceKeys, derive_key_id
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, Conn, fetch_all, fetch_one, open_connection
from ledger.postgres.deployment import ConfiguredKeys, get_key_file
from ledger.postgres.migrations import check_schema

# A wrong key opens none of the samples. The right one may fail to open some of them: records may be damaged,
# or sealed by a process that had a wrong key. So the oldest are among them too.
SAMPLED_EVENTS = 100
SAMPLED_CHUNKS = 3

# Releases before 0040 compare it, and insert it on a database that has none.
_SELECT_CHECK_VALUE = "SELECT check_value FROM ledger.service_key"
_INSERT_CHECK_VALUE = "INSERT INTO ledger.service_key (check_value) VALUES (%s) ON CONFLICT DO NOTHING"
_HAS_DATA = """
SELECT FROM ledger.service_key UNION ALL (SELECT FROM ledger.events LIMIT 1)
UNION ALL (SELECT FROM ledger.file_chunks LIMIT 1)
"""
_IS_ACTIVE = "SELECT EXISTS (SELECT FROM ledger.activations)"
_MARK_AS_ACTIVE = """
INSERT INTO ledger.activations
    (action, who, reason, database_oid, table_oid, system_identifier, sends_webhooks, details)
SELECT 'first_start', 'ledger', '', t.database_oid, t.table_oid, t.system_identifier, true, '{}'
FROM ledger.this_database() t ON CONFLICT DO NOTHING
"""
# Along the primary key from both ends: it reads few rows, because most events have personal data.
_SAMPLE_SEALED_EVENTS = """
(SELECT originator_id, originator_version, topic, state FROM ledger.events
 WHERE position('"sealed":"'::bytea IN state) > 0 ORDER BY notification_id DESC LIMIT %(limit)s)
UNION ALL
(SELECT originator_id, originator_version, topic, state FROM ledger.events
 WHERE position('"sealed":"'::bytea IN state) > 0 ORDER BY notification_id LIMIT %(limit)s)
"""
_SAMPLE_CHUNKS = """
SELECT file, number, sealed FROM ledger.file_chunks ORDER BY stored_at DESC LIMIT %(limit)s
"""


def check_database(settings: Settings, dsn: str, configured: ConfiguredKeys) -> ServiceKeys:
    """Check that this release and these keys can work with the database as it is. Returns the keys with the
    secrets of the database. Raises SettingError, and Unavailable when the database cannot be reached."""
    check_schema(dsn)
    return check_service_key(settings, dsn, configured)


def check_service_key(settings: Settings, dsn: str, configured: ConfiguredKeys) -> ServiceKeys:
    """Check that the keys are those that the data of the migrated database was made with, and mark the
    database as the one that acts at its first start. Returns the keys with the secrets of the database.
    Raises SettingError, and Unavailable when the database cannot be reached."""
    return asyncio.run(load_service_keys(settings, dsn, configured))


async def load_service_keys(settings: Settings, dsn: str, configured: ConfiguredKeys) -> ServiceKeys:
    """The same for a caller in an event loop."""
    # With a wrong key, a process would seal new data that nobody can open once the right key is back.
    source = "" if settings.secret_key is not None else f", read from {get_key_file(settings)},"
    return await _open_keys(dsn, configured, f"LEDGER_SECRET_KEY{source}")


def derive_check_value(key: bytes) -> bytes:
    """What releases before 0040 hold of the key in the database. No secret can be derived from it."""
    check_key = hmac.digest(key, b"ledger/service-key/check/1", "sha256")
    return hmac.digest(check_key, b"the service key of this database", "sha256")


async def _open_keys(dsn: str, configured: ConfiguredKeys, source: str) -> ServiceKeys:
    keys = ServiceKeys(*configured)
    async with open_connection(
        dsn, "ledger_api", name="service key", answer_seconds=BACKGROUND_ANSWER_SECONDS
    ) as conn:
        registered = await read_registered(conn)
        if not registered.is_complete(keys):
            async with conn.transaction():
                registered = await _register(conn, configured, source)
        _check_usable(registered, keys, source)
        row = await fetch_one(conn, _IS_ACTIVE)
        assert row is not None
        if not row[0]:
            await conn.execute(_MARK_AS_ACTIVE)
    return registered.open(keys)


async def _register(conn: Conn, configured: ConfiguredKeys, source: str) -> RegisteredKeys:
    """Add what the database lacks: its first key, the one that is to replace it, secrets. Raises SettingError
    for keys that are not the ones of this database."""
    await lock_registered(conn)
    registered, keys = await read_registered(conn), ServiceKeys(*configured)
    if not registered.states:
        first_key = await _find_first_key(conn, configured)
        if first_key is None:
            raise SettingError(f"{source} {find_unusable({'': KeyState.CURRENT}, ())}")
        has_data = bool(await fetch_all(conn, _HAS_DATA))
        await conn.execute(_INSERT_CHECK_VALUE, (derive_check_value(first_key),))
        await register_key(conn, derive_key_id(first_key), KeyState.CURRENT, is_root=has_data)
        registered = await read_registered(conn)
    _check_usable(registered, keys, source)
    if keys.current_id not in registered.states:
        await register_key(conn, keys.current_id, KeyState.ACCEPTED)
    keys.wrap_under(registered.current_id)
    await keep_secrets(conn, keys)
    return await read_registered(conn)


def _check_usable(registered: RegisteredKeys, keys: ServiceKeys, source: str) -> None:
    reason = find_unusable(registered.states, keys.ids)
    if reason is not None:
        raise SettingError(f"{source} {reason}")


async def _find_first_key(conn: Conn, configured: ConfiguredKeys) -> bytes | None:
    """The one of the keys that a release before 0040 has made the data with; of a database without data, the
    current one. None if there is data of another key."""
    row = await fetch_one(conn, _SELECT_CHECK_VALUE)
    for key in configured:
        if key is not None and (
            await _opens_data(conn, key)
            if row is None
            else hmac.compare_digest(row[0], derive_check_value(key))
        ):
            return key
    return None


async def _opens_data(conn: Conn, key: bytes) -> bool:
    """Whether the key opens sealed data in the database; True if there is none."""
    # Their imports take longer than the other work of most commands, and this runs once for a database.
    from ledger.files.chunk_seals import opens_any
    from ledger.store.codec import Codec

    codec = Codec(key)
    events = await fetch_all(conn, _SAMPLE_SEALED_EVENTS, {"limit": SAMPLED_EVENTS})
    with suppress(ServiceKeyMissing):  # then it does not open what is sealed under data keys
        codec = await codec.prepare(conn, events)
    opened = [can_open for row in events if (can_open := codec.can_open(*row)) is not None]
    if not opened:
        chunks = await fetch_all(conn, _SAMPLE_CHUNKS, {"limit": SAMPLED_CHUNKS})
        return not chunks or opens_any(key, [(file, number, sealed) for file, number, sealed in chunks])
    return any(opened)
