"""Errors that end a consumer: going on would lose events, or be refused again.

    FeedError
    ├─ FeedIncomplete           a position is missing
    ├─ FeedOutOfOrder           a position came twice, or after a later one
    ├─ MalformedFeed            the answer is not the feed
    ├─ FeedRefused              the service refused the request (4xx)
    │  ├─ KeyRefused            ... because of the key (401, 403)
    │  └─ PositionFromTheFuture ... because its log does not reach the position
    ├─ LedgerChanged            another event stands at a position that was applied
    └─ FilterChanged            the position was reached with another filter

What passes by itself (a lost connection, a 429 or 5xx, a lost database) is retried and is no error of these.
"""

from __future__ import annotations


class FeedError(Exception):
    """What ends a consumer. Everything that was applied before stays applied."""


class FeedIncomplete(FeedError):
    """The feed of the whole ledger has no holes, but the position after `previous` did not come."""

    def __init__(self, previous: int, position: int) -> None:
        super().__init__(
            f"the feed went from position {previous} to {position}, and what is between them is missing. "
            "A feed of the whole ledger has no holes: does the key have the scope ledger_feed? "
            "Without it, leave out whole_ledger."
        )
        self.previous = previous
        self.position = position


class FeedOutOfOrder(FeedError):
    """Positions ascend, but `position` came after `previous`."""

    def __init__(self, previous: int, position: int) -> None:
        super().__init__(
            f"position {position} came after position {previous}, though positions ascend: "
            "does a cache or a proxy answer in place of the service?"
        )
        self.previous = previous
        self.position = position


class MalformedFeed(FeedError):
    """The answer is not what the feed sends, such as a page of a proxy."""


class FeedRefused(FeedError):
    """The service refused the request, in its words; `param` is the parameter at fault."""

    def __init__(self, status: int, message: str, code: str | None, param: str | None) -> None:
        super().__init__(f"{message} (status {status})")
        self.status = status
        self.code = code
        self.param = param


class KeyRefused(FeedRefused):
    """The key is unknown, expired or revoked, or lacks the scope."""


class PositionFromTheFuture(FeedRefused):
    """The log ends before the consumer's position: the ledger was restored from an older backup."""

    def __init__(self, status: int, message: str, code: str | None, param: str | None) -> None:
        advice = (
            "The ledger has lost events that this consumer has applied, since it was restored from an older "
            "backup, or this is another ledger. Restore the consumer's database to a moment before that one; "
            "or undo by hand what it applied of the lost events, and set position, and last_item to NULL, in "
            "ledger_feed_positions."
        )
        super().__init__(status, f"{message} {advice}", code, param)


class LedgerChanged(FeedError):
    """Another event, or none, stands where the consumer applied its last one."""

    def __init__(self, position: int, applied: str, found: str) -> None:
        super().__init__(
            f"the last event that was applied is {applied} at position {position}, but the ledger now shows "
            f"{found}. The ledger was restored from an older backup and went on from there, this is another "
            "ledger, or the key cannot read that event any more. Restore the consumer's database to a moment "
            "before the backup; or undo by hand what it applied of the lost events, and set position, and "
            "last_item to NULL, in ledger_feed_positions."
        )
        self.position = position


class FilterChanged(FeedError):
    """The consumer's position was reached with another filter, which may have passed over events."""

    def __init__(self, consumer: str, stored: str, requested: str) -> None:
        super().__init__(
            f"consumer {consumer!r} came to its position with the filter {stored}, not {requested}: earlier "
            "events that only the new filter passes were never applied. Give the consumer a new name, under "
            "which it begins anew; or, if those events do not matter, set filter in ledger_feed_positions."
        )
