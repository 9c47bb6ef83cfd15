"""Lists as of a moment: what a list of the public API showed then.

The candidates are folded as of the moment, a chunk at a time, and filtered by what they were then. A page
examines at most EXAMINED_MAX of them: so it is answered in bounded time however few of them match, and may
have fewer than `limit` objects although there are more.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, NamedTuple

from ledger.audit.auditor import Auditor
from ledger.audit.candidates import (
    CHUNK_MAX,
    CREATED_MAX,
    Candidate,
    CandidateQuery,
    find_candidate,
    find_candidates,
)
from ledger.audit.listed_types import ListedType, get_listed_type
from ledger.audit.moments import POSITION_MAX, Moment, find_moment
from ledger.audit.objects import expand_then, make_call, share_past_reads
from ledger.call import Call
from ledger.domain.aggregate import State
from ledger.domain.file import File
from ledger.domain.payment_intent import PaymentIntent
from ledger.domain.resource import Resource
from ledger.errors import Forbidden, InvalidParameter, UnknownReference, UnreadableRecord
from ledger.objects import fetch_own, get_filter, get_param, is_visible
from ledger.postgres.connections import Conn, fetch_one
from ledger.queries.context import QueryContext
from ledger.store.past_streams import PastRead
from ledger.wire.expansion import ExpandTree, parse_expand
from ledger.wire.json_values import Json

EXAMINED_MAX = 1_000
"""Objects that one page examines."""
URL = "/internal/v1/audit/objects"

_POSITION = re.compile(r"position:([0-9]{1,19})")
_CURSORS_AND_OWN = ("type", "at", "limit", "starting_after", "expand")
_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_NAMED_BY_CHARGE = """
SELECT FROM ledger.events
WHERE payment_intent = %(id)s AND notification_id <= %(upto)s AND topic LIKE 'charge.%%'
AND account = %(account)s AND livemode = %(livemode)s LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _PastList:
    """One request for a page."""

    context: QueryContext
    auditor: Auditor
    listed: ListedType
    moment: Moment
    filters: Mapping[str, Any]
    limit: int

    @property
    def now(self) -> int:
        """The time of the moment in unix seconds."""
        return int(self.moment.time)

    async def fetch(self, stream: str) -> State | None:
        """An object as of the moment, with its personal data: to filter by."""
        return (
            await self.context.store.past_streams.read(PastRead(stream, True, self.moment.position))
        ).state


_Examined = tuple[Candidate, State | UnreadableRecord | None]


class _Page(NamedTuple):
    """The objects of a page; the position to go on from if there are more; whether one was left out that
    cannot be read."""

    states: list[State]
    next_position: int | None
    incomplete: bool


async def list_objects_at(
    context: QueryContext, auditor: Auditor, form: Mapping[str, Any], *, base_url: str = ""
) -> Json:
    """`{as_of, object: "list", data, has_more, url}`: a page of the list of the type `form["type"]` at the
    moment `form["at"]`, with the public list's parameters. If there are more, `next_position` is where to go
    on: `starting_after=position:N`.

    Raises InvalidParameter, UnknownReference for an object that did not exist then, Forbidden for a filter by
    personal data that the auditor may not see, Unavailable.
    """
    listed = get_listed_type(form)
    parameters = listed.table.parse(form)
    tree = parse_expand(parameters.get("expand") or (), listed.name, in_list=True)
    filters = {name: value for name, value in parameters.items() if name not in _CURSORS_AND_OWN}
    _check_personal_filters(auditor, listed, filters)

    async def read(conn: Conn) -> tuple[_PastList, _Page]:
        async with conn.transaction():
            await conn.execute(_SNAPSHOT)
            past = _PastList(
                context=context,
                auditor=auditor,
                listed=listed,
                moment=await find_moment(conn, context.store.clock, parameters.get("at")),
                filters=filters,
                limit=parameters["limit"],
            )
            await _check_references(conn, past, make_call(auditor, ""))
            query = await _build_query(conn, past, parameters.get("starting_after"))
            return past, await _read_page(conn, past, query)

    past, page = await context.reads.run_idempotent(read)
    moment = past.moment
    data = await _show(past, page.states, tree, base_url)
    body: Json = {
        "as_of": moment.to_json(),
        "object": "list",
        "data": data,
        "has_more": page.next_position is not None,
        "url": URL,
    }
    if page.next_position is not None:
        body["next_position"] = page.next_position
    if page.incomplete:
        body["incomplete"] = True
    return body


def _check_personal_filters(auditor: Auditor, listed: ListedType, filters: Mapping[str, Any]) -> None:
    """Raises Forbidden: from what a filter finds, one could guess the personal data that is not shown."""
    for name in filters:
        if listed.is_personal(name) and not auditor.shows_personal_data:
            raise Forbidden(
                f"Filtering by '{name}' needs the scope 'personal_data'.",
                code="more_permissions_required",
                param=name,
            )


async def _check_references(conn: Conn, past: _PastList, call: Call) -> None:
    """Check that the objects by which the list is filtered existed. Raises UnknownReference."""
    for name, kind in past.listed.references.items():
        if name not in past.filters:
            continue
        object_id = past.filters[name]
        if kind is PaymentIntent:
            await _check_intent(conn, past, call, object_id)
        elif kind is File:
            await get_param(call, kind, name, object_id, past.fetch)
        else:
            await get_filter(call, kind, name, object_id, past.fetch)


