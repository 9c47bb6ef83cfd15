"""Which streams an erasure reaches: what belongs to the person, and what hangs on that.

A stream that names the person as its customer; what names a charge or a payment intent of these, of the same
account; the files in the evidence of their disputes, and the links of these files; imported Events about any
of them. It is looked for again until nothing new is found. Then whatever of it has a data key of its own is
being erased, too: from then on nothing can be sealed for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ledger.domain.dispute import EvidenceStaged, EvidenceSubmitted
from ledger.domain.event import DomainEvent
from ledger.domain.evidence import FILE_FIELDS
from ledger.domain.file import FileLinked
from ledger.erasure.records import Erasure, Page, Place
from ledger.postgres.connections import Conn, fetch_one
from ledger.store.codec import Codec

PAGE_EVENTS = 20_000
PAGE_STREAMS = 2000
UNSEALED_TOPICS = ("customer_session.created", "customer_session.claimed", "customer_session.revoked")
"""Of streams that have no personal data; of a busy customer they are the most."""

# Each phase goes through its rows by a cursor; the last one begins a new round if there was anything new.
_SUBJECTS = """
INSERT INTO ledger.erasure_streams (job, stream)
SELECT %(job)s, subject FROM unnest(%(subjects)s::text[]) AS subject
ON CONFLICT ON CONSTRAINT erasure_streams_key DO NOTHING
"""
# Whoever names the person, of whatever account: what it says of him is sealed under his key.
_OF_CUSTOMERS = """
WITH page AS (
    SELECT e.originator_id, e.notification_id, e.topic FROM ledger.events e
    WHERE e.customer = %(customer)s AND e.notification_id > %(after)s
    ORDER BY e.notification_id LIMIT %(limit)s
), added AS (
    INSERT INTO ledger.erasure_streams (job, stream)
    SELECT DISTINCT %(job)s, originator_id FROM page WHERE topic <> ALL (%(unsealed)s::text[])
    ON CONFLICT ON CONSTRAINT erasure_streams_key DO NOTHING
    RETURNING stream
)
SELECT (SELECT count(*) FROM page), (SELECT max(notification_id) FROM page), (SELECT count(*) FROM added)
"""
_OF_PAYMENTS = """
WITH page AS (
    SELECT s.stream FROM ledger.erasure_streams s
    WHERE s.job = %(job)s AND s.stream > %(after)s ORDER BY s.stream LIMIT %(limit)s
), found AS (
    SELECT e.originator_id FROM page JOIN ledger.events e ON e.charge = page.stream
    WHERE e.account = %(account)s AND e.livemode = %(livemode)s AND e.topic <> ALL (%(unsealed)s::text[])
    UNION
    SELECT e.originator_id FROM page JOIN ledger.events e ON e.payment_intent = page.stream
    WHERE e.account = %(account)s AND e.livemode = %(livemode)s AND e.topic <> ALL (%(unsealed)s::text[])
    UNION
    SELECT k.stream FROM page JOIN ledger.stream_keys k ON k.subject = page.stream
), added AS (
    INSERT INTO ledger.erasure_streams (job, stream) SELECT %(job)s, originator_id FROM found
    ON CONFLICT ON CONSTRAINT erasure_streams_key DO NOTHING
    RETURNING stream
)
SELECT (SELECT count(*) FROM page), (SELECT max(stream) FROM page), (SELECT count(*) FROM added)
"""
_WITH_FILES = """
SELECT e.originator_id, e.originator_version, e.topic, e.state
FROM (SELECT s.stream FROM ledger.erasure_streams s
      WHERE s.job = %(job)s AND s.stream > %(after)s ORDER BY s.stream LIMIT %(limit)s) AS page
JOIN ledger.events e ON e.originator_id = page.stream AND e.topic = ANY (%(topics)s::text[])
ORDER BY e.originator_id, e.originator_version
"""
_LAST_OF_PAGE = """
SELECT count(*), max(stream) FROM (
    SELECT s.stream FROM ledger.erasure_streams s
    WHERE s.job = %(job)s AND s.stream > %(after)s ORDER BY s.stream LIMIT %(limit)s) AS page
