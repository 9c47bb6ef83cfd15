"""The creation time of objects that were created in another system before they were reported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.errors import InvalidParameter


def resolve_created_at(params: Mapping[str, Any], now: int) -> int:
    """`params["created"]` in unix seconds, or `now` if absent.

    Raises InvalidParameter, param `created`, for a time in the future: lists are sorted by creation time, so
    such an object would be listed before everything created until then.
    """
    created: int | None = params.get("created")
    if created is None:
        return now
    if created > now:
        raise InvalidParameter("created is in the future.", param="created")
    return created


def resolve_reported_time(created: int | None, now: int, *, earliest: int, subject: str) -> int:
    """When something reported about `subject` happened: `created` in unix seconds, or `now` if None.

    Raises InvalidParameter, param `created`, for a time in the future or before `earliest`, the creation of
    `subject`.
    """
    if created is not None and created < earliest:
        text = f"created is before the creation of {subject}, which is {earliest}."
        raise InvalidParameter(text, param="created")
    return resolve_created_at({"created": created}, now)
