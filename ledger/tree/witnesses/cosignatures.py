"""What witnesses have signed, in Postgres: cosignatures in the kept checkpoints, and the state of each
witness.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from ledger.metrics.backlogs import WitnessStatus
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.tlog.notes import NoteSignature, parse_note

_LOCK_NOTE = "SELECT note FROM ledger.checkpoints WHERE size = %(size)s FOR UPDATE"
_STORE_NOTE = """
UPDATE ledger.checkpoints SET note = %(note)s, cosignatures = %(cosignatures)s WHERE size = %(size)s
"""
_STATUS = """
SELECT w.id, w.size, w.state, w.reason,
       greatest(0, extract(epoch FROM now() - (
           SELECT c.made_at FROM ledger.checkpoints c WHERE c.size > w.size ORDER BY c.size LIMIT 1)))::float8
FROM ledger.witnesses w ORDER BY w.id
"""
_SIZE = "SELECT size FROM ledger.witnesses WHERE id = %(id)s"
_RECORD = """
INSERT INTO ledger.witnesses (id, size, state, reason) VALUES (%(id)s, %(size)s, %(state)s, %(reason)s)
ON CONFLICT ON CONSTRAINT witnesses_id DO UPDATE SET size = excluded.size, state = excluded.state,
    reason = excluded.reason, changed_at = now()
"""
_FORGET_OTHERS = "DELETE FROM ledger.witnesses WHERE id <> ALL (%(ids)s::text[])"


class WitnessState(StrEnum):
    """How a witness answered last.

    COSIGNS      with a cosignature, or it was not asked yet
    UNREACHABLE  not at all, or not in the form of the protocol
    REFUSES      it does not know our log or its key, or what it sent is not signed with its key
    CONTRADICTS  it has cosigned a tree of our log that ours does not continue: it is not asked again
    """

    COSIGNS = "cosigns"
    UNREACHABLE = "unreachable"
    REFUSES = "refuses"
    CONTRADICTS = "contradicts"


async def store_cosignatures(conn: Conn, size: int, origin: str, lines: Sequence[NoteSignature]) -> None:
    """Add verified cosignatures to the kept checkpoint of this size. Raises psycopg.Error."""
    async with conn.transaction():
        row = await fetch_one(conn, _LOCK_NOTE, {"size": size})
        if row is None:  # a crash of the server has lost it; the next one is cosigned as well
            return
        note = parse_note(row[0]).merge(lines)
        cosignatures = len({line.name for line in note.signatures} - {origin})
        await conn.execute(_STORE_NOTE, {"size": size, "note": note.to_text(), "cosignatures": cosignatures})


async def read_witnesses(conn: Conn) -> list[WitnessStatus]:
    """All witnesses that are configured, by id. Raises psycopg.Error."""
    return [WitnessStatus(*row) for row in await fetch_all(conn, _STATUS)]


async def read_cosigned_size(conn: Conn, witness: str) -> int:
    """The size of the last checkpoint that a witness cosigned; 0 for none. Raises psycopg.Error."""
    row = await fetch_one(conn, _SIZE, {"id": witness})
    return 0 if row is None else int(row[0])


async def record_witness(
    conn: Conn, witness: str, size: int, state: WitnessState, reason: str | None
) -> None:
    """Record how a witness answered. Raises psycopg.Error."""
    await conn.execute(_RECORD, {"id": witness, "size": size, "state": state, "reason": reason})


async def forget_other_witnesses(conn: Conn, ids: Sequence[str]) -> None:
    """Delete the states of witnesses that are not configured any more. Raises psycopg.Error."""
    await conn.execute(_FORGET_OTHERS, {"ids": list(ids)})
