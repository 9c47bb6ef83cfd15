"""Disputes: their domain events and the state these make. The decisions are in `disputing`.

Each status change is one event, so one version. Money an event moves is in its `movement`; a dispute has
at most two, the withdrawal and the reversal. A personal field that has been erased comes back as None,
and `evolve` bears it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from ledger.domain import evidence
from ledger.domain.event import DomainEvent
from ledger.domain.money import BalanceTransaction, Movement

FEE_DESCRIPTION = "Dispute fee"
_INITIAL_STATUS = {
    "chargeback": "needs_response",
    "compliance": "needs_response",
    "inquiry": "warning_needs_response",
    "prevented": "prevented",
}
_CASE_TYPES = {
    "chargeback": "chargeback",
    "compliance": "compliance",
    "inquiry": "inquiry",
    "prevented": "block",
}
_STATUS_AFTER_SUBMISSION = {
    "needs_response": "under_review",
    "warning_needs_response": "warning_under_review",
    "appeal_needs_response": "appeal_under_review",
}


@dataclass(frozen=True, kw_only=True)
class DisputeOpened(DomainEvent):
    """`kind` is chargeback, inquiry, compliance or prevented; the first two statuses follow from it.

    method       type of the charge's payment method, None if unknown; `brand` is its card's
    eligibility  enhanced evidence programs the dispute is eligible for
    due_by       unix seconds; 0 where no answer is taken
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
    """`changes`: new value of `metadata` or `intended_submission_method`, or both."""

    TOPIC: ClassVar[str] = "dispute.updated"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"changes"})

    changes: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class EvidenceStaged(DomainEvent):
    """`evidence`: changed fields, None where unset now; `changes` as in DisputeUpdated."""

    TOPIC: ClassVar[str] = "dispute.evidence_staged"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"evidence", "changes"})

    evidence: dict[str, Any] | None
    changes: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class EvidenceSubmitted(DomainEvent):
    """All that is staged, with these last changes, went to the bank."""

    TOPIC: ClassVar[str] = "dispute.evidence_submitted"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"evidence", "changes"})

    evidence: dict[str, Any] | None
    changes: dict[str, Any] | None
    past_due: bool


@dataclass(frozen=True, kw_only=True)
class DisputeConceded(DomainEvent):
    """The merchant closed it, which loses it."""

    TOPIC: ClassVar[str] = "dispute.conceded"


@dataclass(frozen=True, kw_only=True)
class DisputeLost(DomainEvent):
    """`cause` is network, the fact `reference`, or deadline: nothing was submitted in time."""

    TOPIC: ClassVar[str] = "dispute.lost"

    cause: str
    reference: str | None


@dataclass(frozen=True, kw_only=True)
class DisputeWon(DomainEvent):
    TOPIC: ClassVar[str] = "dispute.won"

    movement: Movement
    reference: str | None


@dataclass(frozen=True, kw_only=True)
class InquiryEscalated(DomainEvent):
    """The inquiry is a chargeback now."""

    TOPIC: ClassVar[str] = "dispute.inquiry_escalated"

    movement: Movement
    due_by: int
    reference: str | None


@dataclass(frozen=True, kw_only=True)
class InquiryClosed(DomainEvent):
    """`cause` is network, the fact `reference`; refunded, the charge was; or deadline."""

    TOPIC: ClassVar[str] = "dispute.inquiry_closed"

    cause: str
    reference: str | None


@dataclass(frozen=True, kw_only=True)
class AppealOpened(DomainEvent):
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


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute as of `version`.

    status        one of the ten of contract §2.2
    evidence      the fields that are set
    references    the network's references of facts, and the fact each was for
    balance_transactions  withdrawal, then reversal
    """

    id: str
    version: int
    account: str
    livemode: bool
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
    metadata: dict[str, str] = {}
    intended_submission_method: str | None = None
    evidence: dict[str, Any] = {}
    past_due: bool = False
    submission_count: int = 0


def evolve(state: Dispute | None, event: DomainEvent) -> Dispute:
    if isinstance(event, DisputeOpened):
        return _create_dispute(event)
    if state is None:
        raise TypeError(f"{type(event).__name__} cannot begin a dispute")
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
        status=_INITIAL_STATUS[event.kind],
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
    """The fields that `event` gives new values to."""
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
                "status": _STATUS_AFTER_SUBMISSION[state.status],
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
    raise TypeError(f"{type(event).__name__} is no event of a dispute")


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
