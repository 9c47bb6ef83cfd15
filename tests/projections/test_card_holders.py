"""The projection that finds the holder of a card (contract §2.5)."""

from __future__ import annotations

import pytest

from ledger.call import Call, Cause
from ledger.domain import customer
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.errors import Unavailable, UnknownObject
from ledger.postgres.connections import open_connection
from ledger.queries import payment_methods
from tests.projections.histories import ACCOUNT, Author, catch_up, load_rows, run_story
from tests.projections.queries import open_queries

CALL = Call(Cause(ACCOUNT, False, "key_test", "req_test", None), "", {})


def test_a_card_that_the_projection_may_lack_is_not_said_to_be_missing(dsn: str) -> None:
    async def story(author: Author) -> None:
        await catch_up(dsn)
        holder = author.states[await author.create_customer(source="tok_visa")]
        assert isinstance(holder, Customer)
        card_call = CALL.replace(target=str(holder.default_source))
        async with open_queries(author) as queries:
            with pytest.raises(Unavailable):
                await payment_methods.retrieve(card_call, queries)
            await catch_up(dsn)
            assert (await payment_methods.retrieve(card_call, queries)).body["customer"] == holder.id
            with pytest.raises(UnknownObject):
                await payment_methods.retrieve(CALL.replace(target="card_x"), queries)

    run_story(dsn, story)


def test_each_saved_card_and_each_charge_on_a_card_has_one_row(dsn: str) -> None:
    async def story(author: Author) -> None:
        customer_id = await author.create_customer(source="tok_visa")
        await author.update_customer(customer_id, name="Jenny")
        await author.update_customer(customer_id, source="tok_amex")
        charge_id = await author.create_charge(customer=customer_id)
        holder, charge = author.states[customer_id], author.states[charge_id]
        assert isinstance(holder, Customer)
        assert isinstance(charge, Charge)
        assert charge.card is not None
        saved = {(card["id"], card["id"], customer_id) for card in holder.sources}
        charged = {(charge_id, charge.card["id"], None)}
        for deleted in (False, True):
            await catch_up(dsn)
            async with open_connection(dsn, "ledger_projector", name="test") as conn:
                rows = (await load_rows(conn, 1))["payment_methods"]
            assert {(row["id"], row["card"], row["customer"]) for row in rows} == saved | charged
            assert {row["id"] for row in rows if row["saved"]} == (
                set() if deleted else {card for card, *_ in saved}
            )
            if not deleted:
                await author.append(customer.delete(holder, now=author.now))

    run_story(dsn, story)