"""
_ADD_NAMED = """
INSERT INTO ledger.erasure_streams (job, stream)
SELECT %(job)s, e.originator_id FROM ledger.events e
WHERE e.originator_id = ANY (%(streams)s::text[]) AND e.originator_version = 1
AND e.account = %(account)s AND e.livemode = %(livemode)s
ON CONFLICT ON CONSTRAINT erasure_streams_key DO NOTHING
"""
# Subjects besides those of the job: streams of the erasure for which something is sealed under their own id,
# and those for which it could be, because they name no customer. Those of another customer are left alone. Not
# EXISTS, for which all streams of the erasure could be read at each page.
_OWN_SUBJECTS = """
WITH page AS (
    SELECT s.stream FROM ledger.erasure_streams s
    WHERE s.job = %(job)s AND s.stream > %(after)s ORDER BY s.stream LIMIT %(limit)s
), sealed AS (
    SELECT ledger.sealed_subject(e.state) AS subject FROM page
    JOIN ledger.events e ON e.originator_id = page.stream
    UNION
    SELECT k.subject FROM page JOIN ledger.stream_keys k ON k.stream = page.stream
    UNION
    SELECT page.stream FROM page
    CROSS JOIN LATERAL (
        SELECT e.customer, e.topic FROM ledger.events e WHERE e.originator_id = page.stream
        ORDER BY e.originator_version DESC LIMIT 1) AS last
    WHERE last.customer IS NULL AND split_part(last.topic, '.', 1) = ANY (%(families)s::text[])
)
SELECT (SELECT count(*) FROM page), (SELECT max(stream) FROM page), ARRAY(
    SELECT DISTINCT subject FROM sealed
    WHERE subject IS NOT NULL AND (
        SELECT true FROM ledger.data_keys k
        WHERE k.subject = sealed.subject AND k.erasing_since IS NOT NULL) IS NULL
    AND (subject = ANY (%(subjects)s::text[]) OR (
        SELECT true FROM ledger.erasure_streams s WHERE s.job = %(job)s AND s.stream = sealed.subject)))
