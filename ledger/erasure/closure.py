"""Which streams an erasure reaches: what belongs to the person, and what hangs on that.

A stream that names the person as its customer; what of the same account names a charge or a payment intent of
these; the files in the evidence of their disputes, and the links of these files; imported Events about any of
them. It is looked for again until nothing new is found. Then whatever of it has a data key of its own is
being erased, too: from then on nothing can be sealed for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from ledger.domain.legal_hold import find_hold_id
from ledger.domain.redaction_roots import NAMING_TOPICS, list_named
from ledger.domain.subjects import choose_subject
from ledger.erasure.records import Erasure, Page, Place
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.store.codec import Codec
from ledger.store.seals.records import find_sealed_subject

PAGE_EVENTS = 20_000
PAGE_STREAMS = 5000
UNSEALED_TOPICS = ("customer_session.created", "customer_session.claimed", "customer_session.revoked")
"""Of streams that have no personal data; of a busy customer they are the most."""

_SUBJECTS = """
INSERT INTO ledger.erasure_streams (job, stream)
SELECT %(job)s, subject FROM unnest(%(subjects)s::text[]) AS subject
ON CONFLICT ON CONSTRAINT erasure_streams_key DO NOTHING
"""
# Whoever names the person, of whatever account: what it says of him is sealed under his key.
_OF_CUSTOMER = """
WITH page AS (
    SELECT e.originator_id, e.notification_id, e.topic FROM ledger.events e
    WHERE e.customer = %(customer)s AND e.notification_id > %(after)s
    ORDER BY e.customer, e.notification_id LIMIT %(limit)s
), added AS (
    INSERT INTO ledger.erasure_streams (job, stream)
    SELECT DISTINCT %(job)s, originator_id FROM page WHERE topic <> ALL (%(unsealed)s::text[])
    ON CONFLICT ON CONSTRAINT erasure_streams_key DO NOTHING
)
SELECT count(*), max(notification_id) FROM page
"""
# The streams that were found after the one of a number, in the order in which they were found. The statements
# below are given their ids, and begin with these: joined with the table, whose size the planner does not know
# while it is being filled, they went through the whole log for each page.
_PAGE = """
SELECT s.stream, s.number FROM ledger.erasure_streams s
WHERE s.job = %(job)s AND s.number > %(after)s ORDER BY s.number LIMIT %(limit)s
"""
_OF_THE_SAME_ACCOUNT = """((e.account, e.livemode) = (%(account)s, %(livemode)s) OR EXISTS (
        SELECT FROM ledger.events f WHERE f.originator_id = page.stream AND f.originator_version = 1
        AND (f.account, f.livemode) = (e.account, e.livemode)))"""
# What hangs on a page of them is found later than they are, so it is in a page after it. Streams of other
# accounts, which name the person, are looked up as what hangs on them is found.
_OF_PAYMENTS = f"""
WITH page AS MATERIALIZED (
    SELECT json_array_elements_text(%(streams)s::json) AS stream
), found AS (
    SELECT e.originator_id FROM page JOIN ledger.events e ON e.charge = page.stream
    WHERE {_OF_THE_SAME_ACCOUNT} AND e.topic <> ALL (%(unsealed)s::text[])
    UNION
    SELECT e.originator_id FROM page JOIN ledger.events e ON e.payment_intent = page.stream
    WHERE {_OF_THE_SAME_ACCOUNT} AND e.topic <> ALL (%(unsealed)s::text[])
    UNION
    SELECT k.stream FROM page JOIN ledger.stream_keys k ON k.subject = page.stream
    JOIN ledger.events e ON e.originator_id = k.stream COLLATE "default" AND e.originator_version = 1
)
INSERT INTO ledger.erasure_streams (job, stream) SELECT %(job)s, originator_id FROM found
ON CONFLICT ON CONSTRAINT erasure_streams_key DO NOTHING
"""  # noqa: S608 (a constant)
# The events of a page of streams that may name files.
_WITH_FILES = """
SELECT e.originator_id, e.originator_version, e.topic, e.state, e.account, e.livemode
FROM json_array_elements_text(%(streams)s::json) AS page (stream)
JOIN ledger.events e ON e.originator_id = page.stream
WHERE e.topic = ANY (%(topics)s::text[])
"""
# Those of the streams that have not always named a customer of the job: whom they named, and what they were
# sealed for.
_OF_OTHERS = """
WITH others AS MATERIALIZED (
    SELECT DISTINCT page.stream
    FROM json_array_elements_text(%(streams)s::json) AS page (stream)
    JOIN ledger.events e ON e.originator_id = page.stream
    WHERE (e.customer = ANY (%(subjects)s::text[])) IS NOT TRUE
)
SELECT e.originator_id, e.originator_version, e.customer, split_part(e.topic, '.', 1), e.state,
       k.subject
