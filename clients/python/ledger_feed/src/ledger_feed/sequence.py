"""The proof that nothing is missing, taken from the positions themselves."""

from __future__ import annotations

from collections.abc import Iterable

from ledger_feed.errors import FeedIncomplete, FeedOutOfOrder
from ledger_feed.items import Batch, Item, Progress


class Sequence:
    """Checks that positions ascend and, in a feed of the whole ledger, that none is missing."""

    def __init__(self, position: int, *, whole_ledger: bool) -> None:
        self.position = position
        """All that passes the filter up to here has come."""
        self._whole_ledger = whole_ledger

    def accept(self, messages: Iterable[Item | Progress]) -> Batch:
        """What has come, as one batch. Raises FeedIncomplete or FeedOutOfOrder, with nothing of it given."""
        after = position = self.position
        items = []
        head = None
        for message in messages:
            is_item = isinstance(message, Item)
            if message.position < position or (is_item and message.position == position):
                raise FeedOutOfOrder(position, message.position)
            # An item is the next position itself; progress says that nothing is between it and the last item.
            next_position = position + 1 if is_item else position
            if self._whole_ledger and message.position > next_position:
                raise FeedIncomplete(position, message.position)
            position = message.position
            if isinstance(message, Item):
                items.append(message)
            else:
                head = message.head
        self.position = position
        return Batch(after, position, tuple(items), head)
