"""Rotation of the log's signing keys by an operator."""

from __future__ import annotations

from typing import NamedTuple

from ledger.postgres.connections import Conn, fetch_one
from ledger.tlog.keys import VerifierKey
from ledger.tlog.notes import parse_note
from ledger.tree.checkpoints import lock_tree, store_tree
from ledger.tree.keys import Keyring, LogSigner

# The cosignatures of a checkpoint of this size were for the log by its old name.
_REPLACE_RENAMED = """
INSERT INTO ledger.checkpoints (size, note) VALUES (%(size)s, %(note)s)
ON CONFLICT ON CONSTRAINT checkpoints_size DO UPDATE SET note = excluded.note, cosignatures = 0
"""
_FORGET_COSIGNED = """
UPDATE ledger.witnesses SET size = 0, state = 'cosigns', reason = NULL, changed_at = now()
"""
_LOCK_KEPT = "SELECT note FROM ledger.checkpoints WHERE size = %(size)s FOR UPDATE"
_REPLACE_KEPT = """
INSERT INTO ledger.checkpoints (size, note) VALUES (%(size)s, %(note)s)
ON CONFLICT ON CONSTRAINT checkpoints_size DO UPDATE SET note = excluded.note
"""


class Rotation(NamedTuple):
    """What a rotation did.

    note  the checkpoint that both the retired and the new keys signed, and only the new keys if the log has
          another name now; it is kept
    """

    retired: tuple[VerifierKey, ...]
    current: tuple[VerifierKey, ...]
    note: str


async def rotate_keys(conn: Conn, keyring: Keyring, reason: str, at: float) -> Rotation:
    """Retire the current keys, make new ones, and sign the tree as it is with both: so whoever trusts the old
    keys can see that the log itself went on to the new ones.

    at  unix seconds

    Raises psycopg.Error, and DamagedTree when the stored tree is not what was signed; then nothing has
    changed.
    """
    async with conn.transaction():
        tree = await lock_tree(conn, wait=True)
        assert tree is not None
        before, after = await keyring.rotate(conn, reason, at)
        note = LogSigner(after.origin, (*after.keys, *before.keys)).sign(tree.edge, at)
        if tree.edge.size:
            note = await _keep(conn, tree.edge.size, note)
        await store_tree(conn, tree.edge, note, keep_seconds=0)
    retired, current = (tuple(key.verifier for key in signer.keys) for signer in (before, after))
    return Rotation(retired, current, note)


async def rename_log(conn: Conn, keyring: Keyring, origin: str, reason: str, at: float) -> Rotation:
    """Retire the current keys and go on as another log, named `origin`, with new keys: after a restore to an
    earlier time, when the log cannot go on from what it has signed. No process may seal or ask witnesses
    meanwhile. Raises as `rotate_keys`, and SettingError for a name that the log has or had.
    """
    async with conn.transaction():
        tree = await lock_tree(conn, wait=True)
        assert tree is not None
        before, after = await keyring.rotate(conn, reason, at, new_origin=origin)
        note = after.sign(tree.edge, at)
        await store_tree(conn, tree.edge, note, keep_seconds=0)
        if tree.edge.size:
            await conn.execute(_REPLACE_RENAMED, {"size": tree.edge.size, "note": note})
        await conn.execute(_FORGET_COSIGNED)
    retired, current = (tuple(key.verifier for key in signer.keys) for signer in (before, after))
    return Rotation(retired, current, note)


async def _keep(conn: Conn, size: int, note: str) -> str:
    """Keep the checkpoint, with the signatures that an older one of this size has. Returns all of it."""
    row = await fetch_one(conn, _LOCK_KEPT, {"size": size})
    if row is not None:
        note = parse_note(row[0]).merge(parse_note(note).signatures).to_text()
    await conn.execute(_REPLACE_KEPT, {"size": size, "note": note})
    return note
