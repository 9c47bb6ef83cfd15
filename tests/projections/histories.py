"""Histories for projections: commands decided by the domain, appended through the journal.

`Author` writes them; `engine` follows them; `rows` is all that a generation says of them.
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
    customer_session,
    dispute_decisions,
    evidence,
    imported_event,
    refund_decisions,
    resource,
    webhook_endpoint,
    webhook_endpoint_quota,
)
from ledger.domain.cards import make_source_card
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.domain.dispute import Dispute
from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.domain.refund import Refund
from ledger.domain.resource import Resource
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.domain.webhook_endpoint_quota import WebhookEndpointQuota
from ledger.errors import LedgerError
from ledger.ids import new_id
from ledger.postgres.connections import Conn, open_connection
from ledger.store.codec import Codec, State, evolve
from ledger.store.journal import Append, Change
from ledger.store.notifications import HeadNotifier
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


def run_story(dsn: str, story: Callable[[Author], Awaitable[Result]]) -> Result:
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

    async def advance_clock(self, *, days: float) -> None:
        """Move the one clock."""
        async with open_connection(self.dsn, "ledger_api", name="test") as conn:
            await self.store.clock.move(conn, self.store.clock.now() + days * 86_400)

    async def append(self, events: Sequence[DomainEvent]) -> list[str]:
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
            state, fact, self._id("ref"), due_by=None, txn_id=self._id("txn"), terms=TERMS, now=self.now
        )
        await self.append(events)

    async def run_command(self, command: str, subject: int, detail: int) -> None:
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
    params: dict[str, Any] = {"email": f"jenny.{detail}@example.com", "metadata": {"detail": str(detail)}}
    if detail % 2:
        params |= {"name": f"Jenny {detail} “Rosen” \\ \u2028", "source": "tok_visa"}
    await author.create_customer(**params)


async def _update_customer(author: Author, subject: int, detail: int) -> None:
    params = {"email": f"rosen.{detail}@example.com", "metadata": {f"k{detail % 3}": str(detail)}}
    await author.update_customer(author.pick(Customer, subject).id, **params)


async def _delete_customer(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Customer, subject)
    await author.append(customer.delete(state, now=author.now))


async def _create_charge(author: Author, subject: int, detail: int) -> None:
    currency = CURRENCIES[subject % len(CURRENCIES)]
    params: dict[str, Any] = {"amount": 1000 + detail, "currency": currency, "capture": detail % 5 != 0}
    if detail % 3:
        params["customer"] = author.pick(Customer, subject).id
    await author.create_charge(TOKENS[detail % len(TOKENS)], **params)


async def _capture_charge(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Charge, subject)
    await author.append(charge_decisions.capture(state, {}, txn_id=author._id("txn"), now=author.now))


async def _update_charge(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Charge, subject)
    params = {"description": f"Order {detail}", "transfer_group": f"group_{detail % 2}"}
    await author.append(charge_decisions.update(state, params, now=author.now))


async def _refund_charge(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Charge, subject)
    disputes = [candidate for candidate in author.states.values() if isinstance(candidate, Dispute)]
    events = refund_decisions.create(
        state,
        {"amount": 100 + detail, "metadata": {"detail": str(detail)}},
        disputes=[dispute for dispute in disputes if dispute.charge == state.id],
        refund_id=author._id("re"),
        txn_id=author._id("txn"),
        now=author.now,
    )
    await author.append(events)


async def _update_refund(author: Author, subject: int, detail: int) -> None:
    params = {"metadata": {f"k{detail % 3}": str(detail)}}
    await author.append(refund_decisions.update(author.pick(Refund, subject), params, now=author.now))


async def _open_dispute(author: Author, subject: int, detail: int) -> None:
    await author.open_dispute(
        author.pick(Charge, subject).id, ("chargeback", "inquiry", "compliance", "prevented")[detail % 4], 100
    )


async def _respond(author: Author, subject: int, detail: int) -> None:
    field = sorted(evidence.LONG_TEXT_FIELDS)[detail % len(evidence.LONG_TEXT_FIELDS)]
    await author.respond(
        author.pick(Dispute, subject).id, submit=detail % 3 == 0, **{field: f"text {detail}"}
    )


async def _close_dispute(author: Author, subject: int, detail: int) -> None:
    await author.append(dispute_decisions.close(author.pick(Dispute, subject), now=author.now))


async def _report_fact(author: Author, subject: int, detail: int) -> None:
    await author.report_fact(
        author.pick(Dispute, subject).id,
        sorted(dispute_decisions.FACTS)[detail % len(dispute_decisions.FACTS)],
    )


async def _create_session(author: Author, subject: int, detail: int) -> None:
    events = customer_session.create(
        session_id=author._id("cuss"),
        account=ACCOUNT,
        livemode=False,
        customer=author.pick(Customer, subject).id,
        components={"pricing_table": {"enabled": True}},
        terms=TERMS,
        now=author.now,
    )
    await author.append(events)


async def _claim_session(author: Author, subject: int, detail: int) -> None:
    await author.append(customer_session.claim(author.pick(CustomerSession, subject), now=author.now))


async def _create_endpoint(author: Author, subject: int, detail: int) -> None:
    endpoint_id = author._id("we")
    roster = author.states.get(webhook_endpoint_quota.get_stream_id(ACCOUNT, False))
    assert roster is None or isinstance(roster, WebhookEndpointQuota)
    quota_events = webhook_endpoint_quota.reserve(
        roster,
        account=ACCOUNT,
        livemode=False,
        endpoint_id=endpoint_id,
        endpoints_max=4,
        now=author.now,
    )
    events = webhook_endpoint.create(
        endpoint_id=endpoint_id,
        account=ACCOUNT,
        livemode=False,
        params={
            "url": f"https://hooks.example.com/{detail}",
            "enabled_events": ["*"],
            "connect": detail % 2 == 0,
        },
        now=author.now,
    )
    await author.append([*quota_events, *events])


async def _update_endpoint(author: Author, subject: int, detail: int) -> None:
    params = {
        "url": f"https://example.com/{detail}",
        "disabled": detail % 2 == 0,
        "metadata": {"detail": "1"},
    }
    await author.append(
        webhook_endpoint.update(author.pick(WebhookEndpoint, subject), params, now=author.now)
    )


async def _delete_endpoint(author: Author, subject: int, detail: int) -> None:
    state = author.pick(WebhookEndpoint, subject)
    roster = author.states[webhook_endpoint_quota.get_stream_id(ACCOUNT, False)]
    assert isinstance(roster, WebhookEndpointQuota)
    events = webhook_endpoint.delete(state, now=author.now)
    await author.append(
        [*webhook_endpoint_quota.release(roster, endpoint_id=state.id, now=author.now), *events]
    )


async def _publish_resource(author: Author, subject: int, detail: int) -> None:
    """A new one, or the same again, or changed, or anew after its deletion."""
    resources = [state for state in author.states.values() if isinstance(state, Resource)]
    state = resources[subject % len(resources)] if resources and detail % 4 else None
    events = resource.publish(
        state,
        resource_id=author._id("in") if state is None else state.id,
        account=ACCOUNT,
        livemode=False,
        type="invoice",
        event_type=("invoice.created", "invoice.updated", "invoice.paid")[detail % 3],
        object={"total": detail % 2, "lines": [detail], "name": f"Jenny {detail} \u2028"},
        now=author.now,
    )
    await author.append(events)


async def _delete_resource(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Resource, subject)
    if not state.deleted:
        await author.append(resource.delete(state, "invoice.deleted", now=author.now))


async def _import_event(author: Author, subject: int, detail: int) -> None:
    events = imported_event.create(
        event_id=f"evt_of_old_{len(author.states)}",
        account=ACCOUNT,
        livemode=False,
        type="charge.refunded" if detail % 2 else "balance.available",
        object={"id": f"ch_{detail}"} if detail % 2 else {"object": "balance"},
        previous_attributes={"refunded": False} if detail % 2 else None,
        now=author.now,
    )
    await author.append(events)


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
async def open_engine(
    dsn: str, *, projections: Iterable[Projection] = PROJECTIONS, batch_max: int = 1000, poll_ms: int = 20
) -> AsyncIterator[Engine]:
    """An engine as another process would run it: nothing shared but the database."""
    engine = Engine(
        dsn,
        Codec(KEY),
        Clock(movable=True),
        HeadNotifier(dsn, "ledger_projector"),
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
    """Apply all there is."""
    async with open_engine(dsn, projections=projections, batch_max=batch_max) as engine:
        while not (await engine.advance()).caught_up:
            pass


async def create_generation(conn: Conn) -> int:
    """One more generation of everything, empty."""
    cur = await conn.execute("SELECT max(generation) + 1 FROM projections.checkpoints")
    row = await cur.fetchone()
    assert row is not None
    for projection in PROJECTIONS:
        await register(conn, projection, row[0])
    return int(row[0])


async def drop_generation(conn: Conn, generation: int) -> None:
    """Take a generation away again."""
    await conn.execute("DELETE FROM projections.checkpoints WHERE generation = %s", (generation,))
    for projection in PROJECTIONS:
        await conn.execute(f"DROP TABLE projections.{projection.name}_g{generation}".encode())


async def load_rows(conn: Conn, generation: int) -> dict[str, list[dict[str, Any]]]:
    """Every row of a generation in all projections, without the number of the generation."""
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
