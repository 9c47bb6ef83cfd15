"""What a search of the log asks for, and the positions and topics that it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ledger.audit.event_ids import find_event_position
from ledger.audit.moments import parse_time_span
from ledger.errors import InvalidParameter
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec
from ledger.store.positions import find_last_position
from ledger.wire.topics import expand_types

COMPARISONS = ("gt", "gte", "lt", "lte")


class PositionRange(NamedTuple):
    """The positions after `after`, up to and including `upto`."""

    after: int
    upto: int

    @property
    def is_empty(self) -> bool:
        """Whether there is none."""
        return self.after >= self.upto

    def narrow(self, comparison: str, position: int) -> PositionRange:
        """Without the positions up to `position` (`gt`, `gte`), or without those after it (`lt`, `lte`)."""
        if comparison.startswith("gt"):
            return PositionRange(max(self.after, position), self.upto)
        return PositionRange(self.after, min(self.upto, position))


@dataclass(frozen=True, kw_only=True)
class LogFilters:
    """Filters of a search, each None or empty to leave it out. An event has to satisfy all of them.

    actor            id of the key that caused it, or `cli`
    request          id of the request
    idempotency_key  of the request
    object           id of the object that it happened to: its stream
    customer, charge, payment_intent
                     id of such an object: the events of the object, and those that name it
    event            id of a public Event that it made
    types            its types, such as `dispute.opened`; a pattern as `dispute.*` means all that begin so
    time             by comparison, such as `gte`: a unix time or an ISO 8601 time
    position         by comparison
    """

    actor: str | None = None
    request: str | None = None
    idempotency_key: str | None = None
    object: str | None = None
    customer: str | None = None
    charge: str | None = None
    payment_intent: str | None = None
    event: str | None = None
    types: Sequence[str] = ()
    time: Mapping[str, str] = field(default_factory=dict)
    position: Mapping[str, int] = field(default_factory=dict)

    def expand_types(self) -> list[str] | None:
        """The topics that `types` means, in order; None for all. Raises InvalidParameter."""
        topics = expand_types(self.types, param="type")
        return None if topics is None else sorted(topics)

    async def find_range(self, conn: Conn, codec: Codec, head: int, now: float) -> PositionRange:
        """The positions that `time`, `position` and `event` allow; `now` in unix seconds. Raises
        InvalidParameter for a range that begins in the future, and for one that ends before it begins."""
        spans = {name: parse_time_span(text, param=f"time[{name}]") for name, text in self.time.items()}
        _check_order(
            "time",
            {name: (end if name == "lte" else start).timestamp() for name, (start, end) in spans.items()},
        )
        _check_order("position", self.position)
        searched = PositionRange(0, head)
        for name, position in self.position.items():
            if name.startswith("gt") and position > head + 1:
                raise InvalidParameter(
                    f"Position {position} is in the future: the last one is {head}.",
                    param=f"position[{name}]",
                )
            searched = searched.narrow(name, position - (name in ("gte", "lt")))
        for name, (start, end) in spans.items():
            if name.startswith("gt") and start.timestamp() > now:
                raise InvalidParameter(
                    f"The time '{self.time[name]}' is in the future.", param=f"time[{name}]"
                )
            searched = searched.narrow(
                name, await find_last_position(conn, end if name in ("gt", "lte") else start)
            )
        texts = (self.event, *self.to_parameters().values())
        if any("\0" in text for text in texts if isinstance(text, str)):
            return PositionRange(0, 0)  # no text of the log has this character
        if self.event is not None and not searched.is_empty:
            found = await find_event_position(conn, codec, self.event)
            if found is None or not searched.after < found <= searched.upto:
                return PositionRange(0, 0)
            return PositionRange(found - 1, found)
        return searched

    def to_parameters(self) -> dict[str, Any]:
        """The parameters of SQL statements, by name: the filters that are set, without range and Event."""
        names = ("actor", "request", "idempotency_key", "object", "customer", "charge", "payment_intent")
        parameters = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if (topics := self.expand_types()) is not None:
            parameters["topics"] = topics
        return parameters


def _check_order(name: str, bounds: Mapping[str, float]) -> None:
    for low in ("gt", "gte"):
        for high in ("lt", "lte"):
            if low in bounds and high in bounds and bounds[low] > bounds[high]:
                raise InvalidParameter(
                    f"{name}[{high}] is before {name}[{low}]: exchange them.", param=f"{name}[{high}]"
                )