"""
_SEALABLE_FAMILIES = ("charge", "dispute", "refund", "payment_intent", "file", "file_link")
_BEGIN_ERASING = "SELECT ledger.begin_erasing(%(subjects)s::text[])"
_COUNT = "SELECT count(*) FROM ledger.erasure_streams WHERE job = %(job)s"
_KEYS_MIGRATED = "SELECT finished_at IS NOT NULL FROM ledger.key_migration"
_FILE_TOPICS = (EvidenceStaged.TOPIC, EvidenceSubmitted.TOPIC, FileLinked.TOPIC)
_PHASES = ("customers", "payments", "files", "subjects")


class Closure:
    """Finds the streams of erasures. `codec` opens what is being erased."""

    def __init__(self, codec: Codec, *, cache_seconds: float) -> None:
        self._codec = codec
        self._cache_seconds = cache_seconds

    async def run_page(self, conn: Conn, erasure: Erasure) -> Page:
        """One page of one phase, in the caller's transaction. A cursor has the phase, whether its round has
        found anything, and the place: `payments/new/ch_…`."""
        row = await fetch_one(conn, _KEYS_MIGRATED)
        if row is None or not row[0]:
            return Page(obstacle="the keys of streams that older releases have sealed are not all stored yet")
        phase, found, after = (erasure.place.cursor or "customers//").split("/", 2)
        if phase == "customers":
            is_last, after, added = await self._add_of_customers(conn, erasure, after)
        elif phase == "payments":
            is_last, after, added = await self._add_page(conn, _OF_PAYMENTS, erasure, after)
        elif phase == "files":
            is_last, after, added = await self._add_files(conn, erasure, after)
        else:
            return await self._add_subjects(conn, erasure, after, found=found)
        found = "new" if added and phase != "customers" else found
        if not is_last:
            return Page(Place(f"{phase}/{found}/{after}"))
        following = _PHASES[_PHASES.index(phase) + 1]
        if following == "subjects" and found:
            following, found = "payments", ""
        return Page(Place(f"{following}/{found}/"))

    async def _add_of_customers(self, conn: Conn, erasure: Erasure, after: str) -> tuple[bool, str, int]:
        """The streams that name a subject as their customer: of one subject after the other, by position."""
        if not after:
            await conn.execute(_SUBJECTS, {"job": erasure.job, "subjects": erasure.subjects})
        index, position = (int(part) for part in (after or "0:0").split(":"))
        parameters = {
            "job": erasure.job, "customer": erasure.subjects[index], "after": position, "limit": PAGE_EVENTS,
            "unsealed": list(UNSEALED_TOPICS),
        }  # fmt: skip
        row = await fetch_one(conn, _OF_CUSTOMERS, parameters)
        assert row is not None
        count, last, added = row
        if count == PAGE_EVENTS:
            return False, f"{index}:{last}", added
        return index + 1 == len(erasure.subjects), f"{index + 1}:0", added

    async def _add_page(
        self, conn: Conn, statement: str, erasure: Erasure, after: str
    ) -> tuple[bool, str, int]:
        row = await fetch_one(conn, statement.encode(), self._bind(erasure, after))
        assert row is not None
        count, last, added = row
        return count < PAGE_STREAMS, last or "", added

    async def _add_files(self, conn: Conn, erasure: Erasure, after: str) -> tuple[bool, str, int]:
        """The files in evidence, and the links of files."""
        parameters = self._bind(erasure, after)
        last = await fetch_one(conn, _LAST_OF_PAGE, parameters)
        assert last is not None
        cur = conn.cursor(binary=True)
        await cur.execute(_WITH_FILES, {**parameters, "topics": list(_FILE_TOPICS)})
        rows = await cur.fetchall()
        codec = await self._codec.prepare(conn, rows)
        named = set(_list_named(codec.decode_event(*row) for row in rows))
        added = 0
        if named:
            cur = await conn.execute(_ADD_NAMED, {**parameters, "streams": sorted(named)})
            added = cur.rowcount
        return last[0] < PAGE_STREAMS, last[1] or "", added

    async def _add_subjects(self, conn: Conn, erasure: Erasure, after: str, *, found: str) -> Page:
        """What of the streams has a data key of its own. After the last page another round follows if there
        was any: what was sealed before may have been for something new."""
        row = await fetch_one(conn, _OWN_SUBJECTS.encode(), self._bind(erasure, after))
        assert row is not None
        count, last, subjects = row
        cache_seconds = None
        if subjects:
            await conn.execute(_BEGIN_ERASING, {"subjects": subjects})
            found, cache_seconds = "new", self._cache_seconds
        if count == PAGE_STREAMS:
            return Page(Place(f"subjects/{found}/{last}"), cache_seconds=cache_seconds)
        if found:
            return Page(Place("customers//"), cache_seconds=cache_seconds)
        row = await fetch_one(conn, _COUNT, {"job": erasure.job})
        assert row is not None
        return Page(counts={"streams": row[0]}, cache_seconds=self._cache_seconds)

    def _bind(self, erasure: Erasure, after: str) -> dict[str, Any]:
        return {
            "job": erasure.job, "account": erasure.account, "livemode": erasure.livemode,
            "subjects": erasure.subjects, "after": after, "limit": PAGE_STREAMS,
            "unsealed": list(UNSEALED_TOPICS), "families": list(_SEALABLE_FAMILIES),
        }  # fmt: skip


def _list_named(events: Iterable[DomainEvent]) -> Iterator[str]:
    """The files that evidence names, and the links that files have."""
    for event in events:
        match event:
            case EvidenceStaged(evidence=evidence) | EvidenceSubmitted(evidence=evidence):
                values = [value for name, value in (evidence or {}).items() if name in FILE_FIELDS]
                yield from (value for value in values if isinstance(value, str))
            case FileLinked(link=link):
                yield link
