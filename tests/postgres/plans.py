"""Plans of statements, as EXPLAIN prints them in JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def list_nodes(plan: Any) -> Iterator[Any]:
    """The nodes of a plan, each before those below it."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from list_nodes(child)
