"""Generates a history of domain events such as integrators cause. The same seed gives the same events.

The domain's own decisions make the events. Many customers' stories run at once, so neighbours in the log
belong to different streams. A story is a customer who is created and updated, opens sessions, pays, and
sometimes disputes a charge.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime

import psycopg

from benchmarks.store import ACCOUNT, CAUSE
from ledger.call import Cause
from ledger.domain import charge_decisions, customer, customer_session, dispute_decisions
from ledger.domain.aggregate import State
from ledger.domain.cards import make_source_card
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_decisions import FactReport
from ledger.domain.dispute_money import PaidCharge
from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.domain.subjects import find_subject
from ledger.ids import derive_id
from ledger.keys.data_keys import NewKey
from ledger.store.codec import Codec, evolve
from ledger.store.journal import Append, Change, Journal, fold_changes
from ledger.store.seals.batch_keys import has_personal_data

CONCURRENT_STORIES = 500
CHANGES_PER_APPEND = 1000
ACTORS = 12
GUEST_EVERY_EVENTS = 100
DAY_SECONDS = 86_400
START_TIME = 1_790_000_000
"""Unix seconds of the first decision."""

ChangeGenerator = Generator[list[Change], None, State]
"""Yields the changes of one command at a time; returns the aggregate after them."""

_COPY = """
COPY ledger.events (notification_id, originator_id, originator_version, topic, state, account, livemode,
    actor, request_id, idempotency_key, causation, customer, charge, payment_intent, recorded_at)
