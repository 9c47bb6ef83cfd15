"""The witnesses of the log, as operators have configured them, and how far each has cosigned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger.metrics.backlogs import WitnessStatus
from ledger.postgres.connections import Conn
from ledger.tree.witnesses.addresses import WitnessAddress
from ledger.tree.witnesses.cosignatures import WitnessState, read_witnesses


async def list_witnesses(conn: Conn, witnesses: Sequence[WitnessAddress]) -> dict[str, Any]:
    """All of them, also those that were not asked yet, with the keys that verify their cosignatures. Raises
    psycopg.Error.

    witnesses  those of the settings
    """
    rows = await read_witnesses(conn)
    keys = {witness.id: [str(key) for key in witness.keys] for witness in witnesses}
    asked = {row.witness for row in rows}
    rows += [
        WitnessStatus(each, 0, WitnessState.COSIGNS, None, 0.0) for each in sorted(keys) if each not in asked
    ]
    return {
        "object": "list",
        "url": "/internal/v1/audit/witnesses",
        "has_more": False,
        "data": [_render(row, keys.get(row.witness, [])) for row in rows],
    }


def _render(row: WitnessStatus, keys: list[str]) -> dict[str, Any]:
    return {
        "id": row.witness,
        "name": row.witness.rpartition("+")[0],
        "keys": keys,
        "size": row.size,
        "state": row.state,
        "reason": row.reason,
        "behind_seconds": round(row.behind_seconds, 3),
    }
