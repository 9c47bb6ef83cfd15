"""The trial balance at any moment: debits, credits and balance of each ledger account, in each currency.

Exact whatever state the projection `postings` is in: its rows are added up to its checkpoint, and what it
lacks, the events after that and those of parked streams, is derived from the log. A process remembers the
sums up to each multiple of SLICE_POSITIONS, so only its first answer costs a pass over all postings. They
stay right: the log only grows, and the sums of another generation are other sums.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, NamedTuple

from ledger.audit.auditor import Auditor
from ledger.audit.moments import Moment, find_moment
from ledger.domain import charge, dispute
from ledger.domain.money import check_currency
from ledger.domain.postings import Posting, derive_postings
from ledger.lru import LruCache
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.queries.context import QueryContext
from ledger.store.codec import Codec, UnreadableEvent
from ledger.store.log import Recorded, read_log, read_stream
from ledger.wire.aggregates import EVENT_CLASSES

SLICE_POSITIONS = 25_000
PAGE_POSITIONS = 1000
REMEMBERED_SLICES_MAX = 10_000
UNREADABLE_SHOWN_MAX = 20

MONEY_TOPICS = frozenset(
    event_class.TOPIC
    for event_class in EVENT_CLASSES
    if any(each.name == "movement" for each in fields(event_class))
)
"""The topics of domain events that may move money."""
_OTHER_TOPICS = [each.TOPIC for each in EVENT_CLASSES if each.TOPIC not in MONEY_TOPICS]
_FIRST_TOPICS = frozenset(each.TOPIC for each in (*charge.EVENTS, *dispute.EVENTS))

_ONE_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_PROGRESS = """
SELECT l.generation, c.position FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = 'postings'
"""
_SUM_ROWS = """
SELECT ledger_account, currency,
       coalesce(sum(amount) FILTER (WHERE amount > 0), 0)::bigint,
       coalesce(-sum(amount) FILTER (WHERE amount < 0), 0)::bigint
FROM projections.postings
WHERE generation = %(generation)s AND position > %(after)s AND position <= %(upto)s
AND account = %(account)s AND livemode = %(livemode)s
GROUP BY ledger_account, currency
"""
_PARKED_STREAMS = """
SELECT p.stream, p.position FROM projections.parked p
WHERE p.projection = 'postings' AND p.generation = %(generation)s AND EXISTS (
    SELECT FROM ledger.events e
    WHERE e.originator_id = p.stream AND e.notification_id >= p.position
    AND e.notification_id > %(after)s AND e.notification_id <= %(upto)s
    AND e.account = %(account)s AND e.livemode = %(livemode)s)
