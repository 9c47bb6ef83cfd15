"""The service keys that a database knows by their ids, and the secrets of purposes that it keeps wrapped.

One key is `current`: processes wrap under it. An `accepted` one may be found in wraps too: it is to be the
current one, or was. Under a `retired` one nothing is wrapped any more. A process needs every key that is not
retired, so it can read whatever there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from cryptography.exceptions import InvalidTag

from ledger.errors import SettingError
from ledger.keys.service_keys import PURPOSES, ServiceKeys
from ledger.postgres.connections import Conn, fetch_all

# Whoever changes the table or makes a key the current one takes it, one after another.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('ledger.service_keys'))"
_SELECT_KEYS = "SELECT id, state FROM ledger.service_keys"
_SELECT_SECRETS = "SELECT purpose, wrapped, wrapped_by FROM ledger.service_secrets"
_INSERT_KEY = """
INSERT INTO ledger.service_keys (id, state, is_root, current_at)
VALUES (%(id)s, %(state)s, %(is_root)s, CASE WHEN %(state)s = 'current' THEN now() END)
"""
_INSERT_WRAPPED = """
INSERT INTO ledger.service_secrets (purpose, wrapped, wrapped_by)
VALUES (%(purpose)s, %(wrapped)s, %(wrapped_by)s) ON CONFLICT DO NOTHING
"""


class KeyState(StrEnum):
    """What a service key is for a database."""

    ACCEPTED = "accepted"
    CURRENT = "current"
    RETIRED = "retired"


class RegisteredKeys(NamedTuple):
    """The keys of a database by their ids, and its secrets: label → (wrapped, id of its key)."""

    states: Mapping[str, KeyState]
    secrets: Mapping[bytes, tuple[bytes, str]]

    @property
    def current_id(self) -> str:
        """The id of the key that wraps now."""
        return next(key_id for key_id, state in self.states.items() if state == KeyState.CURRENT)

    def is_complete(self, keys: ServiceKeys) -> bool:
        """Whether the database knows the current key of a process that starts, and has every secret."""
        return keys.current_id in self.states and self.secrets.keys() >= set(PURPOSES)

    def open(self, keys: ServiceKeys) -> ServiceKeys:
        """The service keys of a process with the secrets, wrapping under the current key. Raises SettingError
        for a secret that does not open, and ServiceKeyMissing."""
        kept = {}
        for label, (wrapped, key_id) in self.secrets.items():
            try:
                kept[label] = keys.unwrap(wrapped, key_id, get_secret_context(label))
            except InvalidTag:
                raise SettingError(
                    f"the secret {label.decode()} in ledger.service_secrets is damaged: restore the row from "
                    "a backup (docs/operations.md, Backups)"
                ) from None
        opened = keys.with_kept(kept)
        opened.wrap_under(self.current_id)
        return opened


def get_secret_context(label: bytes) -> str:
    """What the secret of a purpose is wrapped for."""
    return f"service_secret {label.decode()}"


def find_unusable(states: Mapping[str, str], own_ids: tuple[str, ...]) -> str | None:
    """Why a process with these keys cannot use a database with those, as the end of a sentence that begins
    with the name of the setting; None if it can."""
    needed = [key_id for key_id, state in states.items() if state != KeyState.RETIRED]
    lacking = [key_id for key_id in needed if key_id not in own_ids]
    if not lacking:
        return None
    if len(lacking) < len(needed):
        return (
            "is one of two keys that the data of this database is wrapped under: set "
            f"LEDGER_PREVIOUS_SECRET_KEY to the other one, with the id {lacking[0]} "
            "(docs/operations.md, Replace the service key)"
        )
    if any(key_id in states for key_id in own_ids):
        return (
            f"was replaced by the key with the id {lacking[0]}: use that one (docs/operations.md, Replace "
            "the service key)"
        )
    return (
        "is not the key that the data of this database was made with: use that key (docs/operations.md, "
        "Backups)"
    )


async def lock_registered(conn: Conn) -> None:
    """Let nobody else change which keys there are until this transaction ends."""
    await conn.execute(_LOCK)


async def read_registered(conn: Conn) -> RegisteredKeys:
    """The keys and the secrets of the database. Raises psycopg.Error."""
    states = {key_id: KeyState(state) for key_id, state in await fetch_all(conn, _SELECT_KEYS)}
    rows = await fetch_all(conn, _SELECT_SECRETS)
    return RegisteredKeys(states, {purpose.encode(): (wrapped, key_id) for purpose, wrapped, key_id in rows})


async def register_key(conn: Conn, key_id: str, state: KeyState, *, is_root: bool = False) -> None:
    """Add a key that the database does not know yet. `is_root`: releases before have derived keys from it."""
    await conn.execute(_INSERT_KEY, {"id": key_id, "state": state, "is_root": is_root})


async def keep_secrets(conn: Conn, keys: ServiceKeys) -> None:
    """Store the secret of every purpose that has none yet, as `keys` derives it."""
    for label in PURPOSES:
        wrapped, key_id = keys.wrap(keys.derive(label), get_secret_context(label))
        await conn.execute(
            _INSERT_WRAPPED, {"purpose": label.decode(), "wrapped": wrapped, "wrapped_by": key_id}
        )
