"""Which items a reader gets: what its key may read, and what it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.feed.blocks import Block, Owner


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
