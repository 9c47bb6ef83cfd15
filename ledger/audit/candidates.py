"""Which objects a list as of a moment may have, newest first: their ids only, found without reading states.

In the order of creation they come from the projection `audit_keys`. What it does not have, because it is
behind, parked a stream or does not exist yet, is found in the log itself: so the candidates are complete in
any state of the projections. A filter by which the log has an index finds its candidates there, if they are
few.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import structlog
from psycopg.rows import TupleRow

from ledger.domain.resource import Resource
from ledger.errors import UnreadableRecord
from ledger.postgres.connections import Conn, fetch_one
from ledger.queries.list_query import in_live_generation
from ledger.store.codec import Codec, evolve_stored
from ledger.store.index_keys import derive_creation_key

CHUNK_MAX = 100
FILTERED_EVENTS_MAX = 1_000
"""How many events that name an object are read along the log's index, before that is given up."""
POSITIONS_AT_ONCE_MAX = 100_000
"""How many positions of the log one statement scans for what the index does not have."""
CREATED_MAX = 2**62

LOG_INDEXED = ("payment_intent", "charge", "customer")
"""Members by which the log has an index, the most selective first."""

_CHECKPOINT = """
SELECT c.position FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = 'audit_keys'
"""
_INDEXED = f"""
SELECT a.created, a.position, e.originator_id
FROM projections.audit_keys a JOIN ledger.events e ON e.notification_id = a.position
WHERE a.{in_live_generation("audit_keys")} AND a.aggregate = %(type)s
AND e.account = %(account)s AND e.livemode = %(livemode)s
AND a.by_creation <= %(key_max)s AND a.by_creation >= %(key_min)s
AND (a.by_creation, a.position) < (%(key)s, %(position)s)
ORDER BY a.by_creation DESC, a.position DESC LIMIT %(limit)s
"""  # noqa: S608 (constants)
_OWNED = "AND e.account = %(account)s AND e.livemode = %(livemode)s AND e.topic = ANY (%(topics)s::text[])"
_FIRST_EVENT = "SELECT e.notification_id, e.originator_id, e.originator_version, e.topic, e.state"
_UNINDEXED = f"""
{_FIRST_EVENT} FROM ledger.events e
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s AND e.originator_version = 1 {_OWNED}
"""
_PARKED = f"""
{_FIRST_EVENT} FROM projections.parked p JOIN ledger.events e
    ON e.originator_id = p.stream AND e.originator_version = 1 AND e.notification_id >= p.position
WHERE p.projection = 'audit_keys' AND p.{in_live_generation("audit_keys")}
AND e.notification_id <= %(upto)s {_OWNED}
"""
_NAMED = {
    member: f"""
SELECT originator_id FROM ledger.events WHERE {member} = %(value)s AND notification_id <= %(upto)s
ORDER BY notification_id LIMIT %(limit)s"""  # noqa: S608 (constants)
    for member in LOG_INDEXED
}
_FIRST_EVENTS = f"""
{_FIRST_EVENT} FROM json_array_elements_text(%(streams)s::json) AS wanted(s)
JOIN ledger.events e ON e.originator_id = wanted.s AND e.originator_version = 1
WHERE e.notification_id <= %(upto)s {_OWNED}
"""
_CREATION = f"""
{_FIRST_EVENT} FROM ledger.events e WHERE e.originator_version = 1 AND e.notification_id <= %(upto)s {_OWNED}
"""
_BY_STREAM = "AND e.originator_id = %(stream)s"
_BY_POSITION = "AND e.notification_id = %(first)s"

log = structlog.get_logger()


class Candidate(NamedTuple):
    """An object that may be in the list. `created`: as its first event says; `position`: of that event. Lists
    are ordered by both, descending."""

    created: int
    position: int
    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateQuery:
    """Of whose objects of which type, and where to begin.

    topics       those that the first event of such an object may have
    type         as the index names it
    upto         the position of the moment
    created_min, created_max
                 bounds of `created` in unix seconds
    before       only candidates after this one in the list
    first        how many are read at first: most pages need no more
    named        members by which the list is filtered and the log indexed, with their values
    """

    account: str
    livemode: bool
    type: str
    topics: Sequence[str]
    upto: int
    created_min: int
    created_max: int
    before: tuple[int, int] | None
    first: int
    named: Mapping[str, str]

    def bind(self, **more: Any) -> dict[str, Any]:
        """The parameters of the statements."""
        created, position = self.before or (CREATED_MAX, CREATED_MAX)
        return {
            "account": self.account,
            "livemode": self.livemode,
            "type": self.type,
            "topics": list(self.topics),
            "upto": self.upto,
            "created_min": self.created_min,
            "created_max": self.created_max,
            "created": created,
            "position": position,
            "key_min": self.derive_key(self.created_min),
            "key_max": self.derive_key(self.created_max),
            "key": self.derive_key(created),
            **more,
        }

    def derive_key(self, created: int) -> int:
        """The key in the index of an object of the type that was created then."""
        return derive_creation_key(self.account, self.livemode, self.type, created)


