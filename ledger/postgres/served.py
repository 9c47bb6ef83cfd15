"""Which releases may run on a database: new forms of stored data wait until no release is left that cannot
read them.

`ledger.served` names the oldest one. A contract migration raises it, and so does `ledger migrate --contract`.
"""

from __future__ import annotations

from ledger.postgres.connections import Conn, fetch_one

COMPRESSED_SINCE = "0020"
"""The schema version of the first release that reads compressed documents."""

REPLIES_AS_BYTES_SINCE = "0021"
"""The schema version of the first release that reads replies in the column `compressed`."""

_SELECT_OLDEST = "SELECT oldest FROM ledger.served"


async def may_compress(conn: Conn) -> bool:
    """Whether every release that may run on this database reads compressed documents. Raises
    psycopg.Error."""
    return await _fetch_oldest(conn) >= COMPRESSED_SINCE


async def may_store_replies_as_bytes(conn: Conn) -> bool:
    """Whether every release that may run on this database reads replies in the column `compressed`. Raises
    psycopg.Error."""
    return await _fetch_oldest(conn) >= REPLIES_AS_BYTES_SINCE


async def _fetch_oldest(conn: Conn) -> str:
    row = await fetch_one(conn, _SELECT_OLDEST)
    return row[0] if row is not None else ""
