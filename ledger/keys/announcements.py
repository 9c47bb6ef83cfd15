"""Which service keys the running processes have, and which one each wraps under, as others can see it.

A process holds shared advisory locks for that on its connection, so they end with it, however it ends.
Whoever replaces the service key looks at them: a process without the new key could not read what others wrap
under it, and one that still wraps under the old key would add to what has to be wrapped again.
"""

from __future__ import annotations

import structlog

from ledger.errors import ServiceKeyMissing
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import Conn, fetch_all, fetch_one

_HAS = "ledger.has_service_key"
_WRAPS = "ledger.wraps_under"

_SELECT_CURRENT = "SELECT id FROM ledger.service_keys WHERE state = 'current'"
_ANNOUNCE = "SELECT pg_advisory_lock_shared(hashtext(%(what)s), hashtext(%(key)s))"
_WITHDRAW = "SELECT pg_advisory_unlock_shared(hashtext(%(what)s), hashtext(%(key)s))"
# One row a process. Its locks are in one snapshot: pg_locks is read once.
_SELECT_PROCESSES = """
SELECT l.pid, coalesce(bool_or(l.objid = k.hash AND l.classid = h.has), false),
       coalesce(bool_or(l.objid <> k.hash AND l.classid = h.wraps), false)
FROM pg_locks l
CROSS JOIN (SELECT (hashtext(%(key)s)::bigint & 4294967295)::oid AS hash) k
CROSS JOIN (SELECT (hashtext(%(has)s)::bigint & 4294967295)::oid AS has,
                   (hashtext(%(wraps)s)::bigint & 4294967295)::oid AS wraps) h
WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.classid IN (h.has, h.wraps)
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY l.pid ORDER BY l.pid
"""

log = structlog.get_logger()


class KeyAnnouncement:
    """What one process announces of its keys; and the process wraps under the key that is the current one."""

    def __init__(self, keys: ServiceKeys) -> None:
        self._keys = keys
        self._announced: tuple[int, str] | None = None

    async def refresh(self, conn: Conn) -> None:
        """Wrap under the database's current key, and announce it on this connection, which the process keeps.
        Raises psycopg.Error."""
        row = await fetch_one(conn, _SELECT_CURRENT)
        if row is not None and row[0] != self._keys.current_id:
            try:
                self._keys.wrap_under(row[0])
            except ServiceKeyMissing as error:
                log.error("service_key_missing", reason=str(error))
        pid, current_id = conn.info.backend_pid, self._keys.current_id
        if self._announced == (pid, current_id):
            return
        if self._announced is not None and self._announced[0] == pid:
            await conn.execute(_WITHDRAW, {"what": _WRAPS, "key": self._announced[1]})
        else:
            for key_id in self._keys.ids:
                await conn.execute(_ANNOUNCE, {"what": _HAS, "key": key_id})
        await conn.execute(_ANNOUNCE, {"what": _WRAPS, "key": current_id})
        self._announced = (pid, current_id)


async def list_announced(conn: Conn, key_id: str) -> list[tuple[int, bool, bool]]:
    """The running processes that may wrap keys: (process id of its session in the database, whether it has
    this service key, whether it wraps under another one). Raises psycopg.Error."""
    rows = await fetch_all(conn, _SELECT_PROCESSES, {"key": key_id, "has": _HAS, "wraps": _WRAPS})
    return [(pid, has_key, wraps_under_other) for pid, has_key, wraps_under_other in rows]