FROM others JOIN ledger.events e ON e.originator_id = others.stream
LEFT JOIN ledger.stream_keys k ON k.stream = others.stream
"""
_ADD_NAMED = """
INSERT INTO ledger.erasure_streams (job, stream)
SELECT %(job)s, e.originator_id
FROM json_to_recordset(%(named)s::json) AS named (stream text, account text, livemode boolean)
JOIN ledger.events e ON e.originator_id = named.stream AND e.originator_version = 1
AND (e.account, e.livemode) = (named.account, named.livemode)
ON CONFLICT ON CONSTRAINT erasure_streams_key DO NOTHING
"""
# Subjects besides those of the job: the streams of the erasure that are subjects themselves, and objects that
# only imported Events are about. What is sealed for another customer is left alone; so is a key under which
# another account or mode has sealed something: a resource can be published under any id, also under that of a
# customer whom others name.
_NEW_SUBJECTS = """
SELECT subject FROM unnest(%(found)s::text[]) AS found (subject)
WHERE (SELECT true FROM ledger.data_keys k
       WHERE k.subject = found.subject AND ledger.key_group(k.subject) = ledger.key_group(found.subject)
       AND k.erasing_since IS NOT NULL) IS NULL
AND (subject = ANY (%(subjects)s::text[]) OR (
    SELECT true FROM ledger.erasure_streams s WHERE s.job = %(job)s AND s.stream = found.subject)
    AND NOT EXISTS (
        SELECT FROM ledger.events e WHERE e.customer = found.subject
        AND (e.account, e.livemode) <> (%(account)s, %(livemode)s))
    OR NOT EXISTS (SELECT FROM ledger.events e WHERE e.originator_id = found.subject)
    AND NOT EXISTS (SELECT FROM ledger.events e WHERE e.customer = found.subject))