FROM STDIN (FORMAT BINARY)
"""
_COPY_KEYS = "COPY ledger.data_keys (subject, wrapped, wrapped_by) FROM STDIN"
_COPY_TYPES = (
    "int8", "text", "int4", "text", "bytea", "text", "bool", *["text"] * 7, "timestamptz"
)  # fmt: skip
_MOVE_HEAD = """
UPDATE ledger.head h SET position = e.notification_id, recorded_at = e.recorded_at
FROM (SELECT notification_id, recorded_at FROM ledger.events ORDER BY notification_id DESC LIMIT 1) e
"""
_LOG_BOUNDS = "SELECT count(*), min(notification_id), max(notification_id) FROM ledger.events"

_TERMS = Terms()
_COMPONENTS = ("pricing_table", "payment_element", "buy_button", "customer_sheet")
_EVIDENCE_TEXT = (
    "The customer signed for the parcel on the day of delivery; the carrier's record is attached. " * 3
)
_ADDRESS = {"line1": "510 Townsend St", "city": "San Francisco", "postal_code": "94103", "country": "US"}


def generate_history(seed: int, events: int) -> Iterator[Change]:
    """Exactly `events` changes, in the order in which the domain decided them."""
    world = _World(seed)
    stories = [_generate_story(world) for _ in range(CONCURRENT_STORIES)]
    remaining = events
    while remaining > 0:
        number = world.rng.randrange(CONCURRENT_STORIES)
        world.now += world.rng.random()
        changes = next(stories[number], None)
        if changes is None:
            stories[number] = _generate_story(world)
        else:
            yield from changes[:remaining]
            remaining -= len(changes)


async def append_in_bulk(journal: Journal, changes: Iterable[Change]) -> int:
    """Append the changes, `CHANGES_PER_APPEND` per transaction. Returns the last position."""
    position = 0
    batch: list[Change] = []
    for change in changes:
        batch.append(change)
        if len(batch) == CHANGES_PER_APPEND:
            position = await journal.append(Append(CAUSE, batch))
            batch = []
    return await journal.append(Append(CAUSE, batch)) if batch else position


def copy_history(
    dsn: str,
    codec: Codec,
    seed: int,
    events: int,
    *,
    days: float,
    end: float | None = None,
    guest: str | None = None,
) -> None:
    """Fill the log of an empty database with the events of `generate_history`, recorded evenly over the
    `days` until `end`, by various keys and requests. One COPY of rows that the real codec encoded, and the
    head moved in the same transaction, take a tenth of the time that appending takes.

    end    unix seconds; default: now
    guest  a customer whom one event in GUEST_EVERY_EVENTS names in place of its own, in the index of the log
           only: one with very many events

    Raises RuntimeError when the log does not hold positions 1 to `events` afterwards.
    """
    started_at = (time.time() if end is None else end) - days * DAY_SECONDS
    step = days * DAY_SECONDS / events
    keys: dict[str, NewKey] = {}
    with psycopg.connect(dsn) as conn, conn.cursor() as cur:
        with cur.copy(_COPY) as copy:
            copy.set_types(_COPY_TYPES)
            causes = _generate_causes(seed)
            # `reaction_to` of a cause has no column: the change's causation is what became of it.
            for position, (event, state, causation) in enumerate(generate_history(seed, events), 1):
                topic, stored_state = _encode(codec, event, state, keys)
                customer_id = getattr(state, "customer", None)
                if guest is not None and position % GUEST_EVERY_EVENTS == 0:
                    customer_id = guest
                copy.write_row(
                    (
                        position, event.originator_id, event.originator_version, topic, stored_state,
                        *next(causes)[:5], causation, customer_id, getattr(state, "charge", None),
                        getattr(state, "payment_intent", None),
                        datetime.fromtimestamp(started_at + position * step, UTC),
                    )
                )  # fmt: skip
        with cur.copy(_COPY_KEYS) as copy:
            for new in keys.values():
                copy.write_row((new.subject, new.wrapped, new.wrapped_by))
        cur.execute(_MOVE_HEAD)
        row = cur.execute(_LOG_BOUNDS).fetchone()
        if row != (events, 1, events):
            raise RuntimeError(f"the log holds {row}, not positions 1 to {events}")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE ledger.events")


def _encode(codec: Codec, event: DomainEvent, state: State, keys: dict[str, NewKey]) -> tuple[str, bytes]:
    """Topic and stored state of the event. `keys` are those of the subjects so far."""
    if not has_personal_data(event):
        return codec.encode_event(event)
    subject = find_subject(state)
    if subject not in keys:
        keys[subject] = codec.data_keys.create(subject)
    return codec.encode_event(event, subject, keys[subject].key)


def _generate_causes(seed: int) -> Iterator[Cause]:
    """The cause of each event: a request makes one or two. A few keys make most of them, some almost none;
    two requests in three have an idempotency key."""
    rng = random.Random(f"causes {seed}")
    keys = [derive_id("key", START_TIME, seed, number) for number in range(ACTORS)]
    number = 0
    while True:
        number += 1
        key = keys[min(int(rng.expovariate(1.0)), ACTORS - 1)]
        idempotency_key = f"{rng.getrandbits(128):032x}" if rng.random() < 0.67 else None
        request = derive_id("req", START_TIME + number, seed, number)
        for _ in range(rng.randrange(1, 3)):
            yield Cause(ACCOUNT, False, key, request, idempotency_key)


class _World:
    """The source of time, randomness and ids for one history, all derived from the seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now: float = START_TIME
        self._seed = seed
        self._id_count = 0

    def create_id(self, prefix: str) -> str:
        """The next id with this prefix."""
        self._id_count += 1
        return derive_id(prefix, self.now, self._seed, self._id_count)

    @property
    def second(self) -> int:
        """The time now, in whole unix seconds."""
        return int(self.now)


def _generate_story(world: _World) -> Iterator[list[Change]]:
    """The commands of one customer's story, each as its changes."""
    rng = world.rng
    customer_state = yield from _apply_events(None, _create_customer(world))
    assert isinstance(customer_state, Customer)
    for visit in range(rng.randrange(1, 4)):
        yield from _generate_session(world, customer_state)
        if rng.random() < 0.5:
            params = {"metadata": {"visits": str(visit), "channel": rng.choice(("web", "app"))}}
            events = customer.update(customer_state, params, card_id="", now=world.second)
            customer_state = yield from _apply_events(customer_state, events)
            assert isinstance(customer_state, Customer)
        for _ in range(rng.randrange(1, 3)):
            charge_state = yield from _apply_events(None, _create_charge(world, customer_state))
            assert isinstance(charge_state, Charge)
            if charge_state.captured and rng.random() < 0.15:
                yield from _generate_dispute(world, charge_state)


