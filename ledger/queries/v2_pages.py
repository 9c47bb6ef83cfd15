"""Pages of the lists of /v2, newest first: each names the URLs of the next and the previous one.

Such a URL is all that its page needs: the filters of the list are in it. A page costs the same as one of /v1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from psycopg.rows import TupleRow

from ledger.call import Call
from ledger.errors import InvalidParameter
from ledger.queries.context import QueryContext
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import Page, QueryResult
from ledger.wire.page_tokens import PageToken, make_page_url, parse_page_token
from ledger.wire.tables.v2_pages import LIMIT_DEFAULT, LIMIT_MAX

RenderRow = Callable[[TupleRow], Mapping[str, Any]]
GetCursor = Callable[[TupleRow], str]


async def list_page(
    call: Call,
    context: QueryContext,
    list_query: ListQuery,
    path: str,
    *,
    make_filters: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    get_cursor: GetCursor,
    render_row: RenderRow,
) -> QueryResult:
    """A page of the list at `path`.

    make_filters  the filters of the list query that the list's parameters (without `page`, `limit` and
                  `created`) mean
    get_cursor    the id of a row, by which the list query finds it again
    Raises InvalidParameter, Unavailable.
    """
    filters, limit, token = _choose_page(call.parameters, path)
    parameters: dict[str, Any] = {"limit": limit, "created": filters.get("created", {})}
    if token is not None:
        parameters["starting_after" if token.older else "ending_before"] = token.cursor
    query_filters = make_filters({name: value for name, value in filters.items() if name != "created"})
    try:
        page = await context.pages.fetch_page(call.replace(parameters=parameters), list_query, query_filters)
    except InvalidParameter as error:
        if token is None or error.param not in ("starting_after", "ending_before"):
            raise
        raise InvalidParameter(
            f"Invalid page: it begins at the {list_query.noun} '{token.cursor[:80]}', which is no longer "
            "listed. Begin again with the first page.",
            param="page",
        ) from None

    def make_url(row: TupleRow, *, older: bool) -> str:
        return make_page_url(PageToken(path, filters, limit, get_cursor(row), older))

    has_older, has_newer = _find_neighbours(page, token)
    body = {
        "data": [render_row(row) for row in page.rows],
        "next_page_url": make_url(page.rows[-1], older=True) if has_older else None,
        "previous_page_url": make_url(page.rows[0], older=False) if has_newer else None,
    }
    return QueryResult(body, page.progress.lag_events, page.progress.incomplete)


def _choose_page(parameters: Mapping[str, Any], path: str) -> tuple[dict[str, Any], int, PageToken | None]:
    """The filters, the limit and the page that a caller means. Raises InvalidParameter for a page of other
    filters than those beside it."""
    filters = {name: value for name, value in parameters.items() if name not in ("page", "limit")}
    text = parameters.get("page")
    if text is None:
        return filters, parameters.get("limit", LIMIT_DEFAULT), None
    token = parse_page_token(text, path)
    for name, value in filters.items():
        if token.filters.get(name) != value:
            raise InvalidParameter(
                f"Invalid page: it is one of the list with another '{name}'. Send `page` alone", param="page"
            )
    limit = parameters.get("limit", token.limit)
    return token.filters, min(max(limit, 1), LIMIT_MAX), token


def _find_neighbours(page: Page, token: PageToken | None) -> tuple[bool, bool]:
    """Whether there are older and newer objects than those of the page. At the side from which the caller
    came there are some."""
    if not page.rows:
        return False, False
    if token is None:
        return page.has_more, False
    return (page.has_more, True) if token.older else (True, page.has_more)
