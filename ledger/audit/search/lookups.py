"""What a text names: any id, request, idempotency key, position of the log or e-mail address.

Every kind is looked for, whatever the text looks like: the prefix of an id does not decide what it names.
Only ids of requests are always made by this service, with their prefix.
Each look-up reads along an index, and finds at most FOUND_MAX. What other accounts, or the other mode, have
under the same text is not found.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ledger.audit.auditor import Auditor
from ledger.audit.event_ids import find_event_position
from ledger.audit.moments import POSITION_MAX, format_time
from ledger.audit.object_json import render_whole_object
from ledger.audit.search.entries import LogEntry, fetch_entries
from ledger.audit.search.filters import LogFilters
from ledger.audit.search.pages import search_log
from ledger.call import Call, Cause
from ledger.domain.imported_event import EventImported
from ledger.errors import UnreadableRecord
from ledger.postgres.connections import Conn, fetch_all
from ledger.queries.context import QueryContext
from ledger.queries.customers import EMAIL_FILTERS, list_email_forms
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import Page
from ledger.queries.payment_methods import HOLDERS
from ledger.store.past_streams import PastRead
from ledger.wire.json_values import Json

FOUND_MAX = 20
"""How many of one kind are found."""
TITLE_LENGTH_MAX = 120
EMAIL_SCOPE = "personal_data"
REQUEST_PREFIX = "req_"

# The condition of the list of customers, whose index this reads along.
_CUSTOMERS = ListQuery.of(
    "customers",
    noun="customer",
    column="id",
    where="AND NOT deleted",
    filters=EMAIL_FILTERS,
    hashed=("email",),
    in_forms=("email",),
)
_POSITION = re.compile(r"(?:position:)?([0-9]{1,19})")
# Members of objects that tell one from another at a glance. Those with personal data are null in what is
# shown without the scope.
_TITLE_MEMBERS = ("name", "email", "filename", "status", "component")

# The condition on `state` is that of the index events_movement.
FIND_BY_ID = """
SELECT CASE WHEN e.topic = %(imported)s THEN 'event' ELSE 'object' END, e.originator_id,
       e.notification_id, NULL::text, NULL::float8
FROM ledger.events e
WHERE e.originator_id = %(text)s AND e.originator_version = 1
AND e.account = %(account)s AND e.livemode = %(livemode)s
UNION ALL
SELECT 'balance_transaction', m.originator_id, m.notification_id, NULL, NULL
FROM ledger.events m
WHERE ledger.movement_id(m.state) = %(text)s AND position('"movement":{'::bytea IN m.state) > 0
AND m.account = %(account)s AND m.livemode = %(livemode)s
UNION ALL
SELECT 'key', NULL, NULL,
       concat(k.name, ', ', k.kind, CASE WHEN k.livemode THEN '_live_***' ELSE '_test_***' END, k.last4),
       extract(epoch FROM k.created_at)::float8