"""


class Sums(NamedTuple):
    """The sums of postings in minor units, both positive."""

    debits: int
    credits: int


class Unreadable(NamedTuple):
    """A record that may have moved money and cannot be read: no answer includes it."""

    position: int
    object: str
    reason: str


Books = dict[tuple[str, str], Sums]
"""Sums by ledger account and currency."""


class TrialBalance(NamedTuple):
    """The books of one account and mode at a moment, without the `unreadable` records."""

    moment: Moment
    books: Books
    unreadable: list[Unreadable]

    def to_json(self) -> dict[str, Any]:
        """The response: `accounts` by currency and ledger account, `totals` by currency. Amounts are in minor
        units; `balance` is debits less credits."""
        totals: Books = {}
        accounts = []
        for (ledger_account, currency), sums in sorted(self.books.items(), key=lambda item: item[0][::-1]):
            accounts.append({"ledger_account": ledger_account, "currency": currency, **_render(sums)})
            _add(totals, ("", currency), sums)
        return {
            "as_of": self.moment.to_json(),
            "accounts": accounts,
            "totals": [{"currency": currency, **_render(sums)} for (_, currency), sums in totals.items()],
            "unreadable": [each._asdict() for each in self.unreadable[:UNREADABLE_SHOWN_MAX]],
        }


class TrialBalances:
    """Computes trial balances in one process, and remembers the sums up to the end of each slice of the log,
    which has `slice_positions`."""

    def __init__(self, queries: QueryContext, *, slice_positions: int = SLICE_POSITIONS) -> None:
        self._slice_positions = slice_positions
        self._reads = queries.reads
        self._codec = queries.store.codec
        self._clock = queries.store.clock
        self._remembered: LruCache[tuple[str, bool, int, int], Books] = LruCache(REMEMBERED_SLICES_MAX)
        queries.store.durability.on_failover.append(self._remembered.clear)

    async def compute(self, auditor: Auditor, at: str | None, currency: str | None = None) -> TrialBalance:
        """The auditor's books at the moment `at` (see `find_moment`), in one currency or all. Raises
        InvalidParameter, Unavailable."""
        if currency is not None:
            currency = currency.lower()
            check_currency(currency)
        moment = await self._reads.run_idempotent(lambda conn: find_moment(conn, self._clock, at))
        books, unreadable = await self._sum_up_to(auditor, moment.position)
        if currency is not None:
            books = {key: sums for key, sums in books.items() if key[1] == currency}
        return TrialBalance(moment, books, unreadable)

    async def _sum_up_to(self, auditor: Auditor, upto: int) -> tuple[Books, list[Unreadable]]:
        generation = await self._reads.run_idempotent(_fetch_generation)
        position, books = self._find_remembered(auditor, generation, upto)
        unreadable: list[Unreadable] = []
        while position < upto:
            boundary = (position // self._slice_positions + 1) * self._slice_positions
            slice_ = _Slice(auditor, position, min(upto, boundary))
            await self._reads.run_idempotent(slice_.sum_with(self._codec))
            if slice_.generation != generation:  # a rebuild was promoted meanwhile
                generation, position, books, unreadable = slice_.generation, 0, {}, []
                continue
            position = slice_.upto
            books = _merge(books, slice_.books)
            unreadable += slice_.unreadable
            if position == boundary and not unreadable:
                key = (auditor.account, auditor.livemode, generation, position)
                self._remembered.put(key, books)
        return books, unreadable

    def _find_remembered(self, auditor: Auditor, generation: int, upto: int) -> tuple[int, Books]:
        """The last position up to `upto` of which the sums are known, and these."""
        step = self._slice_positions
        for position in range(upto // step * step, 0, -step):
            books = self._remembered.get((auditor.account, auditor.livemode, generation, position))
            if books is not None:
                return position, books
        return 0, {}


class _Slice:
    """The sums of the postings of the positions after `after` up to `upto`, read in one snapshot.

    generation  of the rows that were added; 0 when there is none yet
    """

    def __init__(self, auditor: Auditor, after: int, upto: int) -> None:
        self._auditor = auditor
        self._after = after
        self.upto = upto
        self.generation = 0
        self.books: Books = {}
        self.unreadable: list[Unreadable] = []

    def sum_with(self, codec: Codec) -> Any:
        """What `Pool.run_idempotent` runs: each run begins anew."""

        async def sum_slice(conn: Conn) -> None:
            self.books, self.unreadable = {}, []
            async with conn.transaction():
                await conn.execute(_ONE_SNAPSHOT)
                self.generation, checkpoint = await fetch_one(conn, _PROGRESS) or (0, 0)
                if self._after < checkpoint:
                    await self._sum_rows(conn, codec, min(self.upto, checkpoint))
                await self._sum_log(conn, codec, max(self._after, checkpoint))

        return sum_slice

    async def _sum_rows(self, conn: Conn, codec: Codec, upto: int) -> None:
        """Add the rows up to `upto`, and what parked streams lack of them."""
        bindings = {
            "generation": self.generation, "after": self._after, "upto": upto,
            "account": self._auditor.account, "livemode": self._auditor.livemode,
        }  # fmt: skip
        for ledger_account, currency, debits, credits in await fetch_all(conn, _SUM_ROWS, bindings):
            _add(self.books, (ledger_account, currency), Sums(debits, credits))
        for stream, parked_at in await fetch_all(conn, _PARKED_STREAMS, bindings):
            first = max(self._after + 1, parked_at)
            recorded = await read_stream(conn, codec, stream, upto=upto)
            self._add_events(each for each in recorded if each.position >= first)

    async def _sum_log(self, conn: Conn, codec: Codec, position: int) -> None:
        """Add the events after `position`."""
        while position < self.upto:
            count = min(PAGE_POSITIONS, self.upto - position)
            self._add_events(await read_log(conn, codec, position, count, ignored_topics=_OTHER_TOPICS))
            position += count

    def _add_events(self, events: Iterable[Recorded]) -> None:
        for recorded in events:
            if (recorded.account, recorded.livemode) != (self._auditor.account, self._auditor.livemode):
                continue
            event = recorded.event
            if isinstance(event, UnreadableEvent):
                if event.first_topic in _FIRST_TOPICS and event.error.topic not in _OTHER_TOPICS:
                    failure = Unreadable(recorded.position, event.originator_id, event.error.reason)
                    self.unreadable.append(failure)
                continue
            for posting in derive_postings(event):
                _add(self.books, (posting.account, posting.currency), _to_sums(posting))


def _merge(books: Books, others: Books) -> Books:
    """The sums of both."""
    result = dict(books)
    for key, sums in others.items():
        _add(result, key, sums)
    return result


async def _fetch_generation(conn: Conn) -> int:
    row = await fetch_one(conn, _PROGRESS)
    return row[0] if row is not None else 0


def _add(books: Books, key: tuple[str, str], sums: Sums) -> None:
    known = books.get(key, Sums(0, 0))
    books[key] = Sums(known.debits + sums.debits, known.credits + sums.credits)


def _to_sums(posting: Posting) -> Sums:
    return Sums(max(posting.amount, 0), max(-posting.amount, 0))


def _render(sums: Sums) -> dict[str, int]:
    return {"debits": sums.debits, "credits": sums.credits, "balance": sums.debits - sums.credits}