async def _check_intent(conn: Conn, past: _PastList, call: Call, intent_id: str) -> None:
    """A payment intent of another service exists if it was published, or if a charge names it."""
    state = await fetch_own(call, intent_id, past.fetch)
    if state is not None and is_visible(state, call):
        if isinstance(state, PaymentIntent):
            return
        if isinstance(state, Resource) and state.type == "payment_intent" and not state.deleted:
            return
    bindings = {
        "id": intent_id,
        "upto": past.moment.position,
        "account": call.account,
        "livemode": call.livemode,
    }
    if await fetch_one(conn, _NAMED_BY_CHARGE, bindings) is None:
        raise UnknownReference("payment_intent", intent_id, param="payment_intent")


async def _build_query(conn: Conn, past: _PastList, cursor: str | None) -> CandidateQuery:
    """Raises InvalidParameter for an unknown cursor."""
    created = past.filters.get("created", {})
    lowest, highest = 0, past.now + 1 if past.listed.ages_by_clock else CREATED_MAX
    if past.listed.ages_by_clock:  # else an object's `created` may differ from that of its first event
        lowest = max(created.get("gte", 0), created.get("gt", 0), created.get("eq", 0))
        highest = min(highest, *(created.get(name, CREATED_MAX) for name in ("lt", "lte", "eq")))
    query = CandidateQuery(
        account=past.auditor.account,
        livemode=past.auditor.livemode,
        type=past.listed.name,
        topics=past.listed.topics,
        upto=past.moment.position,
        created_min=lowest,
        created_max=highest,
        before=None,
        first=past.limit + 1,
        named=past.listed.list_named(past.filters),
    )
    if cursor is None:
        return query
    match = _POSITION.fullmatch(cursor)
    codec = past.context.store.codec
    if match is not None:
        last = await find_candidate(conn, codec, query, position=min(int(match[1]), POSITION_MAX))
    else:
        last = await find_candidate(conn, codec, query, stream=cursor)
    if last is None:
        raise InvalidParameter(
            f"No such {past.listed.name}: '{cursor}'", code="resource_missing", param="starting_after"
        )
    if not past.listed.ages_by_clock:
        ((last, _),) = await _read_states(past, [last])
    return replace(query, before=(last.created, last.position))


async def _read_page(conn: Conn, past: _PastList, query: CandidateQuery) -> _Page:
    """The first objects that match, of at most EXAMINED_MAX candidates."""
    found: list[tuple[Candidate, State]] = []
    examined, incomplete = 0, False
    async for chunk in _read_chunks(conn, past, query):
        for candidate, state in chunk:
            incomplete = incomplete or isinstance(state, UnreadableRecord)
            if isinstance(state, State) and past.listed.matches(state, past.filters, past.now):
                if len(found) == past.limit:
                    return _Page([each for _, each in found], found[-1][0].position, incomplete)
                found.append((candidate, state))
        examined += len(chunk)
        if examined >= EXAMINED_MAX:
            return _Page([each for _, each in found], chunk[-1][0].position, incomplete)
    return _Page([each for _, each in found], None, incomplete)


async def _read_chunks(conn: Conn, past: _PastList, query: CandidateQuery) -> AsyncIterator[list[_Examined]]:
    """The candidates as of the moment, in the order of the list.

    Other services may change the `created` of what they publish. Up to EXAMINED_MAX objects of such a type
    are all read and ordered as they were; more of them are ordered by their first `created`.
    """
    codec = past.context.store.codec
    if not past.listed.ages_by_clock:
        whole = find_candidates(conn, codec, replace(query, before=None))
        candidates = [candidate async for candidate in _limit(whole, EXAMINED_MAX + 1)]
        if len(candidates) <= EXAMINED_MAX:
            before = query.before or (CREATED_MAX + 1, 0)
            examined = [each for each in await _read_states(past, candidates) if each[0][:2] < before]
            examined.sort(key=itemgetter(0), reverse=True)
            if examined:
                yield examined
            return
    chunk: list[Candidate] = []
    size = query.first
    async for candidate in find_candidates(conn, codec, query):
        chunk.append(candidate)
        if len(chunk) == size:
            yield await _read_states(past, chunk)
            chunk, size = [], CHUNK_MAX
    if chunk:
        yield await _read_states(past, chunk)


async def _limit(candidates: AsyncIterator[Candidate], count: int) -> AsyncIterator[Candidate]:
    async for candidate in candidates:
        yield candidate
        count -= 1
        if not count:
            return


async def _read_states(past: _PastList, candidates: Sequence[Candidate]) -> list[_Examined]:
    """The candidates with `created` and state as of the moment, by one statement. The state is None for one
    that did not exist yet, and an error for one that cannot be read."""

    async def read(candidate: Candidate) -> _Examined:
        if candidate.position > past.moment.position:
            return candidate, None
        try:
            state = await past.fetch(candidate.stream)
        except UnreadableRecord as error:
            return candidate, error
        return candidate._replace(created=getattr(state, "created", candidate.created)), state

    return list(await asyncio.gather(*map(read, candidates)))


async def _show(past: _PastList, states: Sequence[State], tree: ExpandTree, base_url: str) -> list[Json]:
    """The objects as the list shows them to the auditor, expanded as of the moment."""
    fetch = share_past_reads(past.context, past.auditor, past.moment)

    async def show(state: State) -> Json:
        seen = await fetch(state.id)
        assert seen is not None, "it was read for its filters"
        rendered = past.listed.render(seen, past.now)
        await expand_then(past.context, past.auditor, seen, rendered, past.moment, tree, base_url, fetch)
        return rendered

    return list(await asyncio.gather(*map(show, states)))
