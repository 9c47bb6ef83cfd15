"""A history as integrators would make it, decided by the domain: the same seed gives the same events.

Many customers' stories run at once, so neighbours in the log belong to different streams. A story is a
customer who is created and updated, opens sessions, pays, and now and then disputes a charge.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime

import psycopg

from benchmarks.store import ACCOUNT, CAUSE
from ledger.domain import charge_decisions, customer, customer_session, dispute_decisions
from ledger.domain.cards import source_card
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.domain.dispute import Dispute
from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.ids import derived_id
from ledger.store.codec import Codec, State, evolve
from ledger.store.journal import Append, Change, Journal

STORIES_AT_ONCE = 500
CHANGES_AT_ONCE = 1000
DAY_SECONDS = 86_400
BEGIN = 1_790_000_000
"""Unix seconds of the first decision."""

Told = Generator[list[Change], None, State]
"""Commands, each as its changes; what is returned is the aggregate after them."""

_COPY = """
COPY ledger.events (notification_id, originator_id, originator_version, topic, state, account, livemode,
    actor, request_id, idempotency_key, causation, customer, charge, payment_intent, recorded_at)
FROM STDIN (FORMAT BINARY)
"""
_COPIED_AS = (
    "int8", "text", "int4", "text", "bytea", "text", "bool", *["text"] * 7, "timestamptz"
)  # fmt: skip
_MOVE_HEAD = """
UPDATE ledger.head h SET position = e.notification_id, recorded_at = e.recorded_at
FROM (SELECT notification_id, recorded_at FROM ledger.events ORDER BY notification_id DESC LIMIT 1) e
"""
_GAPLESS = "SELECT count(*), min(notification_id), max(notification_id) FROM ledger.events"

_TERMS = Terms()
_COMPONENTS = ("pricing_table", "payment_element", "buy_button", "customer_sheet")
_LETTER = "The customer signed for the parcel on the day of delivery; the carrier's record is attached. " * 3
_ADDRESS = {"line1": "510 Townsend St", "city": "San Francisco", "postal_code": "94103", "country": "US"}


def history(seed: int, events: int) -> Iterator[Change]:
    """Exactly `events` changes, in the order in which they are decided."""
    world = _World(seed)
    stories = [_story(world) for _ in range(STORIES_AT_ONCE)]
    left = events
    while left > 0:
        number = world.chance.randrange(STORIES_AT_ONCE)
        world.now += world.chance.random()
        changes = next(stories[number], None)
        if changes is None:
            stories[number] = _story(world)
        else:
            yield from changes[:left]
            left -= len(changes)


async def append_in_bulk(journal: Journal, changes: Iterable[Change]) -> int:
    """Append, `CHANGES_AT_ONCE` in a transaction; the last position."""
    position = 0
    batch: list[Change] = []
    for change in changes:
        batch.append(change)
        if len(batch) == CHANGES_AT_ONCE:
            position = await journal.append(Append(CAUSE, batch))
            batch = []
    return await journal.append(Append(CAUSE, batch)) if batch else position


def copy_history(dsn: str, codec: Codec, seed: int, events: int, *, days: float) -> None:
    """The same events as the log of an empty database, recorded evenly over the last `days`, ten times as
    fast as appending them: encoded by the real codec, one COPY, the head moved in the same transaction.

    Raises RuntimeError when what is there then is not positions 1 to `events`.
    """
    began = time.time() - days * DAY_SECONDS
    step = days * DAY_SECONDS / events
    with psycopg.connect(dsn) as conn, conn.cursor() as cur:
        with cur.copy(_COPY) as copy:
            copy.set_types(_COPIED_AS)
            for position, (event, state, causation) in enumerate(history(seed, events), 1):
                stored = codec.to_stored_event(event)
                copy.write_row(
                    (
                        position, stored.originator_id, stored.originator_version, stored.topic, stored.state,
                        CAUSE.account, CAUSE.livemode, CAUSE.actor, CAUSE.request_id, None, causation,
                        getattr(state, "customer", None), getattr(state, "charge", None),
                        getattr(state, "payment_intent", None),
                        datetime.fromtimestamp(began + position * step, UTC),
                    )
                )  # fmt: skip
        cur.execute(_MOVE_HEAD)
        row = cur.execute(_GAPLESS).fetchone()
        if row != (events, 1, events):
            raise RuntimeError(f"the log holds {row}, not positions 1 to {events}")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE ledger.events")


class _World:
    """Time, chance and ids, all from the seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now: float = BEGIN
        self._seed = seed
        self._made = 0

    def id(self, prefix: str) -> str:
        self._made += 1
        return derived_id(prefix, self.now, self._seed, self._made)

    @property
    def second(self) -> int:
        return int(self.now)


