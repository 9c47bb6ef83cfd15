"""Disputes: domain events and state (contract §2.2). The decisions are in `dispute_decisions`.

Each change of status is one event and so one version; `dispute_states` has the state machine. The money that
an event moves is in its `movement`. A dispute has at most two movements: the withdrawal and its reversal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from ledger.domain import evidence
from ledger.domain.aggregate import State
from ledger.domain.dispute_states import INITIAL_STATUSES, TRANSITIONS
from ledger.domain.event import DomainEvent
from ledger.domain.money import BalanceTransaction, Movement

FEE_DESCRIPTION = "Dispute fee"
_CASE_TYPES = {
    "chargeback": "chargeback",
    "compliance": "compliance",
    "inquiry": "inquiry",
    "prevented": "block",
}


@dataclass(frozen=True, kw_only=True)
class DisputeOpened(DomainEvent):
    """The network reported a dispute over `amount` (minor units) of the charge with the id `charge`.

    kind         chargeback, inquiry, compliance or prevented; the first status follows from it
    method       type of the charge's payment method, None if unknown; `brand` is that of its card
    eligibility  enhanced evidence programs for which the dispute is eligible
    due_by       unix seconds by which evidence must be submitted; 0 if none can be
    movement     the withdrawal; None if the dispute takes no money
    reference    the network's reference of this report
    """

    TOPIC: ClassVar[str] = "dispute.opened"

    account: str
    livemode: bool
    charge: str
    customer: str | None
    payment_intent: str | None
    kind: str
    amount: int
    currency: str
    reason: str
    network_reason_code: str | None
    method: str | None
    brand: str | None
    eligibility: list[str]
    due_by: int
    movement: Movement | None
    reference: str | None


@dataclass(frozen=True, kw_only=True)
class DisputeUpdated(DomainEvent):
    """`changes` has the new values of `metadata` and `intended_submission_method`, those that changed."""

    TOPIC: ClassVar[str] = "dispute.updated"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"changes"})

    changes: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class EvidenceStaged(DomainEvent):
    """`evidence` has the changed fields, None for an unset one; `changes` as in DisputeUpdated."""

    TOPIC: ClassVar[str] = "dispute.evidence_staged"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"evidence", "changes"})

    evidence: dict[str, Any] | None
    changes: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class EvidenceSubmitted(DomainEvent):
    """All staged evidence was submitted to the bank, with the last changes in `evidence`.

    `changes` as in DisputeUpdated. `past_due`: whether it was submitted after `due_by`.
    """

    TOPIC: ClassVar[str] = "dispute.evidence_submitted"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"evidence", "changes"})

    evidence: dict[str, Any] | None
    changes: dict[str, Any] | None
    past_due: bool


@dataclass(frozen=True, kw_only=True)
class DisputeConceded(DomainEvent):
    """The merchant closed the dispute, which loses it."""

    TOPIC: ClassVar[str] = "dispute.conceded"


@dataclass(frozen=True, kw_only=True)
class DisputeLost(DomainEvent):
    """`cause` is `network` (reported under `reference`) or `deadline`: no evidence was submitted in time."""

    TOPIC: ClassVar[str] = "dispute.lost"

    cause: str
    reference: str | None


@dataclass(frozen=True, kw_only=True)
class DisputeWon(DomainEvent):
    """The bank decided for the merchant; `movement` is the reversal of the withdrawal."""

    TOPIC: ClassVar[str] = "dispute.won"

    movement: Movement
    reference: str | None


@dataclass(frozen=True, kw_only=True)
class InquiryEscalated(DomainEvent):
    """The inquiry became a chargeback; `movement` is the withdrawal, `due_by` the new due date."""

    TOPIC: ClassVar[str] = "dispute.inquiry_escalated"

    movement: Movement
    due_by: int
    reference: str | None


@dataclass(frozen=True, kw_only=True)
class InquiryClosed(DomainEvent):
    """`cause` is `network` (reported under `reference`), `refunded` (the charge was) or `deadline`."""

    TOPIC: ClassVar[str] = "dispute.inquiry_closed"

    cause: str
    reference: str | None


@dataclass(frozen=True, kw_only=True)
class AppealOpened(DomainEvent):
    """The lost dispute can be appealed until `due_by` (unix seconds)."""

    TOPIC: ClassVar[str] = "dispute.appeal_opened"

    due_by: int
    reference: str | None


EVENTS: tuple[type[DomainEvent], ...] = (
    DisputeOpened,
    DisputeUpdated,
    EvidenceStaged,
    EvidenceSubmitted,
    DisputeConceded,
    DisputeLost,
    DisputeWon,
    InquiryEscalated,
    InquiryClosed,
    AppealOpened,
)


class Dispute(State, frozen=True, kw_only=True):
    """A dispute.

    status                a key of `dispute_states.TRANSITIONS`
    amount                minor units of `currency`
    due_by                unix seconds; 0 if no evidence can be submitted
    evidence              the evidence fields that are set, staged or submitted
    references            fact by the network's reference of its report
    refundable            whether the charge can be refunded as far as this dispute is concerned
    balance_transactions  the withdrawal, then its reversal
    """

    created: int
    charge: str
    customer: str | None
    payment_intent: str | None
    status: str
    case_type: str
    amount: int
    currency: str
    reason: str
    network_reason_code: str | None
    method: str | None
    brand: str | None
    eligibility: list[str]
    due_by: int
    refundable: bool
    balance_transactions: list[BalanceTransaction]
    references: dict[str, str]
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    intended_submission_method: str | None = None
    evidence: dict[str, Any] = msgspec.field(default_factory=dict)
    past_due: bool = False
    submission_count: int = 0


def evolve(state: Dispute | None, event: DomainEvent) -> Dispute:
    """The dispute after `event`. Raises TypeError for an event that cannot follow `state`."""
    if isinstance(event, DisputeOpened):
        return _create_dispute(event)
    if state is None:
        raise TypeError(f"the first event of a dispute cannot be {type(event).__name__}")
    after = _derive_changes(state, event)
    return msgspec.structs.replace(state, version=event.originator_version, **after)


def _create_dispute(event: DisputeOpened) -> Dispute:
    movement = event.movement
    return Dispute(
        id=event.originator_id,
        version=event.originator_version,
        account=event.account,
        livemode=event.livemode,
        created=event.at,
        charge=event.charge,
        customer=event.customer,
        payment_intent=event.payment_intent,
        status=INITIAL_STATUSES[event.kind],
        case_type=_CASE_TYPES[event.kind],
        amount=event.amount,
        currency=event.currency,
        reason=event.reason,
        network_reason_code=event.network_reason_code,
        method=event.method,
        brand=event.brand,
        eligibility=event.eligibility,
        due_by=event.due_by,
        refundable=movement is None,
        balance_transactions=[_make_withdrawal(event.originator_id, event.charge, movement)]
        if movement
        else [],
        references=_add_reference({}, event.reference, "opened"),
    )


def _derive_changes(state: Dispute, event: DomainEvent) -> dict[str, Any]:
    """The fields that `event` changes, with their new values.

    Submission is the only action whose next status depends on the status before it. The next status of the
    other actions is written out here: a recorded event keeps its meaning even if `TRANSITIONS` changes.
    """
    match event:
        case DisputeUpdated():
            return dict(event.changes or {})
        case EvidenceStaged():
            return {
                **(event.changes or {}),
                "evidence": evidence.apply_changes(state.evidence, event.evidence),
            }
        case EvidenceSubmitted():
            return {
                **(event.changes or {}),
                "evidence": evidence.apply_changes(state.evidence, event.evidence),
                "status": TRANSITIONS[state.status]["submit"],
                "past_due": event.past_due,
                "submission_count": state.submission_count + 1,
            }
        case DisputeConceded():
            return {"status": "lost"}
        case DisputeLost(reference=reference):
            return {"status": "lost", "references": _add_reference(state.references, reference, "lost")}
        case DisputeWon(movement=movement, reference=reference):
            transactions = [*state.balance_transactions, _make_reversal(state.id, state.charge, movement)]
            return {
                "status": "won",
                "refundable": True,
                "balance_transactions": transactions,
                "references": _add_reference(state.references, reference, "won"),
            }
        case InquiryEscalated(movement=movement, reference=reference):
            return {
                "status": "needs_response",
                "case_type": "chargeback",
                "refundable": False,
                "due_by": event.due_by,
                "balance_transactions": [_make_withdrawal(state.id, state.charge, movement)],
                "references": _add_reference(state.references, reference, "escalated"),
            }
        case InquiryClosed(cause=cause, reference=reference):
            references = _add_reference(state.references, reference, "inquiry_closed")
            return {"status": "warning_closed", "refundable": cause != "refunded", "references": references}
        case AppealOpened(due_by=due_by, reference=reference):
            references = _add_reference(state.references, reference, "appeal_opened")
            return {"status": "appeal_needs_response", "due_by": due_by, "references": references}
    raise TypeError(f"{type(event).__name__} is not a dispute event")


def _add_reference(references: dict[str, str], reference: str | None, fact: str) -> dict[str, str]:
    return references if reference is None else {**references, reference: fact}


def _make_withdrawal(dispute_id: str, charge_id: str, movement: Movement) -> BalanceTransaction:
    return BalanceTransaction(
        **movement,
        type="adjustment",
        reporting_category="dispute",
        description=f"Chargeback withdrawal for {charge_id}",
        fee_description=FEE_DESCRIPTION,
        source=dispute_id,
    )


def _make_reversal(dispute_id: str, charge_id: str, movement: Movement) -> BalanceTransaction:
    return BalanceTransaction(
        **movement,
        type="adjustment",
        reporting_category="dispute_reversal",
        description=f"Chargeback reversal for {charge_id}",
        fee_description=FEE_DESCRIPTION,
        source=dispute_id,
    )
