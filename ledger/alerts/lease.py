"""The lease of the one process that watches and sends alerts, of all that run.

Every process tries to hold it again and again; while one does, the others get nothing. It ends by time: a
process that is killed, stopped or hangs gives it up by not renewing it, at most LEASE_SECONDS later. Whoever
changes alerts does it in a transaction that has checked the lease and locked it, so a process that goes on
after it was stopped changes nothing. A session that is stopped in such a transaction is ended by the server
(`SETTINGS`). In a copy of the database nobody gets the lease.
"""

from __future__ import annotations

import os
import secrets
import socket
import time

from ledger.postgres.connections import READ_PLANNER_SETTINGS, Conn, fetch_one
from ledger.postgres.sessions import LOCAL_COMMITS

LEASE_SECONDS = 4.0
SETTINGS = READ_PLANNER_SETTINGS | LOCAL_COMMITS | {"idle_in_transaction_session_timeout": "3s"}

_HOLD = """
UPDATE alerts.lease
SET holder = %(holder)s, leased_until = clock_timestamp() + %(seconds)s * interval '1 second',
    looked_at = CASE WHEN %(has_looked)s THEN clock_timestamp() ELSE looked_at END
WHERE (holder = %(holder)s OR leased_until < clock_timestamp()) AND ledger.is_active_database()
RETURNING true
"""
_LOCK = """
SELECT true FROM alerts.lease WHERE holder = %(holder)s AND leased_until > clock_timestamp() FOR UPDATE
"""
_RELEASE = "UPDATE alerts.lease SET leased_until = '-infinity' WHERE holder = %(holder)s"


class Lease:
    """The lease as one process holds it, or not."""

    def __init__(self) -> None:
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._held_until = 0.0

    @property
    def is_held(self) -> bool:
        """Whether this process holds it, by its own clock: never longer than by the database's."""
        return time.monotonic() < self._held_until

    async def hold(self, conn: Conn, *, has_looked: bool) -> bool:
        """Take or renew it; returns whether this process holds it now. `has_looked`: whether a look has ended
        since it was last renewed. Raises psycopg.Error."""
        asked_at = time.monotonic()
        parameters = {"holder": self._holder, "seconds": LEASE_SECONDS, "has_looked": has_looked}
        is_held = await fetch_one(conn, _HOLD, parameters) is not None
        self._held_until = asked_at + LEASE_SECONDS if is_held else 0.0
        return is_held

    async def lock(self, conn: Conn) -> bool:
        """Lock it in the caller's transaction; returns whether this process still holds it."""
        return await fetch_one(conn, _LOCK, {"holder": self._holder}) is not None

    async def release(self, conn: Conn) -> None:
        """Let another process have it at once."""
        self._held_until = 0.0
        await conn.execute(_RELEASE, {"holder": self._holder})
