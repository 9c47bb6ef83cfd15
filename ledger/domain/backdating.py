"""When something came about that is told of later than it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.errors import InvalidParameter


def resolve_created_at(params: Mapping[str, Any], now: int) -> int:
    """`params["created"]` in unix seconds, now when absent. Raises InvalidParameter for a time to come: lists
    would show it before all that is made until then."""
    created: int | None = params.get("created")
    if created is None:
        return now
    if created > now:
        raise InvalidParameter("created is in the future.", param="created")
    return created
