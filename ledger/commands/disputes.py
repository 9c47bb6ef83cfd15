"""Commands on disputes (contract §2.2, §3), and what test mode lets follow from them (§3.4).

What follows is appended in the same transaction as its cause, as facts of the network: they belong to no
request, and `causation` names the event they followed from.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.call import Call
from ledger.commands.execution import Decide, Decision, DecisionContext, apply_and_render
from ledger.commands.files import get_evidence_sizes
from ledger.domain import dispute_decisions
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.objects import get_target, target_newest_dispute
from ledger.store.codec import State
from ledger.store.journal import Change, fold_changes


def update(terms: Terms) -> Decide:
    """`POST /v1/disputes/{id}`. In test mode the texts of contract §3.4 are answered at once; the answer
    shows the dispute as it was submitted."""

    async def decide(call: Call, context: DecisionContext, now: int) -> Decision:
        state = await get_target(call, Dispute, context.get)
        new_evidence = call.parameters.get("evidence") or {}
        file_bytes = await get_evidence_sizes(call, context, state.evidence, new_evidence)
        events = dispute_decisions.update(state, call.parameters, file_bytes=file_bytes, now=now)
        decision = await apply_and_render(call, context, now, state, events)
        if not events:
            return decision
        change = decision.changes[-1]
        assert isinstance(change.state, Dispute)
        outcome = dispute_decisions.get_test_outcome(change.state)
        if outcome is None:
            return decision
        outcome_events = dispute_decisions.report_fact(
            change.state, outcome, None, due_by=None, txn_id=context.new_id("txn"), terms=terms, now=now
        )
        return Decision([*decision.changes, *consequences(change, outcome_events)], decision.answer)

    return decide


async def close(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/disputes/{id}/close`"""
    state = await get_target(call, Dispute, context.get)
    return await apply_and_render(call, context, now, state, dispute_decisions.close(state, now=now))


def on_newest_dispute(decide: Decide) -> Decide:
    """The same on the newest dispute of the charge in the path."""

    async def decide_on_newest(call: Call, context: DecisionContext, now: int) -> Decision:
        return await decide(await target_newest_dispute(call, context.get), context, now)

    return decide_on_newest


def open_test_card_disputes(
    charge_change: Change, context: DecisionContext, terms: Terms, now: int
) -> list[Change]:
    """The disputes that the test card of a charge just `charge_change` opens, and their marks on the
    charge."""
    charge = charge_change.state
    assert isinstance(charge, Charge)
    changes: list[Change] = []
    for opening in dispute_decisions.get_test_card_disputes(charge):
        events = dispute_decisions.open_dispute(
            charge,
            opening,
            dispute_id=context.new_id("du"),
            txn_id=context.new_id("txn"),
            terms=terms,
            now=now,
        )
        changes += consequences(charge_change, events, [charge])
        charge = next(change.state for change in changes[::-1] if isinstance(change.state, Charge))
    return changes


def consequences(
    cause: Change, events: Sequence[DomainEvent], before: Sequence[State] | None = None
) -> list[Change]:
    """The changes of `events`, on any streams, which follow from `cause`. `before` are the aggregates that
    they change; by default the one that `cause` changed."""
    causation = f"{cause.event.originator_id}/{cause.event.originator_version}"
    return fold_changes(events, *([cause.state] if before is None else before), causation=causation)
