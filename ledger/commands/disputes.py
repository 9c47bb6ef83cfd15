"""Commands on disputes (contract §2.2, §3), and what test mode adds to them (§3.4).

The events that test mode adds are appended together with their cause, as facts of the card network: such
events have no request, and `causation` names the event they follow from.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.execution import Decision, apply_and_render
from ledger.commands.files import get_evidence_sizes
from ledger.commands.usable_objects import get_usable
from ledger.domain import dispute_decisions
from ledger.domain.aggregate import State, check_not_redacted
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_decisions import FactReport
from ledger.domain.dispute_money import PaidCharge
from ledger.domain.event import DomainEvent
from ledger.objects import get_target, target_newest_dispute
from ledger.store.journal import Change, fold_changes


async def update(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/disputes/{id}`. In test mode the evidence texts of contract §3.4 decide the dispute at once;
    the answer shows it as it was submitted. A redacted payment takes no evidence, so its disputes are lost
    when they are due."""
    state = await get_usable(call, Dispute, context.get)
    check_not_redacted(await read_charge(state, context))
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
        change.state,
        FactReport(fact=outcome),
        paid=await read_paid_charge(change.state, context),
        txn_id=context.new_id("txn"),
        terms=context.environment.terms,
        now=now,
    )
    return Decision([*decision.changes, *consequences(change, outcome_events)], decision.answer)


async def update_newest(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/charges/{id}/dispute`: updates the newest dispute of the charge."""
    return await update(await target_newest_dispute(call, context.get), context, now)


async def close(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/disputes/{id}/close`"""
    state = await get_target(call, Dispute, context.get)
    events = dispute_decisions.close(
        state, paid=await read_paid_charge(state, context), txn_id=context.new_id("txn"), now=now
    )
    return await apply_and_render(call, context, now, state, events)


async def close_newest(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/charges/{id}/dispute/close`: closes the newest dispute of the charge."""
    return await close(await target_newest_dispute(call, context.get), context, now)


async def read_paid_charge(state: Dispute, context: DecisionContext) -> PaidCharge:
    """The charge of the dispute with all its disputes, `state` among them as it is now in the log."""
    charge = await read_charge(state, context)
    return PaidCharge(charge=charge, disputes=await read_disputes(charge, context))


async def read_charge(state: Dispute, context: DecisionContext) -> Charge:
    """The charge of the dispute."""
    charge = await context.get(state.charge)
    assert isinstance(charge, Charge), "a dispute is appended together with its ChargeDisputed"
    return charge


async def read_disputes(charge: Charge, context: DecisionContext) -> list[Dispute]:
    """All disputes of the charge."""
    disputes = []
    for dispute_id in charge.disputes:
        dispute = await context.get(dispute_id)
        assert isinstance(dispute, Dispute), "a dispute is appended together with its ChargeDisputed"
        disputes.append(dispute)
    return disputes


def open_test_card_disputes(charge_change: Change, context: DecisionContext, now: int) -> list[Change]:
    """The disputes that the test card of a charge opens after `charge_change`, each with its ChargeDisputed;
    none for other cards."""
    charge = charge_change.state
    assert isinstance(charge, Charge)
    changes: list[Change] = []
    for report in dispute_decisions.get_test_card_disputes(charge):
        events = dispute_decisions.open_dispute(
            charge,
            report,
            dispute_id=context.new_id("du"),
            txn_id=context.new_id("txn"),
            terms=context.environment.terms,
            now=now,
        )
        changes += consequences(charge_change, events, [charge])
        charge = next(change.state for change in changes[::-1] if isinstance(change.state, Charge))
    return changes


def consequences(
    cause: Change, events: Sequence[DomainEvent], before: Sequence[State] | None = None
) -> list[Change]:
    """The changes of `events`, on any streams, with `cause` as their causation. `before` are the aggregates
    that they change; by default the one that `cause` changed."""
    causation = f"{cause.event.originator_id}/{cause.event.originator_version}"
    return fold_changes(events, *([cause.state] if before is None else before), causation=causation)
