"""Reads Ledger's feed by position, and applies each event to a Postgres database exactly once.

`Feed` reads over HTTP, `PostgresPositions` keeps how far a consumer has come, and `Consumer` hands each event
to a function in the transaction that moves the position. `Inbox` is for functions that call other systems.
"""

from ledger_feed.consumer import Consumer, Handler
from ledger_feed.errors import (
    FeedError,
    FeedIncomplete,
    FeedOutOfOrder,
    FeedRefused,
    FilterChanged,
    KeyRefused,
    LedgerChanged,
    MalformedFeed,
    PositionFromTheFuture,
)
from ledger_feed.feed import Feed
from ledger_feed.inbox import Call, Inbox
from ledger_feed.items import Batch, Item, LastItem, PublicEvent
from ledger_feed.positions import PostgresPositions, Reached

__all__ = [
    "Batch",
    "Call",
    "Consumer",
    "Feed",
    "FeedError",
    "FeedIncomplete",
    "FeedOutOfOrder",
    "FeedRefused",
    "FilterChanged",
    "Handler",
    "Inbox",
    "Item",
    "KeyRefused",
    "LastItem",
    "LedgerChanged",
    "MalformedFeed",
    "PositionFromTheFuture",
    "PostgresPositions",
    "PublicEvent",
    "Reached",
]
