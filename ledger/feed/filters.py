"""Which items a reader gets: what its key may read, and what it asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ledger.errors import InvalidParameter
from ledger.feed.blocks import Block, Owner
from ledger.wire.aggregates import EVENT_CLASSES
from ledger.wire.public_events import is_ledger_event_type
from ledger.wire.suggestions import list_alternatives
from ledger.wire.thin_events import to_snapshot_type

TOPICS = tuple(sorted(event_class.TOPIC for event_class in EVENT_CLASSES))
_TYPES_PAGE = "docs/feed.md, Types"


@dataclass(frozen=True, kw_only=True)
class FeedFilter:
    """What a reader gets. All items by default.

    account    only items of this account
    platform   only items of this account, and of those connected to it
    livemode   only items of this mode
    topics     only items of these types
    stream     only items of this object
    """

    account: str | None = None
    platform: str | None = None
    livemode: bool | None = None
    topics: frozenset[str] | None = None
    stream: str | None = None

    @property
    def passes_all(self) -> bool:
        """Whether it leaves nothing out."""
        return self == _ALL

    def may_pass(self, block: Block) -> bool:
        """Whether an item of the block may pass, as far as its owners tell."""
        account = self.account or self.platform
        if account is None:
            return True
        if self.livemode is None:
            return (account, False) in block.reach or (account, True) in block.reach
        return (account, self.livemode) in block.reach

    def select(self, block: Block, after: int, upto: int) -> Sequence[int]:
        """The positions of the items of `block` that pass, after one position and up to another."""
        positions = range(max(after + 1, block.first), min(upto, block.last) + 1)
        if self.passes_all or not positions:
            return positions
        owners = self._find_owners(block) if self.may_pass(block) else set()
        if not owners:
            return ()
        first, keys = block.first, block.keys
        found: Sequence[int] = positions
        if (stream := self.stream) is not None:
            found = [each for each in found if keys.streams[each - first] == stream]
        if (topics := self.topics) is not None:
            found = [each for each in found if keys.topics[each - first] in topics]
        if len(owners) < len(block.owners):
            found = [each for each in found if keys.owners[each - first] in owners]
        return found

    def _find_owners(self, block: Block) -> set[Owner]:
        """The owners of the block whose items pass."""
        return {
            owner
            for owner, platform in block.owners.items()
            if (self.livemode is None or owner[1] == self.livemode)
            and (self.account is None or owner[0] == self.account)
            and (self.platform is None or self.platform in (owner[0], platform))
        }


_ALL = FeedFilter()


def expand_types(patterns: Iterable[str]) -> frozenset[str] | None:
    """The types of recorded events that are meant, `dispute.*` being all that begin so; None for all: without
    patterns, too. Raises InvalidParameter."""
    topics: set[str] = set()
    for pattern in patterns:
        found = [topic for topic in TOPICS if _matches(pattern, topic)]
        if not found:
            raise _refuse_type(pattern)
        topics.update(found)
    return frozenset(topics) if topics and len(topics) < len(TOPICS) else None


def _refuse_type(pattern: str) -> InvalidParameter:
    """The refusal of what is no type, with what may be meant: a public Event's type names its object last,
    as `charge.dispute.created` and `v1.charge.dispute.created` do."""
    event_type = to_snapshot_type(pattern) or pattern
    what, candidates = "no type of a recorded event", TOPICS
    if is_ledger_event_type(event_type) and pattern.count(".") > 1:
        what = "a type of public Events, not of recorded ones"
        family = event_type.split(".")[-2] + "."
        candidates = tuple(topic for topic in TOPICS if topic.startswith(family)) or TOPICS
    alternatives = list_alternatives(event_type, candidates, _TYPES_PAGE)
    return InvalidParameter(
        f"Invalid type: '{pattern[:80]}' is {what}. Did you mean {alternatives}?", param="types"
    )


def _matches(pattern: str, topic: str) -> bool:
    return topic.startswith(pattern[:-1]) if pattern.endswith("*") else topic == pattern
