"""Commands on disputes (CONTRACT 2.2, 3), and what test mode lets follow from them (3.4).

What follows is appended in the same transaction as its cause, as facts of the network: they belong to no
request, and `causation` names the event they followed from.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.call import Call
from ledger.commands.execution import Decide, Decided, Reading, answering
from ledger.commands.files import sizes_of_evidence
from ledger.domain import dispute_decisions
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.objects import addressed, newest_dispute
from ledger.store.codec import State, evolve
from ledger.store.journal import Change


def update(terms: Terms) -> Decide:
    """`POST /v1/disputes/{id}`. In test mode the texts of CONTRACT 3.4 are answered at once; the answer
    shows the dispute as it was submitted."""

    async def decide(call: Call, reading: Reading, now: int) -> Decided:
        state = await addressed(call, Dispute, reading.state)
        given = call.parameters.get("evidence") or {}
        file_bytes = await sizes_of_evidence(call, reading, state.evidence, given)
        events = dispute_decisions.update(state, call.parameters, file_bytes=file_bytes, now=now)
        decided = await answering(call, reading, now, state, events)
        if not events:
            return decided
        change = decided.changes[-1]
        assert isinstance(change.state, Dispute)
        outcome = dispute_decisions.test_outcome(change.state)
        if outcome is None:
            return decided
        follows = dispute_decisions.report_fact(
            change.state, outcome, None, due_by=None, txn_id=reading.new_id("txn"), terms=terms, now=now
        )
        return Decided([*decided.changes, *following(change, follows)], decided.answer)

    return decide


async def close(call: Call, reading: Reading, now: int) -> Decided:
    """`POST /v1/disputes/{id}/close`"""
    state = await addressed(call, Dispute, reading.state)
    return await answering(call, reading, now, state, dispute_decisions.close(state, now=now))


def of_charge(decide: Decide) -> Decide:
    """The same on the newest dispute of the charge in the path."""

    async def decided(call: Call, reading: Reading, now: int) -> Decided:
        return await decide(await newest_dispute(call, reading.state), reading, now)

    return decided


def opened_by_card(made: Change, reading: Reading, terms: Terms, now: int) -> list[Change]:
    """The disputes that the test card of a charge just `made` opens, and their marks on the charge."""
    charge = made.state
    assert isinstance(charge, Charge)
    changes: list[Change] = []
    for opening in dispute_decisions.test_openings(charge):
        events = dispute_decisions.open_dispute(
            charge,
            opening,
            dispute_id=reading.new_id("du"),
            txn_id=reading.new_id("txn"),
            terms=terms,
            now=now,
        )
        changes += following(made, events, {charge.id: charge})
        charge = next(change.state for change in changes[::-1] if isinstance(change.state, Charge))
    return changes


def following(
    cause: Change, events: Sequence[DomainEvent], states: dict[str, State] | None = None
) -> list[Change]:
    """`events`, on any streams, as they follow from `cause`."""
    now: dict[str, State] = {cause.state.id: cause.state} if states is None else states
    causation = f"{cause.event.originator_id}/{cause.event.originator_version}"
    changes = []
    for event in events:
        state = now[event.originator_id] = evolve(now.get(event.originator_id), event)
        changes.append(Change(event, state, causation))
    return changes
