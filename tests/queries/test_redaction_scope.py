"""What stands in the way of a redaction job, where no request can bring it about."""

from __future__ import annotations

import json
from collections.abc import Callable

import psycopg
import pytest

from ledger.domain.redaction_job import ERROR, RedactionJob
from ledger.domain.redaction_job_decisions import Scope, create
from ledger.postgres.connections import open_connection
from ledger.queries.redaction_scope import survey
from ledger.store.codec import fold
from tests.projections.corruption import corrupt_event
from tests.projections.histories import Author, run_story

_RECORD = "SELECT notification_id, state FROM ledger.events WHERE originator_id = %s AND topic = %s"


async def look(author: Author, customer: str) -> Scope:
    """What a job of an operator would reach."""
    state = author.states[customer]
    job = fold(
        create(
            job_id="prj_1", account=state.account, livemode=state.livemode,
            objects={"customers": [customer]}, validation_behavior=ERROR, requested_by="Ada", now=author.now,
        )
    )  # fmt: skip
    assert isinstance(job, RedactionJob)
    async with open_connection(author.dsn, "ledger_api", name="test") as conn:
        return await survey(conn, author.store, job, [state])


def make_empty(_: bytes) -> bytes:
    return b"{}"


def turn_seal(record: bytes) -> bytes:
    """The record with what is sealed in it backwards: nothing opens it."""
    stored = json.loads(record)
    return json.dumps(stored | {"sealed": stored["sealed"][::-1]}).encode()


@pytest.mark.parametrize(
    ("topic", "damage"), [("dispute.opened", make_empty), ("dispute.evidence_staged", turn_seal)]
)
def test_a_record_that_cannot_be_read(dsn: str, topic: str, damage: Callable[[bytes], bytes]) -> None:
    """Also one whose sealed part alone cannot be opened: it may name files."""

    async def story(author: Author) -> None:
        customer = await author.create_customer(name="Ada")
        charge = await author.create_charge("tok_createDispute", customer=customer)
        dispute = await author.open_dispute(charge)
        await author.respond(dispute, submit=False, product_description="shoes")
        await author.report_fact(dispute, "lost")
        scope = await look(author, customer)
        assert (scope.obstacles, scope.reached) == ([], {"customer": 1, "charge": 1, "dispute": 1})
        with psycopg.connect(dsn) as conn:
            row = conn.execute(_RECORD, (dispute, topic)).fetchone()
        assert row is not None
        await corrupt_event(dsn, row[0], damage(row[1]))
        (obstacle,) = (await look(author, customer)).obstacles
        assert (obstacle.code, obstacle.object_id) == ("invalid_state", dispute)
        assert obstacle.message == "This object has a record that cannot be read."

    run_story(dsn, story)
