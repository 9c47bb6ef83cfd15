"""Generations of read models with rows that releases before 0039 wrote in the clear.

An erasure writes the rows of its person again, but the files of a generation keep what it was before, until
the generation is dropped. When rows were written is not on record: what counts is that the generation began
before such releases had ended, and that the person was there by then. A rebuild after that seals all rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.postgres.connections import Conn, fetch_all

SEALED_PROJECTIONS = (
    "balance_transactions",
    "charges",
    "customers",
    "disputes",
    "feed",
    "file_links",
    "files",
    "legal_holds",
    "payment_intents",
    "redaction_jobs",
    "refunds",
    "resources",
    "webhook_endpoints",
)
"""Those with rows that are sealed, once no such release may run."""

# The position is how far the log went when the last such release had ended, and 0 in a database that has had
# none. The first generation of a projection is of no rebuild.
_CLEAR = """
SELECT c.projection || '_g' || c.generation
FROM ledger.key_migration m JOIN projections.checkpoints c ON c.projection = ANY (%(projections)s::text[])
LEFT JOIN projections.builds b ON (b.projection, b.generation) = (c.projection, c.generation)
LEFT JOIN projections.rebuilds r ON r.id = b.rebuild
WHERE m.position > 0 AND (m.finished_at IS NULL OR r.began_at IS NULL OR r.began_at < m.finished_at)
"""
_OF_OBJECTS = f"""{_CLEAR} AND EXISTS (
    SELECT FROM ledger.events e
    WHERE e.originator_id = ANY (%(objects)s::text[]) AND e.originator_version = 1
    AND e.notification_id <= m.position
) ORDER BY c.projection, c.generation
"""
_OF_JOB = f"""{_CLEAR} AND EXISTS (
    SELECT FROM ledger.erasure_streams s JOIN ledger.events e
    ON e.originator_id = s.stream AND e.originator_version = 1
    WHERE s.job = %(job)s AND e.notification_id <= m.position
) ORDER BY c.projection, c.generation
"""


async def list_clear_generations(conn: Conn, objects: Sequence[str]) -> list[str]:
    """The generations that may have rows of these objects in the clear, for example `customers_g1`. Raises
    psycopg.Error."""
    parameters = {"projections": list(SEALED_PROJECTIONS), "objects": list(objects)}
    return [name for (name,) in await fetch_all(conn, _OF_OBJECTS, parameters)]


async def list_clear_generations_of_job(conn: Conn, job: str) -> list[str]:
    """Those of what the erasure of a redaction job reaches. Raises psycopg.Error."""
    parameters = {"projections": list(SEALED_PROJECTIONS), "job": job}
    return [name for (name,) in await fetch_all(conn, _OF_JOB, parameters)]


def describe_clear_generations(generations: Sequence[str]) -> str:
    """One line for an operator and for a certificate: what is left, and what ends it."""
    return (
        f"files of {', '.join(generations)}, whose rows releases before 0039 wrote in the clear: until they "
        "are built again (ledger projections rebuild --all) and retired (ledger projections retire)"
    )
