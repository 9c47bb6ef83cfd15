"""Deletes what else names an erased person: the chunks of files, and what is kept of requests."""

from __future__ import annotations

from ledger.erasure.records import Erasure, Page, Place
from ledger.postgres.connections import Conn, fetch_one

PAGE_STREAMS = 20_000
PAGE_REQUESTS = 20_000

# What a file had is sealed under its own key, which is destroyed by now: this frees the room.
_DELETE_CHUNKS = """
WITH page AS (
    SELECT s.stream FROM ledger.erasure_streams s
    WHERE s.job = %(job)s AND s.stream > %(after)s ORDER BY s.stream LIMIT %(limit)s
), deleted AS (
    DELETE FROM ledger.file_chunks c USING page, ledger.data_keys k
    WHERE c.file = page.stream AND k.destroyed_at IS NOT NULL
    AND k.subject = c.file AND ledger.key_group(k.subject) = ledger.key_group(c.file)
    RETURNING c.number
)
SELECT (SELECT count(*) FROM page), (SELECT max(stream) FROM page),
       count(*) FILTER (WHERE number = 0), count(*)
FROM deleted
"""
# What may be an id in a text: of any form that an id may have (`Id` of `ledger/commands/models`), also at the
# end of a sentence, and before what follows it in a path.
_LIST_IDS = r"""
SELECT rtrim(found[1], '.') AS name FROM regexp_matches({text}, '[A-Za-z0-9_.-]+', 'g') AS found
UNION ALL SELECT found[1] FROM regexp_matches({text}, '[A-Za-z]\w*_\w+', 'g') AS found
"""
_IDS_OF_REQUEST = _LIST_IDS.format(text="concat_ws(' ', r.path, r.message)")
# What a client sent is cut out of these before they are stored; ids are not.
_DELETE_REQUESTS = f"""
WITH page AS (
    SELECT r.number, ARRAY({_IDS_OF_REQUEST}) AS names
    FROM request_log.requests r WHERE r.number > %(after)s ORDER BY r.number LIMIT %(limit)s
), deleted AS (
    DELETE FROM request_log.requests r USING page
    WHERE r.number = page.number AND EXISTS (
        SELECT FROM unnest(page.names) AS name
        JOIN ledger.erasure_streams s ON s.job = %(job)s AND s.stream = name)
    RETURNING r.number
)
SELECT (SELECT count(*) FROM page), (SELECT max(number) FROM page), count(*) FROM deleted
"""  # noqa: S608 (a constant)
# Kept for minutes, until the developer's terminal has acknowledged them.
_DELETE_CLI_LOGS = f"""
WITH deleted AS (
    DELETE FROM stripe_cli.request_logs l
    WHERE EXISTS (
        SELECT FROM ({_LIST_IDS.format(text="l.payload")}) AS found
        JOIN ledger.erasure_streams s ON s.job = %(job)s AND s.stream = found.name)
    RETURNING id
)
SELECT count(*) FROM deleted
"""  # noqa: S608 (a constant)


async def delete_chunks(conn: Conn, erasure: Erasure) -> Page:
    """Delete the chunks of the files among the erasure's next streams, in the caller's transaction. Raises
    psycopg.Error."""
    parameters = {"job": erasure.job, "after": erasure.place.cursor, "limit": PAGE_STREAMS}
    row = await fetch_one(conn, _DELETE_CHUNKS, parameters)
    assert row is not None
    count, last, files, chunks = row
    return Page(Place(last) if count == PAGE_STREAMS else None, {"files": files, "file_chunks": chunks})


async def delete_requests(conn: Conn, erasure: Erasure) -> Page:
    """Delete those of the next requests on record that name a stream of the erasure, in the caller's
    transaction; last, those that wait for the Stripe CLI. Raises psycopg.Error."""
    after = int(erasure.place.cursor or 0)
    parameters = {"job": erasure.job, "after": after, "limit": PAGE_REQUESTS}
    row = await fetch_one(conn, _DELETE_REQUESTS, parameters)
    assert row is not None
    count, last, deleted = row
    if count == PAGE_REQUESTS:
        return Page(Place(str(last)), {"requests": deleted})
    row = await fetch_one(conn, _DELETE_CLI_LOGS, {"job": erasure.job})
    assert row is not None
    return Page(counts={"requests": deleted + row[0]})
