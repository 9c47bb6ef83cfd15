"""Pages of the lists of /v2, newest first: each names the URLs of the next and the previous one.

Such a URL is all that its page needs: the parameters of the list are in it. A page costs the same as one of
/v1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from psycopg.rows import TupleRow

from ledger.call import Call
from ledger.errors import InvalidParameter
from ledger.queries.context import QueryContext
from ledger.queries.list_query import ListQuery
from ledger.queries.page_tokens import PageToken
from ledger.queries.pages import Page, QueryResult
from ledger.wire.tables.v2_pages import LIMIT_DEFAULT

Parameters = Mapping[str, Any]
MakeFilters = Callable[[Parameters], Mapping[str, Any]]
GetCursor = Callable[[TupleRow], str]
RenderRow = Callable[[TupleRow, Parameters], Mapping[str, Any]]


async def list_page(
    call: Call,
    context: QueryContext,
    list_query: ListQuery,
    path: str,
    *,
    make_filters: MakeFilters,
    get_cursor: GetCursor,
    render_row: RenderRow,
) -> QueryResult:
    """A page of the list at `path`.

    make_filters  the filters of the list query that the list's parameters mean, besides `created`
    get_cursor    the id of a row, by which the list query finds it again
    render_row    the JSON of a row, for the list's parameters
    The parameters are those of the list, without `page` and `limit`. Raises InvalidParameter, Unavailable.
    """
    parameters, limit, token = _choose_page(call, context, path)
    page_parameters: dict[str, Any] = {"limit": limit, "created": parameters.get("created", {})}
    if token is not None:
        page_parameters["starting_after" if token.older else "ending_before"] = token.cursor
    try:
        page = await context.pages.fetch_page(
            call.replace(parameters=page_parameters), list_query, make_filters(parameters)
        )
    except InvalidParameter as error:
        if token is None or error.param not in ("starting_after", "ending_before"):
            raise
        raise InvalidParameter(
            f"Invalid page: it begins at the {list_query.noun} '{token.cursor}', which is no longer listed. "
            "Begin again with the first page.",
            param="page",
        ) from None

    def make_url(row: TupleRow, *, older: bool) -> str:
        neighbour = PageToken(path, parameters, limit, get_cursor(row), older)
        return context.page_tokens.make_url(call, neighbour)

    has_older, has_newer = _find_neighbours(page, token)
    body = {
        "data": [render_row(row, parameters) for row in page.rows],
        "next_page_url": make_url(page.rows[-1], older=True) if has_older else None,
        "previous_page_url": make_url(page.rows[0], older=False) if has_newer else None,
    }
    return QueryResult(body, page.progress.lag_events, page.progress.incomplete)


def _choose_page(call: Call, context: QueryContext, path: str) -> tuple[Parameters, int, PageToken | None]:
    """The list's parameters, the limit and the page that the caller means. Raises InvalidParameter for a page
    of a list with other parameters than those beside it."""
    given = {name: value for name, value in call.parameters.items() if name not in ("page", "limit")}
    text = call.parameters.get("page")
    if text is None:
        return given, call.parameters.get("limit", LIMIT_DEFAULT), None
    token = context.page_tokens.parse(call, text, path)
    for name, value in given.items():
        if token.parameters.get(name) != value:
            raise InvalidParameter(
                f"Invalid page: it is one of a list with another '{name}'. Send `page` alone.", param="page"
            )
    return token.parameters, call.parameters.get("limit", token.limit), token


def _find_neighbours(page: Page, token: PageToken | None) -> tuple[bool, bool]:
    """Whether there are older and newer objects than those of the page. On the side from which the caller
    came there are some."""
    if not page.rows:
        return False, False
    if token is None:
        return page.has_more, False
    return (page.has_more, True) if token.older else (True, page.has_more)
