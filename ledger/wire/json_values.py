"""JSON objects told by other services: what of them can be kept, and shown to anyone again as it was told.

Everything that reads them later (Postgres, clients in any language) takes what passes here.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

OBJECT_BYTES_MAX = 262_144
"""Of an object as compact JSON."""
DEPTH_MAX = 32
"""Hashes and arrays within each other."""
INTEGER_MAX = 2**63 - 1


def check_object(document: dict[str, Any]) -> dict[str, Any]:
    """`document`, unchanged. Raises ValueError, without its values, for what cannot be kept: too deep or too
    large, a NUL or half a character in a text, a number that JSON has not or 64 bits cannot hold."""
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
            raise ValueError("must hold no number that JSON has not")
    elif isinstance(value, int) and abs(value) > INTEGER_MAX:
        raise ValueError("must hold no integer of more than 64 bits")


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise ValueError("must hold no NUL")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must hold no half of a surrogate pair")