FROM ledger.api_keys k
WHERE k.id = %(text)s AND k.account = %(account)s AND k.livemode = %(livemode)s
UNION ALL
SELECT 'account', NULL, NULL, a.name, extract(epoch FROM a.created_at)::float8
FROM ledger.accounts a
WHERE a.id = %(text)s AND %(account)s IN (a.id, a.platform)
"""
FIND_OWN_POSITIONS = """
SELECT e.notification_id FROM ledger.events e
WHERE e.notification_id = ANY (%(positions)s::bigint[])
AND e.account = %(account)s AND e.livemode = %(livemode)s
"""


class Hit(NamedTuple):
    """Something that the text names.

    kind       what the text is: `object`, `event`, `request`, `email` …
    id         the id of what was found; of a request or an idempotency key the text itself
    type       the type of the object `object_id`; of anything that is no object its kind
    title      a few words to tell it from others: never personal data without the scope
    object_id  the object that it leads to; None for a key or an account
    position   of the recorded event that it leads to
    time       unix seconds: when that was recorded, or when it was made
    """

    kind: str
    id: str
    type: str | None
    title: str
    object_id: str | None = None
    position: int | None = None
    time: float | None = None

    def to_json(self) -> Json:
        """The hit as the internal API shows it."""
        values: Json = self._asdict()
        return {**values, "time": None if self.time is None else format_time(self.time)}


@dataclass(frozen=True)
class Lookup:
    """Everything found, the most exact first.

    has_more       whether there is more of some kind
    behind_events  how many events the lists of customers and cards had not applied
    """

    hits: list[Hit]
    has_more: bool = False
    behind_events: int = 0


async def look_up(context: QueryContext, auditor: Auditor, text: str) -> Lookup:
    """What the text names for this auditor. An e-mail address is looked for only with the scope EMAIL_SCOPE.
    Raises Unavailable."""
    if "\0" in text:
        return Lookup([])
    of_ids, of_log, of_lists = await asyncio.gather(
        context.reads.run_idempotent(lambda conn: _find_by_id(conn, context, auditor, text)),
        _find_in_log(context, auditor, text),
        _find_in_lists(context, auditor, text),
    )
    hits = [await _describe(context, auditor, hit) if hit.kind == "object" else hit for hit in of_ids]
    return Lookup(
        [*hits, *of_log.hits, *of_lists.hits], of_log.has_more or of_lists.has_more, of_lists.behind_events
    )


async def _find_by_id(conn: Conn, context: QueryContext, auditor: Auditor, text: str) -> list[Hit]:
    """What has the text as its id, and the event at the position that it is."""
    owner = {"account": auditor.account, "livemode": auditor.livemode}
    parameters = {**owner, "text": text, "imported": EventImported.TOPIC}
    rows = await fetch_all(conn, FIND_BY_ID, parameters)
    positions = {row[2]: row[0] for row in rows if row[2] is not None}
    named = {}
    match = _POSITION.fullmatch(text)
    if match and int(match[1]) <= POSITION_MAX:
        named[int(match[1])] = "position"
    if (event := await find_event_position(conn, context.store.codec, text)) is not None:
        named[event] = "event"
    own = await fetch_all(conn, FIND_OWN_POSITIONS, {**owner, "positions": list(named)}) if named else []
    positions |= {row[0]: named[row[0]] for row in own}
    entries = await fetch_entries(conn, context.store.codec, list(positions))
    hits = [_from_entry(positions[entry.position], text, entry) for entry in entries]
    return hits + [Hit(row[0], text, row[0], row[3], time=row[4]) for row in rows if row[2] is None]


def _from_entry(kind: str, text: str, entry: LogEntry) -> Hit:
    shown_type = kind if kind == "balance_transaction" else entry.object_type
    found_id = str(entry.position) if kind == "position" else text
    return Hit(kind, found_id, shown_type, entry.topic, entry.stream, entry.position, entry.time)


async def _find_in_log(context: QueryContext, auditor: Auditor, text: str) -> Lookup:
    """The newest events that a request, or the requests with an idempotency key, made."""
    kinds = {"idempotency_key": LogFilters(idempotency_key=text)}
    if text.startswith(REQUEST_PREFIX):
        kinds = {"request": LogFilters(request=text), **kinds}
    pages = [await search_log(context, auditor, filters, limit=FOUND_MAX) for filters in kinds.values()]
    hits = [
        _from_entry(kind, text, entry)
        for kind, page in zip(kinds, pages, strict=True)
        for entry in page.entries
    ]
    return Lookup(hits, any(page.next_position is not None for page in pages))


async def _find_in_lists(context: QueryContext, auditor: Auditor, text: str) -> Lookup:
    """The newest holders of a card with this id, and customers with this e-mail address."""
    holders = await _fetch_page(context, auditor, HOLDERS, {"card": text})
    hits = [
        Hit("payment_method", text, "payment_method", f"card of {holder}", holder, None, float(created))
        for holder, _, created, *_ in holders.rows
    ]
    lag, has_more = holders.progress.lag_events, holders.has_more
    if auditor.shows_personal_data:
        forms = list_email_forms(context, auditor.account, auditor.livemode, text)
        customers = await _fetch_page(context, auditor, _CUSTOMERS, {"email": forms})
        hits += await asyncio.gather(
            *(
                _describe(context, auditor, Hit("email", found, "customer", "", found, None, float(created)))
                for found, _, created, *_ in customers.rows
            )
        )
        lag, has_more = max(lag, customers.progress.lag_events), has_more or customers.has_more
    return Lookup(hits, has_more, lag)


async def _fetch_page(
    context: QueryContext, auditor: Auditor, list_query: ListQuery, filters: Mapping[str, Any]
) -> Page:
    cause = Cause(auditor.account, auditor.livemode, auditor.actor, None, None)
    return await context.pages.fetch_page(Call(cause, "", {"limit": FOUND_MAX}), list_query, filters)


async def _describe(context: QueryContext, auditor: Auditor, hit: Hit) -> Hit:
    """The hit of an object with a title that shows the object as it is now."""
    assert hit.object_id is not None
    try:
        past = await context.store.past_streams.read(PastRead(hit.object_id, auditor.shows_personal_data))
    except UnreadableRecord:
        return hit._replace(title="cannot be read")
    assert past.state is not None, "an object that is found has been created"
    shown = render_whole_object(past.state, context.now())
    texts = [shown[name] for name in _TITLE_MEMBERS if isinstance(shown.get(name), str) and shown[name]]
    title = "deleted" if shown.get("deleted") else ", ".join(texts)
    return hit._replace(title=title[:TITLE_LENGTH_MAX])
