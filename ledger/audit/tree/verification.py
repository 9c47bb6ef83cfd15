"""The verification of the log in ranges, for a caller who goes on from one to the next.

Nothing is kept between two calls, and no call shows content: only positions and numbers. A process verifies
one range at a time, for about a second, so whoever verifies takes little from those who append.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ledger.audit.tree.proofs import read_sealed
from ledger.errors import InvalidParameter, NotSealedYet
from ledger.postgres.connections import Conn
from ledger.queries.context import QueryContext
from ledger.tlog.tiles import TILE_WIDTH
from ledger.tree.keys import Keyring
from ledger.tree.verification import Verification, verify_range

RANGE_EVENTS_MAX = 65_536
RANGE_SECONDS = 1.0


class RangeVerifier:
    """Verifies ranges of the log of one process's database."""

    def __init__(self, queries: QueryContext) -> None:
        self._queries = queries
        self._keyring = Keyring(queries.store.service_keys)
        self._turn = asyncio.Lock()

    async def verify(self, begin: int, end: int | None) -> dict[str, Any]:
        """What differs in the events after position `begin`, up to `end` (default: the end of the tree), and
        where to go on. Raises InvalidParameter, NotSealedYet and Unavailable."""
        if begin % TILE_WIDTH:
            raise InvalidParameter(
                f"`from` must be a multiple of {TILE_WIDTH}: a tile begins there.", param="from"
            )
        if end is not None and begin > end:
            raise InvalidParameter(f"`from` is {begin}, which is after `to`, {end}.", param="from")

        async def read(conn: Conn) -> dict[str, Any]:
            tree = await read_sealed(conn, {"to": end, "from": begin})
            if not tree.note:
                raise NotSealedYet("There is no checkpoint yet. Try again in a moment.")
            goal = tree.size if end is None else end
            upto = min(goal, begin + RANGE_EVENTS_MAX)
            verified = await verify_range(conn, self._keyring, begin, upto, seconds=RANGE_SECONDS)
            return _render(verified, begin, goal)

        async with self._turn:
            return await self._queries.pool.run_idempotent(read)


def _render(verified: Verification, begin: int, goal: int) -> dict[str, Any]:
    return {
        "object": "log_verification",
        "from": begin,
        "to": verified.upto,
        "records": verified.upto - begin,
        "checkpoints": verified.checkpoints,
        "size": verified.sealed,
        "ok": not verified.findings,
        "differences": [finding._asdict() for finding in verified.findings],
        "next": verified.upto if verified.upto < goal else None,
    }
