"""Histories for projections: commands decided by the domain, appended through the journal.

`Author` writes them; `engine` follows them; `rows` is all that a generation says of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.clock import Clock
from ledger.config import load_settings
from ledger.domain import (
    charge_decisions,
    customer,
    customer_session,
    dispute_decisions,
    evidence,
    imported_event,
    refund_decisions,
    resource,
    webhook_endpoint,
    webhook_endpoint_quota,
)
from ledger.domain.cards import source_card
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.domain.dispute import Dispute
from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.domain.refund import Refund
from ledger.domain.resource import Resource
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.domain.webhook_endpoint_quota import WebhookRoster
from ledger.errors import LedgerError
from ledger.ids import new_id
from ledger.postgres.connections import connected
from ledger.store.codec import Codec, State, evolve
from ledger.store.journal import Append, Cause, Change
from ledger.store.notifications import Wake
from ledger.store.store import Store
from projections.engine.engine import Engine
from projections.engine.registry import PROJECTIONS, register
from projections.projection import Projection

KEY = b"projections are tested with this"
ACCOUNT = "acct_projections"
TERMS = Terms()
CURRENCIES = ("usd", "jpy", "eur", "bhd")  # of two, no, and three decimals
TOKENS = ("tok_visa", "tok_mastercard", "tok_chargeDeclined", "tok_createDispute")

Result = TypeVar("Result")


def running(dsn: str, story: Callable[[Author], Awaitable[Result]]) -> Result:
    """Run a story with an author of its own."""

    async def run() -> Result:
        store = Store(dsn, KEY, load_settings(), Clock(movable=True))
        store.start()
        try:
            return await story(Author(dsn, store))
        finally:
            await store.close()

    return asyncio.run(run())


class Author:
    """Makes history, one command after the other."""

    def __init__(self, dsn: str, store: Store) -> None:
        self.dsn = dsn
        self.store = store
        self.states: dict[str, State] = {}
        self._requests = 0

    @property
    def now(self) -> int:
        return int(self.store.clock.now())

    async def travel(self, *, days: float) -> None:
        """Move the one clock."""
        async with connected(self.dsn, "ledger_api", name="test") as conn:
            await self.store.clock.move(conn, self.store.clock.now() + days * 86_400)

    async def tell(self, events: Sequence[DomainEvent]) -> list[str]:
        """Append what was decided as one request; the streams it touched."""
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

    async def customer(self, **given: Any) -> str:
        created = customer.create(
            customer_id=self._id("cus"),
            account=ACCOUNT,
            livemode=False,
            given=given,
            card_id=self._id("card"),
            now=self.now,
        )
        return (await self.tell(created))[0]

    async def rename(self, customer_id: str, **given: Any) -> None:
        state = self.states[customer_id]
        assert isinstance(state, Customer)
        await self.tell(customer.update(state, given, card_id=self._id("card"), now=self.now))

    async def charge(self, token: str = "tok_visa", **given: Any) -> str:
        created = charge_decisions.create(
            charge_id=self._id("ch"),
            account=ACCOUNT,
            livemode=False,
            given={"amount": 2000, "currency": "usd", **given},
            card=source_card(token, card_id=self._id("card"), livemode=False),
            txn_id=self._id("txn"),
            now=self.now,
        )
        return (await self.tell(created))[0]

    async def dispute(self, charge_id: str, kind: str = "chargeback", amount: int | None = None) -> str:
        state = self.states[charge_id]
        assert isinstance(state, Charge)
        opened = dispute_decisions.open_dispute(
            state,
            dispute_decisions.Opening(kind=kind, amount=amount, reference=self._id("ref")),
            dispute_id=self._id("du"),
            txn_id=self._id("txn"),
            terms=TERMS,
            now=self.now,
        )
        return (await self.tell(opened))[1]

    async def respond(self, dispute_id: str, *, submit: bool, **given: Any) -> None:
        state = self.states[dispute_id]
        assert isinstance(state, Dispute)
        parameters = {"evidence": given, "submit": submit}
        await self.tell(dispute_decisions.update(state, parameters, file_bytes={}, now=self.now))

    async def fact(self, dispute_id: str, fact: str) -> None:
        state = self.states[dispute_id]
        assert isinstance(state, Dispute)
        reported = dispute_decisions.report_fact(
            state, fact, self._id("ref"), due_by=None, txn_id=self._id("txn"), terms=TERMS, now=self.now
        )
        await self.tell(reported)

    async def act(self, command: str, subject: int, detail: int) -> None:
        """One command of COMMANDS on whichever object `subject` picks; nothing, where the domain refuses."""
        with suppress(LedgerError, LookupError):
            await COMMANDS[command](self, subject, detail)

    def pick(self, kind: type[Any], subject: int) -> Any:
        """Raises IndexError when there is none yet."""
        states = [state for state in self.states.values() if isinstance(state, kind)]
        return states[subject % len(states)] if states else states[0]

    def _id(self, prefix: str) -> str:
        return new_id(prefix, self.store.clock.now())


async def _create_customer(author: Author, subject: int, detail: int) -> None:
    given: dict[str, Any] = {"email": f"jenny.{detail}@example.com", "metadata": {"detail": str(detail)}}
    if detail % 2:
        given |= {"name": f"Jenny {detail} “Rosen” \\ \u2028", "source": "tok_visa"}
    await author.customer(**given)


async def _update_customer(author: Author, subject: int, detail: int) -> None:
    given = {"email": f"rosen.{detail}@example.com", "metadata": {f"k{detail % 3}": str(detail)}}
    await author.rename(author.pick(Customer, subject).id, **given)


async def _delete_customer(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Customer, subject)
    await author.tell(customer.delete(state, now=author.now))


async def _create_charge(author: Author, subject: int, detail: int) -> None:
    currency = CURRENCIES[subject % len(CURRENCIES)]
    given: dict[str, Any] = {"amount": 1000 + detail, "currency": currency, "capture": detail % 5 != 0}
    if detail % 3:
        given["customer"] = author.pick(Customer, subject).id
    await author.charge(TOKENS[detail % len(TOKENS)], **given)


async def _capture_charge(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Charge, subject)
    await author.tell(charge_decisions.capture(state, {}, txn_id=author._id("txn"), now=author.now))


async def _update_charge(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Charge, subject)
    given = {"description": f"Order {detail}", "transfer_group": f"group_{detail % 2}"}
    await author.tell(charge_decisions.update(state, given, now=author.now))


async def _refund_charge(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Charge, subject)
    disputes = [each for each in author.states.values() if isinstance(each, Dispute)]
    made = refund_decisions.create(
        state,
        {"amount": 100 + detail, "metadata": {"detail": str(detail)}},
        disputes=[dispute for dispute in disputes if dispute.charge == state.id],
        refund_id=author._id("re"),
        txn_id=author._id("txn"),
        now=author.now,
    )
    await author.tell(made)


async def _update_refund(author: Author, subject: int, detail: int) -> None:
    given = {"metadata": {f"k{detail % 3}": str(detail)}}
    await author.tell(refund_decisions.update(author.pick(Refund, subject), given, now=author.now))


async def _open_dispute(author: Author, subject: int, detail: int) -> None:
    await author.dispute(
        author.pick(Charge, subject).id, ("chargeback", "inquiry", "compliance", "prevented")[detail % 4], 100
    )


async def _respond(author: Author, subject: int, detail: int) -> None:
    field = sorted(evidence.LONG_TEXTS)[detail % len(evidence.LONG_TEXTS)]
    await author.respond(
        author.pick(Dispute, subject).id, submit=detail % 3 == 0, **{field: f"text {detail}"}
    )


async def _close_dispute(author: Author, subject: int, detail: int) -> None:
    await author.tell(dispute_decisions.close(author.pick(Dispute, subject), now=author.now))


async def _report_fact(author: Author, subject: int, detail: int) -> None:
    await author.fact(
        author.pick(Dispute, subject).id,
        sorted(dispute_decisions.FACTS)[detail % len(dispute_decisions.FACTS)],
    )


async def _create_session(author: Author, subject: int, detail: int) -> None:
    created = customer_session.create(
        session_id=author._id("cuss"),
        account=ACCOUNT,
        livemode=False,
        customer=author.pick(Customer, subject).id,
        components={"pricing_table": {"enabled": True}},
        terms=TERMS,
        now=author.now,
    )
    await author.tell(created)


async def _claim_session(author: Author, subject: int, detail: int) -> None:
    await author.tell(customer_session.claim(author.pick(CustomerSession, subject), now=author.now))


async def _create_endpoint(author: Author, subject: int, detail: int) -> None:
    endpoint_id = author._id("we")
    roster = author.states.get(webhook_endpoint_quota.stream_of(ACCOUNT, False))
    assert roster is None or isinstance(roster, WebhookRoster)
    enrolled = webhook_endpoint_quota.enroll(
        roster,
        account=ACCOUNT,
        livemode=False,
        endpoint_id=endpoint_id,
        endpoints_max=4,
        now=author.now,
    )
    created = webhook_endpoint.create(
        endpoint_id=endpoint_id,
        account=ACCOUNT,
        livemode=False,
        given={
            "url": f"https://hooks.example.com/{detail}",
            "enabled_events": ["*"],
            "connect": detail % 2 == 0,
        },
        now=author.now,
    )
    await author.tell([*enrolled, *created])


async def _update_endpoint(author: Author, subject: int, detail: int) -> None:
    given = {"url": f"https://example.com/{detail}", "disabled": detail % 2 == 0, "metadata": {"detail": "1"}}
    await author.tell(webhook_endpoint.update(author.pick(WebhookEndpoint, subject), given, now=author.now))


async def _delete_endpoint(author: Author, subject: int, detail: int) -> None:
    state = author.pick(WebhookEndpoint, subject)
    roster = author.states[webhook_endpoint_quota.stream_of(ACCOUNT, False)]
    assert isinstance(roster, WebhookRoster)
    deleted = webhook_endpoint.delete(state, now=author.now)
    await author.tell(
        [*webhook_endpoint_quota.strike(roster, endpoint_id=state.id, now=author.now), *deleted]
    )


async def _publish_resource(author: Author, subject: int, detail: int) -> None:
    """A new one, or the same again, or changed, or anew after its deletion."""
    known = [state for state in author.states.values() if isinstance(state, Resource)]
    state = known[subject % len(known)] if known and detail % 4 else None
    told = resource.publish(
        state,
        resource_id=author._id("in") if state is None else state.id,
        account=ACCOUNT,
        livemode=False,
        type="invoice",
        event_type=("invoice.created", "invoice.updated", "invoice.paid")[detail % 3],
        object={"total": detail % 2, "lines": [detail], "name": f"Jenny {detail} \u2028"},
        now=author.now,
    )
    await author.tell(told)


async def _delete_resource(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Resource, subject)
    if not state.deleted:
        await author.tell(resource.delete(state, "invoice.deleted", now=author.now))


async def _import_event(author: Author, subject: int, detail: int) -> None:
    told = imported_event.tell(
        event_id=f"evt_of_old_{len(author.states)}",
        account=ACCOUNT,
        livemode=False,
        type="charge.refunded" if detail % 2 else "balance.available",
        object={"id": f"ch_{detail}"} if detail % 2 else {"object": "balance"},
        previous_attributes={"refunded": False} if detail % 2 else None,
        now=author.now,
    )
    await author.tell(told)


COMMANDS: dict[str, Callable[[Author, int, int], Awaitable[None]]] = {
    "create_customer": _create_customer,
    "update_customer": _update_customer,
    "delete_customer": _delete_customer,
    "create_charge": _create_charge,
    "capture_charge": _capture_charge,
    "update_charge": _update_charge,
    "refund_charge": _refund_charge,
    "update_refund": _update_refund,
    "open_dispute": _open_dispute,
    "respond": _respond,
    "close_dispute": _close_dispute,
    "report_fact": _report_fact,
    "create_session": _create_session,
    "claim_session": _claim_session,
    "publish_resource": _publish_resource,
    "delete_resource": _delete_resource,
    "import_event": _import_event,
    "create_endpoint": _create_endpoint,
    "update_endpoint": _update_endpoint,
    "delete_endpoint": _delete_endpoint,
}


@asynccontextmanager
async def engine(
    dsn: str, *, projections: Iterable[Projection] = PROJECTIONS, batch_max: int = 1000, poll_ms: int = 20
) -> AsyncIterator[Engine]:
    """An engine as another process would run it: nothing shared but the database."""
    made = Engine(
        dsn,
        Codec(KEY),
        Clock(movable=True),
        Wake(dsn, "ledger_projector"),
        projections=projections,
        batch_max=batch_max,
        poll_ms=poll_ms,
    )
    try:
        yield made
    finally:
        await made.close()


async def catch_up(
    dsn: str, *, projections: Iterable[Projection] = PROJECTIONS, batch_max: int = 1000
) -> None:
    """Apply all there is."""
    async with engine(dsn, projections=projections, batch_max=batch_max) as made:
        while not (await made.advance()).caught_up:
            pass


async def fresh_generation(conn: AsyncConnection[TupleRow]) -> int:
    """One more generation of everything, empty."""
    cur = await conn.execute("SELECT max(generation) + 1 FROM projections.checkpoints")
    row = await cur.fetchone()
    assert row is not None
    for projection in PROJECTIONS:
        await register(conn, projection, row[0])
    return int(row[0])


async def retire(conn: AsyncConnection[TupleRow], generation: int) -> None:
    """Take a generation away again."""
    await conn.execute("DELETE FROM projections.checkpoints WHERE generation = %s", (generation,))
    for projection in PROJECTIONS:
        await conn.execute(f"DROP TABLE projections.{projection.name}_g{generation}".encode())


async def rows(conn: AsyncConnection[TupleRow], generation: int) -> dict[str, list[dict[str, Any]]]:
    """Every row of a generation in all projections, without the number of the generation."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table in [projection.name for projection in PROJECTIONS]:
        cur = await conn.execute(
            f"SELECT * FROM projections.{table} WHERE generation = %s ORDER BY id".encode(), (generation,)
        )
        assert cur.description is not None
        names = [column.name for column in cur.description]
        found[table] = [dict(zip(names, row, strict=True)) for row in await cur.fetchall()]
        for row in found[table]:
            del row["generation"]
    return found