def _generate_session(world: _World, customer_state: Customer) -> Iterator[list[Change]]:
    """A customer session. Two in three are claimed."""
    component = world.rng.choice(_COMPONENTS)
    events = customer_session.create(
        session_id=world.create_id("cuss"),
        account=ACCOUNT,
        livemode=False,
        customer=customer_state.id,
        components={component: {"enabled": True}},
        terms=_TERMS,
        now=world.second,
    )
    session_state = yield from _apply_events(None, events)
    assert isinstance(session_state, CustomerSession)
    if world.rng.random() < 0.67 and customer_session.get_status(session_state, world.second) == "open":
        yield from _apply_events(session_state, customer_session.claim(session_state, now=world.second))


def _generate_dispute(world: _World, charge_state: Charge) -> Iterator[list[Change]]:
    """A chargeback. The merchant submits evidence and the network decides, or concedes, or has not acted
    yet."""
    opening = dispute_decisions.DisputeReport(
        kind="chargeback", reason="fraudulent", network_reason_code="10.4", reference=world.create_id("ref")
    )
    charge_event, dispute_event = dispute_decisions.open_dispute(
        charge_state,
        opening,
        dispute_id=world.create_id("du"),
        txn_id=world.create_id("txn"),
        terms=_TERMS,
        now=world.second,
    )
    state: State = evolve(None, dispute_event)
    yield [Change(charge_event, evolve(charge_state, charge_event)), Change(dispute_event, state)]
    outcome = world.rng.choice(("won", "lost", "lost", "conceded", "open"))
    assert isinstance(state, Dispute)
    paid = PaidCharge(charge=charge_state, disputes=[state])
    if outcome == "open":
        return
    if outcome == "conceded":
        closing_events = dispute_decisions.close(
            state, paid=paid, txn_id=world.create_id("txn"), now=world.second
        )
        yield from _apply_events(state, closing_events)
        return
    for params in (
        {"evidence": {"product_description": "A book", "customer_name": "Jenny Rosen"}, "submit": False},
        {"evidence": {"uncategorized_text": _EVIDENCE_TEXT}, "submit": True},
    ):
        events = dispute_decisions.update(state, params, file_bytes={}, now=world.second)
        state = yield from _apply_events(state, events)
        assert isinstance(state, Dispute)
    final_events = dispute_decisions.report_fact(
        state,
        FactReport(fact=outcome, reference=world.create_id("ref")),
        paid=paid,
        txn_id=world.create_id("txn"),
        terms=_TERMS,
        now=world.second,
    )
    yield from _apply_events(state, final_events)


def _create_customer(world: _World) -> list[DomainEvent]:
    number = world.rng.randrange(10_000_000)
    params = {
        "name": f"Jenny Rosen {number}",
        "email": f"jenny.rosen.{number}@example.com",
        "address": _ADDRESS,
        "metadata": {"order": str(number)},
    }
    return customer.create(
        customer_id=world.create_id("cus"),
        account=ACCOUNT,
        livemode=False,
        params=params,
        card_id="",
        now=world.second,
    )


def _create_charge(world: _World, customer_state: Customer) -> list[DomainEvent]:
    """A charge. One in twenty is declined."""
    token = "tok_chargeDeclined" if world.rng.random() < 0.05 else "tok_visa"
    params = {
        "amount": world.rng.randrange(500, 50_000),
        "currency": world.rng.choice(("usd", "eur")),
        "customer": customer_state.id,
        "description": "Order",
        "metadata": {"order": str(world.rng.randrange(10_000_000))},
    }
    return charge_decisions.create(
        charge_id=world.create_id("ch"),
        account=ACCOUNT,
        livemode=False,
        params=params,
        card=make_source_card(token, card_id=world.create_id("card"), livemode=False),
        txn_id=world.create_id("txn"),
        now=world.second,
    )


def _apply_events(state: State | None, events: Sequence[DomainEvent]) -> ChangeGenerator:
    """Yield the events of one command on one stream as changes; return the aggregate after them."""
    changes = fold_changes(events, state)
    yield changes
    after = changes[-1].state if changes else state
    assert after is not None
    return after
