"""Base class of the domain events: facts just decided, named in the past tense, immutable.

Stored events are kept forever. Therefore each class has a `TOPIC` that contains no module path, and its
fields hold plain JSON values (no enums, tuples or datetimes). To change the shape of a class, raise its
`class_version` and add an `upcast_v1_v2` that converts the old stored fields (docs/rebuilding.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar, dataclass_transform

from ledger.domain.redaction.rules import Rule

Event = TypeVar("Event")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def domain_event(cls: type[Event]) -> type[Event]:
    """Declares a class of domain events. That nobody changes an event is checked by mypy alone: at run time
    each field would take 0.08 µs instead of 0.02, and a decision 1 µs longer."""
    return dataclass(kw_only=True, unsafe_hash=True)(cls)


@domain_event
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
    REDACTION: ClassVar[Mapping[str, Rule]] = {}
    """By name of each field with personal data or evidence, what stays of its value once it is erased."""
    PERSONAL: ClassVar[frozenset[str]] = frozenset()
    """The names of these fields. The codec encrypts them, and they may later be erased: until it is known
    what stays they are read as None, so each is declared `| None` and `evolve` accepts None."""
    redaction: ClassVar[str | None] = None
    """How far the erasure of its personal data is; the codec sets it on an event that it decodes, and it is
    never stored. None: nothing is erased. `processing`: the key is given up, and the personal fields are
    None. `redacted`: they are what stays of them (`domain/redaction`)."""