"""
_SEALABLE_FAMILIES = ("charge", "dispute", "refund", "payment_intent", "file", "file_link")
_PUBLISHED = "resource"
"""The family of the objects that may name one customer after the other, and then nobody."""
_BEGIN_ERASING = "SELECT ledger.begin_erasing(%(subjects)s::text[])"
_COUNT = "SELECT count(*) FROM ledger.erasure_streams WHERE job = %(job)s"
_KEYS_MIGRATED = "SELECT finished_at IS NOT NULL FROM ledger.key_migration"
_encode_json = msgspec.json.Encoder().encode


class Closure:
    """Finds the streams of erasures. `codec` opens what is being erased."""

    def __init__(self, codec: Codec, *, cache_seconds: float) -> None:
        self._codec = codec
        self._cache_seconds = cache_seconds

    async def run_page(self, conn: Conn, erasure: Erasure) -> Page:
        """One page of one phase, in the caller's transaction. A cursor has the phase and the place in it;
        the phase `again` is that of subjects in a round that has found some."""
        row = await fetch_one(conn, _KEYS_MIGRATED)
        if row is None or not row[0]:
            return Page(obstacle="the keys of streams that older releases have sealed are not all stored yet")
        phase, after = (erasure.place.cursor or "customers:0").split(":")
        if phase == "customers":
            return await self._add_of_customers(conn, erasure, int(after))
        if phase == "streams":
            return await self._add_what_hangs_on(conn, erasure, int(after))
        return await self._add_subjects(conn, erasure, int(after), has_found=phase == "again")

    async def _add_of_customers(self, conn: Conn, erasure: Erasure, after: int) -> Page:
        """The streams that name a subject as their customer: of one after the other, by position."""
        if not erasure.place.cursor:
            await conn.execute(_SUBJECTS, {"job": erasure.job, "subjects": erasure.subjects})
            holds = {(find_hold_id(each), erasure.account, erasure.livemode) for each in erasure.subjects}
            await _add_named(conn, erasure, holds)
        index = erasure.place.version
        parameters = {
            "job": erasure.job, "customer": erasure.subjects[index], "after": after, "limit": PAGE_EVENTS,
            "unsealed": list(UNSEALED_TOPICS),
        }  # fmt: skip
        row = await fetch_one(conn, _OF_CUSTOMER, parameters)
        assert row is not None
        count, last = row
        if count == PAGE_EVENTS:
            return Page(Place(f"customers:{last}", index))
        if index + 1 < len(erasure.subjects):
            return Page(Place("customers:0", index + 1))
        return Page(Place("streams:0"))

    async def _add_what_hangs_on(self, conn: Conn, erasure: Erasure, after: int) -> Page:
        """What names the streams as a charge or payment intent, the files in their evidence, and the links of
        files."""
        streams, last = await _read_streams(conn, erasure, after)
        if last is None:
            return Page(Place("subjects:0"))
        parameters = self._bind(erasure, streams)
        cur = conn.cursor(binary=True)
        await cur.execute(_WITH_FILES, {**parameters, "topics": list(NAMING_TOPICS)})
        rows = await cur.fetchall()
        codec = await self._codec.prepare(conn, [row[:4] for row in rows])
        named = {
            (stream, account, livemode)
            for *record, account, livemode in rows
            for stream in list_named(codec.decode_event(*record))
        }
        await conn.execute(_OF_PAYMENTS, parameters)
        await _add_named(conn, erasure, named)
        return Page(Place(f"streams:{last}"))

    async def _add_subjects(self, conn: Conn, erasure: Erasure, after: int, *, has_found: bool) -> Page:
        """What of the streams has a data key of its own. After the last page another round follows if there
        was any: what was sealed before may have been for something new."""
        streams, last = await _read_streams(conn, erasure, after)
        if last is None and has_found:
            return Page(Place("customers:0"))
        if last is None:
            row = await fetch_one(conn, _COUNT, {"job": erasure.job})
            assert row is not None
            return Page(counts={"streams": row[0]}, cache_seconds=self._cache_seconds)
        parameters = self._bind(erasure, streams)
        cur = conn.cursor(binary=True)
        await cur.execute(_OF_OTHERS, parameters)
        found = list(_list_subjects(sorted(await cur.fetchall(), key=itemgetter(0, 1))))
        rows = await fetch_all(conn, _NEW_SUBJECTS, {**parameters, "found": found}) if found else []
        subjects = [subject for (subject,) in rows]
        if subjects:
            await conn.execute(_SUBJECTS, {"job": erasure.job, "subjects": subjects})
            await conn.execute(_BEGIN_ERASING, {"subjects": subjects})
        phase = "again" if has_found or subjects else "subjects"
        return Page(Place(f"{phase}:{last}"), cache_seconds=self._cache_seconds if subjects else None)

    def _bind(self, erasure: Erasure, streams: Sequence[str]) -> dict[str, Any]:
        return {
            "job": erasure.job, "account": erasure.account, "livemode": erasure.livemode,
            "subjects": erasure.subjects, "unsealed": list(UNSEALED_TOPICS),
            "streams": _encode_json(streams).decode(),
        }  # fmt: skip


async def _read_streams(conn: Conn, erasure: Erasure, after: int) -> tuple[list[str], int | None]:
    """The next streams that were found, and the number of the last; [] and None: there are no more."""
    rows = await fetch_all(conn, _PAGE, {"job": erasure.job, "after": after, "limit": PAGE_STREAMS})
    return [stream for stream, _ in rows], rows[-1][1] if rows else None


async def _add_named(conn: Conn, erasure: Erasure, named: Iterable[tuple[str, str, bool]]) -> None:
    """Add those of these streams that there are, each in an account and mode."""
    entries = [dict(zip(("stream", "account", "livemode"), each, strict=True)) for each in sorted(named)]
    if entries:
        await conn.execute(_ADD_NAMED, {"job": erasure.job, "named": _encode_json(entries).decode()})


def _list_subjects(rows: Iterable[Sequence[Any]]) -> set[str]:
    """What events are sealed for, and the streams for which something could be sealed later: those that name
    no customer at their end. Events of releases before data keys are all sealed for one subject; the rows
    that were made of each, for whom it named."""
    subjects: set[str] = set()
    for stream, group in groupby(rows, key=itemgetter(0)):
        customer, family = None, ""
        for _, _, customer, family, state, subject_of_stream in group:
            if subject := find_sealed_subject(state) or subject_of_stream:
                subjects.add(subject)
            if subject_of_stream is not None and family == _PUBLISHED:
                subjects.add(choose_subject(customer, stream))
        if customer is None and family in _SEALABLE_FAMILIES:
            subjects.add(stream)
    return subjects
