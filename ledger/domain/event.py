"""Base class of the domain events: facts just decided, named in the past tense, immutable.

Stored events are kept forever. Therefore each class has a `TOPIC` that contains no module path, and its
fields hold plain JSON values (no enums, tuples or datetimes). To change the shape of a class, raise its
`class_version` and add an `upcast_v1_v2` that converts the old stored fields (docs/rebuilding.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class DomainEvent:
    """One fact about one aggregate.

    originator_id       the stream: the object's public id
    originator_version  place in the stream: 1, 2, 3 …
    at                  unix seconds: the `now` of the decision
    """

    originator_id: str
    originator_version: int
    at: int

    TOPIC: ClassVar[str]
    PERSONAL: ClassVar[frozenset[str]] = frozenset()
    """Fields with personal data or evidence. The codec encrypts them, and they may later be erased: then they
    are read as None, so each is declared `| None` and `evolve` accepts None."""