def _story(world: _World) -> Iterator[list[Change]]:
    """One customer's life."""
    chance = world.chance
    someone = yield from _told(None, _customer_created(world))
    assert isinstance(someone, Customer)
    for visit in range(chance.randrange(1, 4)):
        yield from _session(world, someone)
        if chance.random() < 0.5:
            given = {"metadata": {"visits": str(visit), "channel": chance.choice(("web", "app"))}}
            updated = customer.update(someone, given, card_id="", now=world.second)
            someone = yield from _told(someone, updated)
            assert isinstance(someone, Customer)
        for _ in range(chance.randrange(1, 3)):
            paid = yield from _told(None, _charged(world, someone))
            assert isinstance(paid, Charge)
            if paid.captured and chance.random() < 0.15:
                yield from _dispute(world, paid)


def _session(world: _World, someone: Customer) -> Iterator[list[Change]]:
    """A session, which two in three times is claimed."""
    component = world.chance.choice(_COMPONENTS)
    created = customer_session.create(
        session_id=world.id("cuss"),
        account=ACCOUNT,
        livemode=False,
        customer=someone.id,
        components={component: {"enabled": True}},
        terms=_TERMS,
        now=world.second,
    )
    opened = yield from _told(None, created)
    assert isinstance(opened, CustomerSession)
    if world.chance.random() < 0.67 and customer_session.state_at(opened, world.second) == "open":
        yield from _told(opened, customer_session.claim(opened, now=world.second))


def _dispute(world: _World, paid: Charge) -> Iterator[list[Change]]:
    """A chargeback: evidence and the network's answer, or the merchant gives in, or nothing yet."""
    opening = dispute_decisions.Opening(
        kind="chargeback", reason="fraudulent", network_reason_code="10.4", reference=world.id("ref")
    )
    on_charge, on_dispute = dispute_decisions.open_dispute(
        paid, opening, dispute_id=world.id("du"), txn_id=world.id("txn"), terms=_TERMS, now=world.second
    )
    state: State = evolve(None, on_dispute)
    yield [Change(on_charge, evolve(paid, on_charge)), Change(on_dispute, state)]
    course = world.chance.choice(("won", "lost", "lost", "conceded", "open"))
    assert isinstance(state, Dispute)
    if course == "open":
        return
    if course == "conceded":
        yield from _told(state, dispute_decisions.close(state, now=world.second))
        return
    for given in (
        {"evidence": {"product_description": "A book", "customer_name": "Jenny Rosen"}, "submit": False},
        {"evidence": {"uncategorized_text": _LETTER}, "submit": True},
    ):
        staged = dispute_decisions.update(state, given, file_bytes={}, now=world.second)
        state = yield from _told(state, staged)
        assert isinstance(state, Dispute)
    told = dispute_decisions.report_fact(
        state, course, world.id("ref"), due_by=None, txn_id=world.id("txn"), terms=_TERMS, now=world.second
    )
    yield from _told(state, told)


def _customer_created(world: _World) -> list[DomainEvent]:
    number = world.chance.randrange(10_000_000)
    given = {
        "name": f"Jenny Rosen {number}",
        "email": f"jenny.rosen.{number}@example.com",
        "address": _ADDRESS,
        "metadata": {"order": str(number)},
    }
    return customer.create(
        customer_id=world.id("cus"),
        account=ACCOUNT,
        livemode=False,
        given=given,
        card_id="",
        now=world.second,
    )


def _charged(world: _World, someone: Customer) -> list[DomainEvent]:
    """A charge, one in twenty of them declined."""
    token = "tok_chargeDeclined" if world.chance.random() < 0.05 else "tok_visa"
    given = {
        "amount": world.chance.randrange(500, 50_000),
        "currency": world.chance.choice(("usd", "eur")),
        "customer": someone.id,
        "description": "Order",
        "metadata": {"order": str(world.chance.randrange(10_000_000))},
    }
    return charge_decisions.create(
        charge_id=world.id("ch"),
        account=ACCOUNT,
        livemode=False,
        given=given,
        card=source_card(token, card_id=world.id("card"), livemode=False),
        txn_id=world.id("txn"),
        now=world.second,
    )


def _told(state: State | None, events: Sequence[DomainEvent]) -> Told:
    """One command on one stream."""
    changes: list[Change] = []
    for event in events:
        state = evolve(state, event)
        changes.append(Change(event, state))
    yield changes
    assert state is not None
    return state
