"""Why the batches of a generation cannot be written: held back for a while, logged once, kept for operators.

The reason is kept in the database as well, because only the process that ran the batch has it in its log. A
batch that fails with its connection is not kept: then there is nothing to write to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from ledger.postgres.connections import Conn, fetch_all
from projections.engine.batch import GenerationKey, Target

RETRY_SECONDS = 5.0

_KEEP = """
INSERT INTO projections.batch_failures AS f (projection, generation, error)
VALUES (%(projection)s, %(generation)s, %(error)s)
ON CONFLICT ON CONSTRAINT batch_failures_key DO UPDATE
SET error = excluded.error, since = CASE WHEN f.error = excluded.error THEN f.since ELSE excluded.since END
"""
_FORGET = (
    "DELETE FROM projections.batch_failures WHERE projection || '_g' || generation = ANY (%(keys)s::text[])"
)
_LIST = "SELECT projection, generation, error FROM projections.batch_failures"

_log = logging.getLogger("ledger.projections")


class BatchFailures:
    """The generations of one runner whose last batch could not be written."""

    def __init__(self) -> None:
        self._errors: dict[GenerationKey, str] = {}
        self._retry_at: dict[GenerationKey, float] = {}
        self._forgotten: set[GenerationKey] = set()

    def is_held_back(self, key: GenerationKey, now: float) -> bool:
        """Whether the generation failed less than RETRY_SECONDS ago; `now` by the event loop's clock."""
        return self._retry_at.get(key, 0.0) > now

    async def record(
        self, conn: Conn, written: Iterable[Target], errors: Mapping[GenerationKey, str]
    ) -> None:
        """Log and keep what failed, each reason once, and forget what was written. Raises psycopg.Error."""
        keys = {target.key for target in written}
        for key in keys & self._errors.keys():
            _log.warning("projection %s: recovered", key)
            del self._errors[key], self._retry_at[key]
        # Once by each process whatever it knows: one before it may have left something.
        if new := keys - self._forgotten:
            await conn.execute(_FORGET, {"keys": list(map(str, new))})
            self._forgotten |= new
        for key, error in errors.items():
            self._retry_at[key] = asyncio.get_running_loop().time() + RETRY_SECONDS
            if self._errors.get(key) != error:
                _log.error("projection %s: batch failed, will retry: %s", key, error)
                await conn.execute(_KEEP, {**key._asdict(), "error": error})
            self._errors[key] = error
            self._forgotten.discard(key)


def log_parked(targets: Iterable[Target]) -> None:
    """Log the streams that a batch parked."""
    for target in targets:
        for parked in target.newly_parked:
            _log.error(
                "projection %s: parked stream %s from position %d (topic %s): %s",
                target.key, parked.stream, parked.position, parked.topic, parked.error,
            )  # fmt: skip


async def list_failures(conn: Conn) -> dict[GenerationKey, str]:
    """Why the last batch of a generation could not be written. Raises psycopg.Error."""
    return {
        GenerationKey(name, generation): error for name, generation, error in await fetch_all(conn, _LIST)
    }
