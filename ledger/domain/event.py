"""What every domain event is: a fact just decided, named in the past tense, immutable.

A stored event lives for ever. So its class has a `TOPIC` free of module paths, its fields hold JSON
values as they are (no enums, tuples or datetimes to translate), and a change of shape raises
`class_version` and adds an `upcast_v1_v2` that lifts the old stored state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class DomainEvent:
    """One fact of one aggregate.

    originator_id       the stream: the public id of the object
    originator_version  place in the stream: 1, 2, 3 …
    at                  unix seconds: the `now` it was decided with
    """

    originator_id: str
    originator_version: int
    at: int

    TOPIC: ClassVar[str]
    PERSONAL: ClassVar[frozenset[str]] = frozenset()
    """Fields that hold personal data or evidence texts: sealed by the codec, never stored readable."""
