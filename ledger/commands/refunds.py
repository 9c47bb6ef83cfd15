"""Commands on refunds (CONTRACT 2.7), and the inquiries that a full refund closes (3.2).

A refund, its mark on the charge and what that closes are one append: all of it happens or nothing, and it
happens on the charge and the disputes as they were read, or is decided again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from ledger.call import Call
from ledger.commands.disputes import following
from ledger.commands.execution import Decide, Decided, Reading, answering, with_changes
from ledger.domain import charge, refund, refund_decisions
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.refund import Refund
from ledger.objects import addressed, expanded, shown
from ledger.store.codec import State
from ledger.store.journal import Change

ChargeOf = Callable[[Call, str], Awaitable[str]]
"""The id of a payment intent's newest charge; which one that is never changes once it has been paid."""


def create(charge_of: ChargeOf) -> Decide:
    """`POST /v1/refunds`. An unknown charge is told like one in the path (CONTRACT 2.7, recorded)."""

    async def decide(call: Call, reading: Reading, now: int) -> Decided:
        given = call.parameters
        charge_id = given["charge"] if "charge" in given else await charge_of(call, given["payment_intent"])
        state, changes = await made(call, reading, now, charge_id, reading.new_id("re"))
        answer = shown(state, now)
        if call.expand:
            await expanded(state, answer, call.expand, now, with_changes(reading, changes))
        return Decided(changes, answer)

    return decide


async def made(
    call: Call, reading: Reading, now: int, charge_id: str, refund_id: str
) -> tuple[Refund, list[Change]]:
    """The refund that the call's parameters ask for, and all that it changes. Raises UnknownObject for the
    charge, and what `refund_decisions.create` raises."""
    paid = await addressed(replace(call, target=charge_id), Charge, reading.state)
    disputes = [await _dispute(dispute_id, reading) for dispute_id in paid.disputes]
    created, refunded = refund_decisions.create(
        paid,
        call.parameters,
        disputes=disputes,
        refund_id=refund_id,
        txn_id=reading.new_id("txn"),
        now=now,
    )
    state = refund.evolve(None, created)
    after = charge.evolve(paid, refunded)
    mark = Change(refunded, after)
    closed = refund_decisions.closed_inquiries(after, disputes, now=now)
    states: dict[str, State] = {dispute.id: dispute for dispute in disputes}
    return state, [Change(created, state), mark, *following(mark, closed, states)]


async def update(call: Call, reading: Reading, now: int) -> Decided:
    """`POST /v1/refunds/{id}`"""
    state = await addressed(call, Refund, reading.state)
    return await answering(
        call, reading, now, state, refund_decisions.update(state, call.parameters, now=now)
    )


async def cancel(call: Call, reading: Reading, now: int) -> Decided:
    """`POST /v1/refunds/{id}/cancel`"""
    raise refund_decisions.cannot_cancel(await addressed(call, Refund, reading.state))


async def _dispute(dispute_id: str, reading: Reading) -> Dispute:
    state = await reading.state(dispute_id)
    assert isinstance(state, Dispute), "a charge knows only of disputes opened together with its mark"
    return state
