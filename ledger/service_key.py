"""Check at the start of a process that it has the service key which the data of the database was made with.

The database holds a check value of the key: a keyed hash of a fixed text. The first process that has the key
inserts it; every later one compares. Data of a release that had no check value has to open under the key
first, so an upgrade does not accept a wrong key for good. The first process also marks the database as the
one that acts by itself: a dump has the mark too, and it does not fit where that is restored.
"""

from __future__ import annotations

import asyncio
import hmac

from ledger.config import Settings
from ledger.errors import SettingError
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, Conn, fetch_all, fetch_one, open_connection
from ledger.postgres.deployment import get_key_file
from ledger.postgres.migrations import check_schema

# A wrong key opens none of the samples. The right one may fail to open some of them: records may be damaged,
# or sealed by a process that had a wrong key. So the oldest are among them too.
SAMPLED_EVENTS = 100
SAMPLED_CHUNKS = 3

_SELECT_CHECK_VALUE = """
SELECT check_value, EXISTS (SELECT FROM ledger.activations) FROM ledger.service_key
"""
_INSERT_CHECK_VALUE = "INSERT INTO ledger.service_key (check_value) VALUES (%s) ON CONFLICT DO NOTHING"
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


def check_database(settings: Settings, dsn: str, key: bytes) -> None:
    """Check that this release and this key can work with the database as it is. Raises SettingError, and
    Unavailable when the database cannot be reached."""
    check_schema(dsn)
    check_service_key(settings, dsn, key)


def check_service_key(settings: Settings, dsn: str, key: bytes) -> None:
    """Check that `key` is the one that the data of the migrated database was made with, and mark the database
    as the one that acts at its first start. Raises SettingError, and Unavailable when the database cannot be
    reached."""
    # With a wrong key, a process would seal new data that nobody can open once the right key is back.
    if not asyncio.run(_is_right(dsn, key)):
        source = "" if settings.secret_key is not None else f", read from {get_key_file(settings)},"
        raise SettingError(
            f"LEDGER_SECRET_KEY{source} is not the key that the data of this database was made with: "
            "use that key (docs/operations.md, Backups)"
        )


def derive_check_value(key: bytes) -> bytes:
    """What the database holds of the key. The key cannot be derived from it, nor any other secret."""
    check_key = hmac.digest(key, b"ledger/service-key/check/1", "sha256")
    return hmac.digest(check_key, b"the service key of this database", "sha256")


async def _is_right(dsn: str, key: bytes) -> bool:
    check_value = derive_check_value(key)
    async with open_connection(
        dsn, "ledger_api", name="service key", answer_seconds=BACKGROUND_ANSWER_SECONDS
    ) as conn:
        row = await fetch_one(conn, _SELECT_CHECK_VALUE)
        if row is None:
            if not await _opens_data(conn, key):
                return False
            await conn.execute(_INSERT_CHECK_VALUE, (check_value,))
            row = await fetch_one(conn, _SELECT_CHECK_VALUE)  # another process may have been first
            assert row is not None
        is_right = hmac.compare_digest(row[0], check_value)
        if is_right and not row[1]:
            await conn.execute(_MARK_AS_ACTIVE)
        return is_right


async def _opens_data(conn: Conn, key: bytes) -> bool:
    """Whether the key opens sealed data in the database; True if there is none."""
    # Their imports take longer than the other work of most commands, and this runs once for a database.
    from ledger.files.storage import ChunkCipher
    from ledger.store.codec import Codec

    codec = Codec(key)
    events = await fetch_all(conn, _SAMPLE_SEALED_EVENTS, {"limit": SAMPLED_EVENTS})
    opened = [can_open for row in events if (can_open := codec.can_open(*row)) is not None]
    if not opened:
        chunks = await fetch_all(conn, _SAMPLE_CHUNKS, {"limit": SAMPLED_CHUNKS})
        opened = [ChunkCipher(key).can_open(*row) for row in chunks]
    return any(opened) or not opened