async def find_candidates(conn: Conn, codec: Codec, query: CandidateQuery) -> AsyncIterator[Candidate]:
    """The candidates in the order of the list, each once. The connection is in one transaction that sees one
    snapshot."""
    named = await _find_named(conn, codec, query)
    if named is not None:
        for candidate in named:
            yield candidate
        return
    checkpoint = await fetch_one(conn, _CHECKPOINT)
    unindexed = await _find_unindexed(conn, codec, query, checkpoint[0] if checkpoint is not None else 0)
    pending = iter(unindexed)
    other = next(pending, None)
    previous: Candidate | None = None
    async for candidate in _find_indexed(conn, query):
        while other is not None and other > candidate:
            yield other
            other = next(pending, None)
        if other is not None and other.stream == candidate.stream:
            other = next(pending, None)
        if previous is None or candidate.stream != previous.stream:
            yield candidate
        previous = candidate
    while other is not None:
        yield other
        other = next(pending, None)


async def find_candidate(
    conn: Conn, codec: Codec, query: CandidateQuery, *, stream: str | None = None, position: int | None = None
) -> Candidate | None:
    """The candidate that an object is, by its id or the position of its first event; None if there is no such
    object of the type."""
    statement = f"{_CREATION}{_BY_STREAM if stream is not None else _BY_POSITION}"
    rows = await _fetch(conn, statement, query.bind(stream=stream, first=position))
    return next(iter(await _to_candidates(conn, codec, rows, query)), None)


async def _find_named(conn: Conn, codec: Codec, query: CandidateQuery) -> list[Candidate] | None:
    """The candidates that an index of the log has for one of the filters; None if there are too many, or no
    such filter."""
    for member in LOG_INDEXED:
        if member not in query.named:
            continue
        bindings = query.bind(value=query.named[member], limit=FILTERED_EVENTS_MAX + 1)
        rows = await _fetch(conn, _NAMED[member], bindings)
        if len(rows) <= FILTERED_EVENTS_MAX:
            streams = msgspec.json.encode(list({row[0] for row in rows})).decode()
            first_events = await _fetch(conn, _FIRST_EVENTS, query.bind(streams=streams))
            return _select(query, await _to_candidates(conn, codec, first_events, query))
    return None


async def _find_unindexed(
    conn: Conn, codec: Codec, query: CandidateQuery, checkpoint: int
) -> list[Candidate]:
    """Candidates whose first event the index does not have: after its checkpoint, or of a parked stream."""
    found = await _to_candidates(conn, codec, await _fetch(conn, _PARKED, query.bind()), query)
    for after in range(checkpoint, query.upto, POSITIONS_AT_ONCE_MAX):
        bindings = query.bind(after=after) | {"upto": min(after + POSITIONS_AT_ONCE_MAX, query.upto)}
        found += await _to_candidates(conn, codec, await _fetch(conn, _UNINDEXED, bindings), query)
    return _select(query, set(found))


async def _find_indexed(conn: Conn, query: CandidateQuery) -> AsyncIterator[Candidate]:
    """What the index has, in order; also of objects that were created after the moment."""
    bindings = query.bind(limit=query.first)
    while True:
        rows = await _fetch(conn, _INDEXED, bindings)
        for row in rows:
            yield Candidate(*row)
        if len(rows) < bindings["limit"]:
            return
        bindings |= {
            "key": query.derive_key(rows[-1][0]),
            "position": rows[-1][1],
            "limit": CHUNK_MAX,
        }


async def _to_candidates(
    conn: Conn, codec: Codec, rows: Sequence[TupleRow], query: CandidateQuery
) -> list[Candidate]:
    """The candidates of the type, from their first events. One that cannot be read is left out."""
    codec = await codec.prepare(conn, [row[1:] for row in rows])
    candidates = []
    for position, *row in rows:
        try:
            event = codec.decode_event(*row)
            state = evolve_stored(None, event)
        except UnreadableRecord as error:
            log.error("record_unreadable", **error.to_log())
            continue
        if not isinstance(state, Resource) or state.type == query.type:
            created = getattr(state, "created", event.at)
            candidates.append(Candidate(created, position, state.id))
    return candidates


def _select(query: CandidateQuery, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those within the query's bounds, in the order of the list."""
    before = query.before or (CREATED_MAX, 0)
    chosen = [
        each
        for each in candidates
        if query.created_min <= each.created <= query.created_max and each[:2] < before
    ]
    return sorted(chosen, reverse=True)


async def _fetch(conn: Conn, query: str, bindings: Mapping[str, Any]) -> list[TupleRow]:
    cur = await conn.cursor(binary=True).execute(query.encode(), bindings)
    return await cur.fetchall()
