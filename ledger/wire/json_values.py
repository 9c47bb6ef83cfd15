"""JSON objects as dicts, and the limits on those that other services publish.

An object that passes `check_object` can be stored in Postgres and rendered unchanged to clients in any
language.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ledger.wire.scalars import INTEGER_MAX

Json = dict[str, Any]
"""A JSON object. Each renderer of this package returns one with all members of contract §2, unused ones null.

An expandable member is an id; to expand it, replace the member. Nested members may be shared between
results, so replace them and never change them in place.
"""
OBJECT_BYTES_MAX = 262_144
"""Bytes of a published object as compact JSON."""
DEPTH_MAX = 32
"""Levels of nested hashes and arrays."""


def make_list_object(data: Sequence[Mapping[str, Any]], url: str, *, has_more: bool = False) -> Json:
    """A list object with the rendered `data`. `url`: where the whole list is read (contract §1.7)."""
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def check_object(document: dict[str, Any]) -> dict[str, Any]:
    """`document`, unchanged. Raises ValueError for one that is too deep or too large, or contains a NUL
    character, an unpaired surrogate, NaN, Infinity, or an integer beyond 64 bits. No error message contains a
    value."""
    current_level: list[Any] = [document]
    for _ in range(DEPTH_MAX):
        next_level: list[Any] = []
        for container in current_level:
            if isinstance(container, dict):
                for name in container:
                    _check_text(name)
            members = container.values() if isinstance(container, dict) else container
            for member in members:
                if isinstance(member, dict | list):
                    next_level.append(member)
                else:
                    _check_scalar(member)
        current_level = next_level
    if current_level:
        raise ValueError(f"must not be nested deeper than {DEPTH_MAX} levels")
    if len(msgspec.json.encode(document)) > OBJECT_BYTES_MAX:
        raise ValueError(f"must be at most {OBJECT_BYTES_MAX} bytes of JSON")
    return document


def _check_scalar(value: Any) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("must not contain NaN or Infinity")
    elif isinstance(value, int) and abs(value) > INTEGER_MAX:
        raise ValueError("must not contain an integer beyond 64 bits")


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise ValueError("must not contain a NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain an unpaired surrogate")
