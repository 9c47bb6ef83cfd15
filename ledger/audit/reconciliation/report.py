"""What a reconciliation found: differences, one after the other, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """One place where two records of the money do not agree. It quotes no personal data.

    position  of the event that is at fault or that the row belongs to; None if there is none
    object    id of the charge, refund, dispute or account
    what      what was compared
    """

    position: int | None
    object: str
    what: str
    expected: Any
    found: Any


class Gap(NamedTuple):
    """A place that could not be reconciled, and why."""

    position: int | None
    object: str
    reason: str


Show = Callable[[Difference | Gap], None]


@dataclass
class Report:
    """Counts, while each difference and gap goes to `show` at once.

    position     the log was read up to it
    streams      charges, refunds and disputes
    events       their events
    entries      events that moved money
    rows         rows compared, by projection
    checkpoints  position of each projection, None without a live generation
    """

    show: Show
    position: int = 0
    streams: int = 0
    events: int = 0
    entries: int = 0
    differences: int = 0
    gaps: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    checkpoints: dict[str, int | None] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        """Whether something was reconciled, all of it could be, and everything agrees."""
        return self.streams > 0 and not self.differences and not self.gaps

    def add(self, position: int | None, object_id: str, what: str, *, expected: Any, found: Any) -> None:
        """Report a difference."""
        self.differences += 1
        self.show(Difference(position, object_id, what, expected, found))

    def add_gap(self, position: int | None, object_id: str, reason: str) -> None:
        """Report what could not be reconciled."""
        self.gaps += 1
        self.show(Gap(position, object_id, reason))

    def to_json(self) -> dict[str, Any]:
        """The counts as a JSON object."""
        names = ("position", "streams", "events", "entries", "differences", "gaps", "rows", "checkpoints")
        return {name: getattr(self, name) for name in names} | {"success": self.is_success}
