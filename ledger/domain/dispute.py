"""Disputes: domain events and state (contract §2.2). The decisions are in `dispute_decisions`.

Each change of status is one event and so one version; `dispute_states` has the state machine. The money that
an event moves is in its `movement`; `dispute_money` has the rules. A dispute has at most two movements, the
withdrawal and its reversal; or three, if it was lost, returned a refunded part, and was won on appeal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ledger.domain import evidence
from ledger.domain.aggregate import State
from ledger.domain.dispute_states import INITIAL_STATUSES, TRANSITIONS
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.money import BalanceTransaction, Movement
from ledger.domain.redaction.rules import Rule, keep, redact_evidence, redact_members, redact_metadata

FEE_DESCRIPTION = "Dispute fee"
NEVER_DUE = 2**62
"""Sorts a dispute that takes no answer behind all that have a due date."""
_CASE_TYPES = {
    "chargeback": "chargeback",
    "compliance": "compliance",
    "inquiry": "inquiry",
    "prevented": "block",
}
_redact_changes = redact_members({"metadata": redact_metadata, "intended_submission_method": keep})


@domain_event
class DisputeOpened(DomainEvent):
    """The network reported a dispute over `amount` (minor units) of the charge with the id `charge`.

    created      unix seconds; before `at` for a dispute that was reported late, or imported
    kind         chargeback, inquiry, compliance or prevented; the first status follows from it
    method       type of the charge's payment method, None if unknown; `brand` is that of its card
    eligibility  enhanced evidence programs for which the dispute is eligible
    due_by       unix seconds by which evidence must be submitted; 0 if none can be
    movement     the withdrawal; None if the dispute takes no money
    reference    the network's reference of this report
    """

    TOPIC: ClassVar[str] = "dispute.opened"
    class_version: ClassVar[int] = 2

    account: str
    livemode: bool
    created: int
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

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Version 1 had no `created`: a dispute was created when it was reported."""
        state["created"] = state["at"]


@domain_event
class DisputeUpdated(DomainEvent):
    """`changes` has the new values of `metadata` and `intended_submission_method`, those that changed."""

    TOPIC: ClassVar[str] = "dispute.updated"
    REDACTION: ClassVar[Mapping[str, Rule]] = {"changes": _redact_changes}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    changes: dict[str, Any] | None


@domain_event
class EvidenceStaged(DomainEvent):
    """`evidence` has the changed fields, None for an unset one; `changes` as in DisputeUpdated."""

    TOPIC: ClassVar[str] = "dispute.evidence_staged"
    REDACTION: ClassVar[Mapping[str, Rule]] = {"evidence": redact_evidence, "changes": _redact_changes}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    evidence: dict[str, Any] | None
    changes: dict[str, Any] | None


@domain_event
class EvidenceSubmitted(DomainEvent):
    """All staged evidence was submitted to the bank, with the last changes in `evidence`.

    `changes` as in DisputeUpdated. `past_due`: whether it was submitted after `due_by`.
    """

    TOPIC: ClassVar[str] = "dispute.evidence_submitted"
    REDACTION: ClassVar[Mapping[str, Rule]] = {"evidence": redact_evidence, "changes": _redact_changes}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    evidence: dict[str, Any] | None
    changes: dict[str, Any] | None
    past_due: bool


@domain_event
class DisputeConceded(DomainEvent):
    """The merchant closed the dispute, which loses it. `movement` as in DisputeLost."""

    TOPIC: ClassVar[str] = "dispute.conceded"
    class_version: ClassVar[int] = 2

    movement: Movement | None

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Version 1 had no `movement`: a loss returned nothing."""
        state["movement"] = None


@domain_event
class DisputeLost(DomainEvent):
    """`cause` is `network` (reported under `reference`) or `deadline`: no evidence was submitted in time.

    `movement` returns the part of the disputed amount that had been refunded; None if there is none.
    """

    TOPIC: ClassVar[str] = "dispute.lost"
    class_version: ClassVar[int] = 2

    cause: str
    movement: Movement | None
    reference: str | None

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Version 1 had no `movement`: a loss returned nothing."""
        state["movement"] = None


@domain_event
class DisputeWon(DomainEvent):
    """The bank decided for the merchant; `movement` is the reversal of the withdrawal.

    None only for an appeal against a loss that had returned everything.
    """

    TOPIC: ClassVar[str] = "dispute.won"

    movement: Movement | None
    reference: str | None


@domain_event
class InquiryEscalated(DomainEvent):
    """The inquiry became a chargeback over the amount that `movement` withdraws; `due_by` is the new due
    date."""

    TOPIC: ClassVar[str] = "dispute.inquiry_escalated"

    movement: Movement
    due_by: int
    reference: str | None


@domain_event
class InquiryClosed(DomainEvent):
    """`cause` is `network` (reported under `reference`), `refunded` (the charge was), `deadline`, or
    `merchant`, who closed the inquiry."""

    TOPIC: ClassVar[str] = "dispute.inquiry_closed"

    cause: str
    reference: str | None


@domain_event
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
    balance_transactions  the withdrawal, then its reversals
    reported_at           unix seconds at which the dispute was reported, if that was after `created`
    answered              once an appeal was submitted: whether the original dispute had been answered
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
    # Absent from the JSON of a dispute to which they do not apply: rows of earlier releases stay as they are.
    reported_at: int | msgspec.UnsetType = msgspec.UNSET
    answered: bool | msgspec.UnsetType = msgspec.UNSET

    @property
    def amount_withdrawn(self) -> int:
        """How much of the charge the dispute has taken and not returned, in minor units."""
        return -sum(transaction["amount"] for transaction in self.balance_transactions)

    @property
    def is_answered(self) -> bool:
        """Whether evidence was submitted to the original dispute: not by an appeal alone (contract §2.2)."""
        return self.submission_count > 0 if isinstance(self.answered, msgspec.UnsetType) else self.answered


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
        created=event.created,
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
        reported_at=event.at if event.created < event.at else msgspec.UNSET,
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
                "answered": state.is_answered if state.status == "appeal_needs_response" else msgspec.UNSET,
            }
        case DisputeConceded(movement=movement):
            return {"status": "lost", "balance_transactions": _add_reversal(state, movement)}
        case DisputeLost(movement=movement, reference=reference):
            return {
                "status": "lost",
                "balance_transactions": _add_reversal(state, movement),
                "references": _add_reference(state.references, reference, "lost"),
            }
        case DisputeWon(movement=movement, reference=reference):
            return {
                "status": "won",
                "refundable": True,
                "balance_transactions": _add_reversal(state, movement),
                "references": _add_reference(state.references, reference, "won"),
            }
        case InquiryEscalated(movement=movement, reference=reference):
            return {
                "status": "needs_response",
                "case_type": "chargeback",
                "amount": -movement["amount"],
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


def _add_reversal(state: Dispute, movement: Movement | None) -> list[BalanceTransaction]:
    """The dispute's balance transactions with the reversal that `movement` makes, if it is one."""
    if movement is None:
        return state.balance_transactions
    reversal = BalanceTransaction(
        **movement,
        type="adjustment",
        reporting_category="dispute_reversal",
        description=f"Chargeback reversal for {state.charge}",
        fee_description=FEE_DESCRIPTION,
        source=state.id,
    )
    return [*state.balance_transactions, reversal]
