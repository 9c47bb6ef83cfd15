"""Histories for tests of projections: commands that the domain decides, appended through the journal.

`Author` writes a history, `open_engine` and `catch_up` apply it, `load_rows` reads what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from ledger.call import Cause
from ledger.clock import Clock
from ledger.config import load_settings
from ledger.domain import (
    charge_decisions,
    customer,
    dispute_decisions,
    payment_intent_decisions,
)
from ledger.domain.aggregate import State
from ledger.domain.cards import make_source_card
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_decisions import FactReport
from ledger.domain.dispute_money import PaidCharge
from ledger.domain.event import DomainEvent
from ledger.domain.payment_intent import PaymentIntent
from ledger.errors import LedgerError
from ledger.ids import new_id
from ledger.postgres.connections import Conn, open_connection
from ledger.store.codec import Codec, evolve
from ledger.store.journal import Append, Change
from ledger.store.notifications import HeadNotifier
from ledger.store.store import Store
from projections.engine.engine import Engine
from projections.engine.registration import register
from projections.projection import Projection
from projections.read_models.catalog import PROJECTIONS
from tests.projections.history_commands import COMMANDS, TERMS

KEY = b"projections are tested with this"
ACCOUNT = "acct_projections"

Result = TypeVar("Result")


def run_story(dsn: str, story: Callable[[Author], Awaitable[Result]]) -> Result:
    """Run a test's story with an author, in an event loop of its own."""

    async def run() -> Result:
        store = Store(dsn, KEY, load_settings(), Clock(movable=True))
        await store.start()
        try:
            return await story(Author(dsn, store))
        finally:
            await store.close()

    return asyncio.run(run())


class Author:
    """Writes a history into the log, one command after the other. Knows the state of every object."""

    def __init__(self, dsn: str, store: Store) -> None:
        self.dsn = dsn
        self.store = store
        self.account = ACCOUNT
        self.states: dict[str, State] = {}
        self._requests = 0

    @property
    def now(self) -> int:
        return int(self.store.clock.now())

    async def advance_clock(self, *, days: float) -> None:
        """Move the clock that all processes on the database share."""
        async with open_connection(self.dsn, "ledger_api", name="test") as conn:
            await self.store.clock.move(conn, self.store.clock.now() + days * 86_400)

    async def append(self, events: Sequence[DomainEvent]) -> list[str]:
        """Append the events as one request. Returns the stream of each."""
        changes: list[Change] = []
        for event in events:
            state = evolve(self.states.get(event.originator_id), event)
            self.states[state.id] = state
            changes.append(Change(event, state))
        if changes:
            self._requests += 1
            cause = Cause(ACCOUNT, False, "key_test", f"req_{self._requests}", f"key-{self._requests}")
            await self.store.journal.append(Append(cause, changes))
        return [change.state.id for change in changes]

    async def create_customer(self, **params: Any) -> str:
        events = customer.create(
            customer_id=self._id("cus"),
            account=ACCOUNT,
            livemode=False,
            params=params,
            card_id=self._id("card"),
            now=self.now,
        )
        return (await self.append(events))[0]

    async def update_customer(self, customer_id: str, **params: Any) -> None:
        state = self.states[customer_id]
        assert isinstance(state, Customer)
        await self.append(customer.update(state, params, card_id=self._id("card"), now=self.now))

    async def create_charge(self, token: str = "tok_visa", **params: Any) -> str:
        events = charge_decisions.create(
            charge_id=self._id("ch"),
            account=ACCOUNT,
            livemode=False,
            params={"amount": 2000, "currency": "usd", **params},
            card=make_source_card(token, card_id=self._id("card"), livemode=False),
            txn_id=self._id("txn"),
            now=self.now,
        )
        return (await self.append(events))[0]

    async def pay_intent(self, customer: str) -> None:
        intent_id = self._id("pi")
        created = payment_intent_decisions.create(
            intent_id=intent_id,
            account=ACCOUNT,
            livemode=False,
            params={"amount": 2000, "currency": "usd", "customer": customer},
            card=make_source_card("tok_visa", card_id=self._id("pm"), livemode=False),
            now=self.now,
        )
        await self.append(created)
        state = self.states[intent_id]
        assert isinstance(state, PaymentIntent)
        ids = {"charge_id": self._id("ch"), "txn_id": self._id("txn")}
        await self.append(payment_intent_decisions.confirm(state, **ids, now=self.now))

    async def open_dispute(self, charge_id: str, kind: str = "chargeback", amount: int | None = None) -> str:
        state = self.states[charge_id]
        assert isinstance(state, Charge)
        events = dispute_decisions.open_dispute(
            state,
            dispute_decisions.DisputeReport(kind=kind, amount=amount, reference=self._id("ref")),
            dispute_id=self._id("du"),
            txn_id=self._id("txn"),
            terms=TERMS,
            now=self.now,
        )
        return (await self.append(events))[1]

    async def respond(self, dispute_id: str, *, submit: bool, **fields: Any) -> None:
        state = self.states[dispute_id]
        assert isinstance(state, Dispute)
        parameters = {"evidence": fields, "submit": submit}
        await self.append(dispute_decisions.update(state, parameters, file_bytes={}, now=self.now))

    async def report_fact(self, dispute_id: str, fact: str) -> None:
        state = self.states[dispute_id]
        assert isinstance(state, Dispute)
        events = dispute_decisions.report_fact(
            state,
            FactReport(fact=fact, reference=self._id("ref")),
            paid=self.find_paid_charge(state),
            txn_id=self._id("txn"),
            terms=TERMS,
            now=self.now,
        )
        await self.append(events)

    def find_paid_charge(self, state: Dispute) -> PaidCharge:
        """The charge of the dispute, with all its disputes."""
        charge_state = self.states[state.charge]
        assert isinstance(charge_state, Charge)
        disputes = [each for each in self.states.values() if isinstance(each, Dispute)]
        return PaidCharge(charge=charge_state, disputes=[d for d in disputes if d.charge == state.charge])

    async def run_command(self, command: str, subject: int, detail: int) -> None:
        """Run a command of COMMANDS on the object that `subject` picks. Nothing, if the domain refuses."""
        with suppress(LedgerError, LookupError):
            await COMMANDS[command](self, subject, detail)

    def pick(self, kind: type[Any], subject: int) -> Any:
        """One of the objects of this kind. Raises IndexError when there is none yet."""
        states = [state for state in self.states.values() if isinstance(state, kind)]
        return states[subject % len(states)] if states else states[0]

    def _id(self, prefix: str) -> str:
        return new_id(prefix, self.store.clock.now())


