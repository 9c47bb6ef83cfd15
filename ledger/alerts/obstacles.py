"""Why background work does not move, as far as the database can tell: no worker, a lock, no standby.

Workers pass over a row that somebody else has locked and try again later, so nobody is seen to wait for it.
But whoever has locked one is seen: a transaction that two looks in a row find there holds it for long.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from ledger.postgres.connections import Conn, fetch_all, fetch_one

Work = Literal["projections", "fan-out", "sealing"]

_STATE = """
SELECT EXISTS (SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'ledger projections'),
       current_setting('synchronous_standby_names') <> '' AND NOT EXISTS (SELECT FROM pg_stat_replication)
"""
# Each kind of work locks the row of its progress, and writes it. Readers lock nothing but against a DROP.
_HOLDERS = """
SELECT CASE c.oid WHEN 'projections.checkpoints'::regclass THEN 'projections'
                  WHEN 'webhooks.checkpoint'::regclass THEN 'fan-out' ELSE 'sealing' END,
       l.pid, l.virtualtransaction, coalesce(nullif(a.application_name, ''), 'unnamed')
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.mode <> 'AccessShareLock'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND c.oid IN ('projections.checkpoints'::regclass, 'webhooks.checkpoint'::regclass,
                'ledger.tree_head'::regclass)
"""
_BLOCKERS = """
SELECT CASE a.application_name WHEN 'ledger projections' THEN 'projections'
                               WHEN 'ledger sealer' THEN 'sealing' ELSE 'fan-out' END,
       b.pid, coalesce(nullif(h.application_name, ''), 'unnamed')
FROM pg_stat_activity a
CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b(pid)
LEFT JOIN pg_stat_activity h ON h.pid = b.pid
WHERE a.datname = current_database()
  AND a.application_name IN ('ledger projections', 'ledger sealer', 'ledger webhooks fan-out')
"""


class Obstacles(NamedTuple):
    """What keeps work from being done.

    has_worker    whether a worker is connected that applies events
    has_standby   whether a standby is connected, if the server waits for one: what none has is not applied
    holders       by kind of work, the sessions that hold a lock it needs: their names by process id
    """

    has_worker: bool
    has_standby: bool
    holders: Mapping[Work, Mapping[int, str]]


class ObstacleSearch:
    """Looks for obstacles again and again, for one process."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, str]] = set()

    async def read(self, conn: Conn) -> Obstacles:
        """What there is now. A lock counts from the second look on. Raises psycopg.Error."""
        row = await fetch_one(conn, _STATE)
        assert row is not None
        holders: dict[Work, dict[int, str]] = {}
        seen = set()
        for work, pid, transaction, name in await fetch_all(conn, _HOLDERS):
            seen.add((pid, transaction))
            if (pid, transaction) in self._seen:
                holders.setdefault(work, {})[pid] = name
        self._seen = seen
        for work, pid, name in await fetch_all(conn, _BLOCKERS):
            holders.setdefault(work, {})[pid] = name
        return Obstacles(row[0], not row[1], holders)
