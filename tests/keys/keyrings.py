"""All data keys of a database, for tests that look into stored documents."""

from __future__ import annotations

import psycopg

from ledger.keys.data_keys import DataKey, Keyring, get_wrap_context
from ledger.keys.service_keys import ServiceKeys


def read_keyring(dsn: str, service_key: bytes) -> Keyring:
    """Every key that is not destroyed."""
    service_keys = ServiceKeys(service_key)
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "SELECT subject, wrapped, wrapped_by FROM ledger.data_keys WHERE wrapped IS NOT NULL"
        ).fetchall()
    keys = {
        subject: DataKey(service_keys.unwrap(wrapped, wrapped_by, get_wrap_context(subject)))
        for subject, wrapped, wrapped_by in rows
    }
    return Keyring(1, keys, {})