@asynccontextmanager
async def open_engine(
    dsn: str,
    *,
    projections: Iterable[Projection] = PROJECTIONS,
    batch_max: int = 1000,
    poll_ms: int = 20,
    notifier: HeadNotifier | None = None,
) -> AsyncIterator[Engine]:
    """An engine as another process would run it: it shares nothing but the database. By default its notifier
    hears nothing."""
    engine = Engine(
        dsn,
        Codec(KEY),
        Clock(movable=True),
        notifier or HeadNotifier(dsn, "ledger_projector"),
        projections=projections,
        batch_max=batch_max,
        poll_ms=poll_ms,
    )
    try:
        yield engine
    finally:
        await engine.close()


async def catch_up(
    dsn: str, *, projections: Iterable[Projection] = PROJECTIONS, batch_max: int = 1000
) -> None:
    """Apply the whole log."""
    async with open_engine(dsn, projections=projections, batch_max=batch_max) as engine:
        while not (await engine.advance()).caught_up:
            pass


async def create_generation(conn: Conn) -> int:
    """Register one more generation of every projection, empty. Returns its number."""
    cur = await conn.execute("SELECT max(generation) + 1 FROM projections.checkpoints")
    row = await cur.fetchone()
    assert row is not None
    for projection in PROJECTIONS:
        await register(conn, projection, row[0])
    return int(row[0])


async def drop_generation(conn: Conn, generation: int) -> None:
    """Drop a generation of every projection."""
    await conn.execute("DELETE FROM projections.checkpoints WHERE generation = %s", (generation,))
    for projection in PROJECTIONS:
        await conn.execute(f"DROP TABLE projections.{projection.name}_g{generation}".encode())


async def load_rows(conn: Conn, generation: int) -> dict[str, list[dict[str, Any]]]:
    """All rows of a generation, by projection, without the number of the generation."""
    rows_by_table: dict[str, list[dict[str, Any]]] = {}
    for table in [projection.name for projection in PROJECTIONS]:
        cur = await conn.execute(
            f"SELECT * FROM projections.{table} WHERE generation = %s ORDER BY id".encode(), (generation,)
        )
        assert cur.description is not None
        names = [column.name for column in cur.description]
        rows_by_table[table] = [dict(zip(names, row, strict=True)) for row in await cur.fetchall()]
        for row in rows_by_table[table]:
            del row["generation"]
    return rows_by_table
