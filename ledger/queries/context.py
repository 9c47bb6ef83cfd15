"""The context of queries, and the two queries that most objects need: retrieve one by id, list many.

One object is folded from its stream and exact; many come from a projection, as new as `pages` guarantees.
One function renders both from the same aggregate, so they have the same bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from psycopg.rows import TupleRow

from ledger.call import Call
from ledger.domain.aggregate import State
from ledger.domain.file import File
from ledger.domain.file_link import FileLink
from ledger.files.urls import FileLinkUrls
from ledger.keys.blind_index import BlindIndex
from ledger.keys.documents import load_document_keys, open_document
from ledger.objects import (
    Fetch,
    Kind,
    expand,
    get_readable,
    get_target,
    render_object,
    run_together,
    share_reads,
)
from ledger.postgres.connections import Pool
from ledger.queries.balance_totals import BalanceTotals, new_balance_totals
from ledger.queries.list_query import ListQuery
from ledger.queries.page_tokens import PageTokens
from ledger.queries.pages import Pages, QueryResult, render_list
from ledger.store.replication.replica import Reads
from ledger.store.store import Store
from ledger.wire.files import add_urls


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryContext:
    """What all queries of a process read from.

    store                 the log: aggregates by stream, and the clock
    pool                  connections to the primary for reads
    pages                 pages of the projections
    link_urls             derives the secret digits in the URL of a file link
    page_tokens           makes and reads the URLs of pages of /v2
    blind_index           hashes by which rows are found
    derive_intent_secret  derives the client secret of a payment intent from its id
    totals                sums of the balance that this process has read before
    """

    store: Store
    pool: Pool
    pages: Pages
    link_urls: FileLinkUrls
    page_tokens: PageTokens
    blind_index: BlindIndex
    derive_intent_secret: Callable[[str], str]
    totals: BalanceTotals = field(default_factory=new_balance_totals)

    @property
    def reads(self) -> Reads:
        """Connections for reads of history, which a replica may answer."""
        return Reads(self.pool, self.store.replica)

    def get(self, stream: str) -> Awaitable[State | None]:
        """The aggregate as of the log's end, or None. Raises Unavailable."""
        return self.store.streams.read(stream)

    async def get_expanded(self, stream: str) -> State | None:
        """The aggregate, for an answer that shows it inside another object; None also when it cannot be
        read, which is logged: then its id stays. Raises Unavailable."""
        return await get_readable(self.get, stream)

    async def open_documents(self, stored: Sequence[bytes]) -> list[bytes | None]:
        """The documents of columns of the projections; None of one whose subject has been erased. Raises
        Unavailable."""
        keyring = await load_document_keys(self.pool.run_idempotent, self.store.codec.data_keys, stored)
        return [open_document(keyring, each) for each in stored]

    async def read_states(
        self, rows: Sequence[TupleRow], get_kind: Callable[[TupleRow], type[Kind]]
    ) -> list[Kind]:
        """The aggregates of rows that begin with `state` and `id`. One whose subject has been erased, in a
        row that still has it as it was, is folded from its stream. Raises Unavailable, UnreadableRecord."""
        documents = await self.open_documents([row[0] for row in rows])
        states: list[Kind] = []
        for row, document in zip(rows, documents, strict=True):
            if document is None:
                state = await self.get(row[1])
                assert isinstance(state, get_kind(row))
            else:
                state = msgspec.json.decode(document, type=get_kind(row))
            states.append(state)
        return states

    def now(self) -> int:
        """Unix seconds."""
        return int(self.store.clock.now())


_WITH_URLS = (File, FileLink)


async def retrieve_object(call: Call, context: QueryContext, kind: type[Kind]) -> QueryResult:
    """The object of this kind in the call's path. Raises UnknownObject."""
    state = await get_target(call, kind, context.get)
    if call.expand or kind in _WITH_URLS:
        return QueryResult(await render(call, context, state, context.now()))
    return QueryResult(render_object(state, context.now()))


async def list_objects(
    call: Call,
    context: QueryContext,
    list_query: ListQuery,
    kind: type[Kind],
    *,
    filters: Mapping[str, Any] | None = None,
    url: str | None = None,
) -> QueryResult:
    """A page of a list query whose rows hold aggregates of this kind. `filters` as in `Pages.fetch_page`,
    `url` as in `render_list`. Raises InvalidParameter, Unavailable."""
    page = await context.pages.fetch_page(call, list_query, filters)
    now = context.now()
    states = await context.read_states(page.rows, lambda row: kind)
    fetch = share_reads(context.get_expanded)
    steps = [render(call, context, state, now, fetch) for state in states]
    data = await run_together(steps) if call.expand or kind is File else [await step for step in steps]
    return render_list(list_query, data, page, url=url)


async def render(
    call: Call, context: QueryContext, state: State, now: int, fetch: Fetch | None = None
) -> dict[str, Any]:
    """The object as of `now` (unix seconds), expanded by the call's `expand`. Files and file links in it have
    their URL. `fetch`: that of a page, which the objects of the page share."""
    rendered = render_object(state, now)
    if call.expand or isinstance(state, _WITH_URLS):
        await expand(state, rendered, call.expand, now, fetch or share_reads(context.get_expanded))
        add_urls(rendered, call.base_url, context.link_urls.derive_digits)
    return rendered
