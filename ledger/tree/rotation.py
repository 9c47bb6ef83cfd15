"""Rotation of the log's signing keys by an operator."""

from __future__ import annotations

from typing import NamedTuple

from ledger.postgres.connections import Conn, fetch_one
from ledger.tlog.keys import VerifierKey
from ledger.tlog.notes import parse_note
from ledger.tree.checkpoints import lock_tree, store_tree
from ledger.tree.keys import Keyring, LogSigner

_LOCK_KEPT = "SELECT note FROM ledger.checkpoints WHERE size = %(size)s FOR UPDATE"
_REPLACE_KEPT = """
INSERT INTO ledger.checkpoints (size, note) VALUES (%(size)s, %(note)s)
ON CONFLICT ON CONSTRAINT checkpoints_size DO UPDATE SET note = excluded.note
"""


class Rotation(NamedTuple):
    """What a rotation did.

    note  the checkpoint that both the retired and the new keys signed; it is kept
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


async def _keep(conn: Conn, size: int, note: str) -> str:
    """Keep the checkpoint, with the signatures that an older one of this size has. Returns all of it."""
    row = await fetch_one(conn, _LOCK_KEPT, {"size": size})
    if row is not None:
        note = parse_note(row[0]).merge(parse_note(note).signatures).to_text()
    await conn.execute(_REPLACE_KEPT, {"size": size, "note": note})
    return note
