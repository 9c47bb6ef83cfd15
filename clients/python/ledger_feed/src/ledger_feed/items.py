"""What the feed says: items, and how far it has come."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ledger_feed.errors import MalformedFeed


class PublicEvent(NamedTuple):
    """An Event of the public API that the recorded event made."""

    id: str
    type: str


@dataclass(frozen=True, slots=True)
class Item:
    """One event of the log. `members` is all that came, with members of later releases.

    `data` has the event's fields without personal ones. It is None for an event that the service cannot read;
    then `unreadable` has the reason, and everything else is as usual.
    """

    position: int
    type: str
    object: str
    version: int
    account: str
    livemode: bool
    recorded_at: float
    """Unix time in seconds."""
    request: str | None
    causation: str | None
    events: tuple[PublicEvent, ...] | None
    """None if the service cannot tell, since it cannot read the event."""
    data: Mapping[str, Any] | None
    unreadable: str | None
    members: Mapping[str, Any]

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> Item:
        """The item of a JSON object. Raises MalformedFeed if it has not what an item has."""
        try:
            events = members["events"]
            return cls(
                members["position"],
                members["type"],
                members["object"],
                members["version"],
                members["account"],
                members["livemode"],
                members["recorded_at"],
                members["request"],
                members["causation"],
                None if events is None else tuple(PublicEvent(each["id"], each["type"]) for each in events),
                members.get("data"),
                members.get("unreadable"),
                members,
            )
        except (KeyError, TypeError) as error:
            raise MalformedFeed(f"an item of the feed lacks {error}: {str(members)[:200]}") from error

    @property
    def last(self) -> LastItem:
        """By what the item is known again."""
        return LastItem(self.position, self.object, self.version)


class LastItem(NamedTuple):
    """The last item that a consumer has applied. If another one stands there later, the log was replaced."""

    position: int
    object: str
    version: int


class Progress(NamedTuple):
    """All items up to `position` that pass the filter have been sent; `head` is the end of the log."""

    position: int
    head: int


class PositionMovedBack(Exception):
    """The consumer's position was set to an earlier one: what follows it is to be read anew."""


class Batch(NamedTuple):
    """Items in order. All that pass the filter after position `after`, up to `position`, are among them."""

    after: int
    position: int
    items: tuple[Item, ...]
    head: int | None = None
    """The end of the log, if it came with them."""

    def list_after(self, position: int) -> list[Item]:
        """What a consumer at `position` has not applied. Raises PositionMovedBack if it lacks more."""
        if position < self.after:
            raise PositionMovedBack
        if not self.items or self.items[0].position > position:
            return list(self.items)
        return [item for item in self.items if item.position > position]

    def split(self, items_max: int) -> Iterator[Batch]:
        """The same in batches of at most `items_max` items."""
        after = self.after
        for begin in range(0, max(len(self.items), 1), items_max):
            items = self.items[begin : begin + items_max]
            is_last = begin + items_max >= len(self.items)
            position = self.position if is_last else items[-1].position
            yield Batch(after, position, items, self.head)
            after = position


def parse_message(text: bytes | str) -> Item | Progress:
    """The item or the progress of one line. Raises MalformedFeed."""
    try:
        members = json.loads(text)
        if "progress" in members:
            return Progress(members["progress"], members["head"])
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedFeed(f"a line of the feed cannot be read ({error}): {text[:200]!r}") from error
    return Item.from_members(members)
