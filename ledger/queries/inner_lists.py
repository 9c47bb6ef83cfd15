"""Lists that no projection has: those inside an object, and the always empty ones. Pages are cut from a
sequence, by the rules for all lists (contract §1.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ledger.errors import UnknownReference
from ledger.queries.pages import QueryResult
from ledger.wire.json_values import make_list_object
from ledger.wire.parameters import two_cursors_error

Item = TypeVar("Item", bound=Mapping[str, Any])


def cut_page(items: Sequence[Item], parameters: Mapping[str, Any], *, noun: str) -> tuple[list[Item], bool]:
    """At most `limit` items after or before the cursor of the parameters, and whether there are more in that
    direction. `noun` names an item in the error for an unknown cursor.

    Raises UnknownReference for an unknown cursor, InvalidParameter for two.
    """
    start, end = 0, len(items)
    ids = [item.get("id") for item in items]
    cursors = [param for param in ("starting_after", "ending_before") if param in parameters]
    for param in cursors:
        if parameters[param] not in ids:
            raise UnknownReference(noun, parameters[param], param=param)
    if len(cursors) > 1:
        raise two_cursors_error()
    limit = parameters["limit"]
    if "ending_before" in parameters:
        end = ids.index(parameters["ending_before"])
        return list(items[max(end - limit, 0) : end]), end > limit
    if "starting_after" in parameters:
        start = ids.index(parameters["starting_after"]) + 1
    return list(items[start : start + limit]), start + limit < end


def make_list_result(data: Sequence[Mapping[str, Any]], url: str, *, has_more: bool = False) -> QueryResult:
    """The result of a list that is exact, with the rendered `data`."""
    return QueryResult(make_list_object(data, url, has_more=has_more))
