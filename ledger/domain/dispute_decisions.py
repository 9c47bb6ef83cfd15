"""Decisions on disputes: the arrows of the state machine in `dispute_states` (contract §3.2).

`update` and `close` are commands of the merchant, `open_dispute` and `report_fact` are reports of the
network, `expire` acts on the passage of time, and `close_refunded_inquiry` follows a refund of the charge. An
action that `TRANSITIONS` does not list is refused with InvalidState. A report with a known reference produces
no events, so repeating it never moves money twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.domain import charge_decisions, dispute_money, evidence, merge_patch
from ledger.domain.aggregate import next_header
from ledger.domain.backdating import resolve_reported_time
from ledger.domain.cards import TEST_CARDS
from ledger.domain.charge import Charge
from ledger.domain.dispute import (
    AppealOpened,
    Dispute,
    DisputeConceded,
    DisputeLost,
    DisputeOpened,
    DisputeUpdated,
    DisputeWon,
    EvidenceStaged,
    EvidenceSubmitted,
    InquiryClosed,
    InquiryEscalated,
)
from ledger.domain.dispute_money import PaidCharge
from ledger.domain.dispute_states import (
    CLOSED_STATUSES,
    INITIAL_STATUSES,
    TRANSITIONS,
    get_statuses_allowing,
)
from ledger.domain.event import DomainEvent
from ledger.domain.money import DAY_SECONDS, Terms, split_amount
from ledger.errors import ContentConflict, InvalidDisputeState, InvalidState

KINDS = tuple(INITIAL_STATUSES)
FACTS = ("won", "lost", "escalated", "inquiry_closed", "appeal_opened", "prevented")
"""What the network can report of a dispute. `prevented` is always refused: a dispute is either
opened as prevented or never becomes so."""
LATE_REPORT_GRACE_SECONDS = 3600
"""A dispute that is reported after its deadline, as an import does, waits this long for its outcome."""
TIMEOUT_SECONDS = {"inquiry": 120 * DAY_SECONDS, "response": 1}
"""How long each timeout of `find_pending_timeout` runs (contract §3.2)."""
FACTS_ABOUT_CHARGE = ("lost", "escalated")
"""The facts whose money depends on the charge and its other disputes."""
REASONS = (
    "bank_cannot_process", "check_returned", "credit_not_processed", "customer_initiated",
    "debit_not_authorized", "duplicate", "fraudulent", "general", "incorrect_account_details",
    "insufficient_funds", "noncompliant", "product_not_received", "product_unacceptable",
    "subscription_canceled", "unrecognized",
)  # fmt: skip
_OPEN_INQUIRY_STATUSES = get_statuses_allowing("inquiry_closed")
# The fact reported at once in test mode, by the text of the submitted evidence (contract §3.4).
_TEST_OUTCOMES = {"winning_evidence": "won", "losing_evidence": "lost"}
_TEST_INQUIRY_OUTCOMES = {
    "winning_evidence": "inquiry_closed",
    "losing_evidence": "inquiry_closed",
    "escalate_inquiry_evidence": "escalated",
}


@dataclass(frozen=True, kw_only=True)
class DisputeReport:
    """A dispute as the network reports it.

    kind         one of KINDS
    amount       minor units; None: all that can be disputed
    created      unix seconds, not in the future and not before the charge; None: now
    due_by       unix seconds; None: the default of the terms, counted from `created`
    reference    the network's reference of this report; a known one opens no dispute
    eligibility  enhanced evidence programs for which the dispute is eligible
    """

    kind: str
    reason: str = "general"
    network_reason_code: str | None = None
    amount: int | None = None
    created: int | None = None
    due_by: int | None = None
    reference: str | None = None
    eligibility: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FactReport:
    """A fact about a dispute as the network reports it.

    fact       one of FACTS
    reference  the network's reference of this report; a known one changes nothing
    amount     minor units, for an escalated inquiry; None: its amount so far
    created    unix seconds, not in the future and not before the dispute; None: now
    due_by     unix seconds; None: the default of the terms, counted from `created`
    """

    fact: str
    reference: str | None = None
    amount: int | None = None
    created: int | None = None
    due_by: int | None = None


def open_dispute(
    charge: Charge, report: DisputeReport, *, dispute_id: str, txn_id: str, terms: Terms, now: int
) -> list[DomainEvent]:
    """ChargeDisputed on the charge's stream and DisputeOpened on the dispute's, to be appended together.

    Returns [] if the charge already has a dispute with this id or reference (`charge.references` names it).
    `txn_id` becomes the id of the withdrawal. Raises InvalidDisputeState unless the charge is paid,
    what `dispute_money.choose_amount` raises for the amount, InvalidParameter for `created` out of bounds.
    """
    if dispute_id in charge.disputes or report.reference in charge.references:
        return []
    if charge.status != "succeeded" or not charge.captured:
        text = f"Charge {charge.id} has not been paid; it cannot be disputed."
        raise InvalidDisputeState(text, param="charge")
    amount = dispute_money.choose_amount(charge, report.amount, dispute_id=dispute_id, default=None)
    created = resolve_reported_time(
        report.created, now, earliest=charge.created, subject=f"charge {charge.id}"
    )
    takes_money = report.kind in ("chargeback", "compliance")
    method, brand = _get_payment_method(charge)
    eligibility = list(report.eligibility)
    if report.kind == "compliance" and not eligibility:
        eligibility = ["mastercard_compliance" if brand == "mastercard" else "visa_compliance"]
    due_by = 0 if report.kind == "prevented" else _choose_due_by(report.due_by, terms, created)
    dispute_opened = DisputeOpened(
        originator_id=dispute_id,
        originator_version=1,
        at=now,
        account=charge.account,
        livemode=charge.livemode,
        created=created,
        charge=charge.id,
        customer=charge.customer,
        payment_intent=charge.payment_intent,
        kind=report.kind,
        amount=amount,
        currency=charge.currency,
        reason="noncompliant" if report.kind == "compliance" else report.reason,
        network_reason_code=report.network_reason_code,
        method=method,
        brand=brand,
        eligibility=eligibility,
        due_by=due_by,
        movement=dispute_money.make_withdrawal(txn_id, amount, charge.currency, terms, created)
        if takes_money
        else None,
        reference=report.reference,
    )
    charge_disputed = charge_decisions.record_dispute(charge, dispute_id, amount, report.reference, now=now)
    return [charge_disputed, dispute_opened]


def get_test_card_disputes(charge: Charge) -> list[DisputeReport]:
    """The disputes to open, in order, because a test card of contract §3.4 paid the charge; [] for others."""
    spec = TEST_CARDS[charge.card["token"]].dispute if charge.card and charge.captured else None
    if spec is None:
        return []
    amounts = split_amount(charge.amount_captured, spec.dispute_count, charge.currency)
    return [
        DisputeReport(
            kind=spec.kind,
            reason=spec.reason,
            network_reason_code=spec.network_reason_code,
            amount=amount,
            eligibility=spec.eligibility,
        )
        for amount in amounts
    ]


def update(
    state: Dispute, params: Mapping[str, Any], *, file_bytes: Mapping[str, int], now: int
) -> list[DomainEvent]:
    """Merges `params["evidence"]` into the staged evidence, and submits it unless `params["submit"]` is
    False.

    `metadata` and `intended_submission_method` alone never submit, and may change in any status. `file_bytes`
    has the size by id of each file in the new and the staged evidence that exists and may be evidence.
    Returns [] if nothing changes. Raises InvalidState if the status does not allow evidence, param
    `evidence[x]` if it does not allow this evidence, and, param `evidence`, for evidence beyond its limits, a
    submission without evidence, and an appeal without evidence of an appeal.
    """
    evidence_patch = params.get("evidence") or {}
    changes: dict[str, Any] = {}
    if "intended_submission_method" in params:
        changes["intended_submission_method"] = params["intended_submission_method"]
    if "metadata" in params:
        changes["metadata"] = merge_patch.merge_metadata(state.metadata, params["metadata"])
    changes = merge_patch.find_changes(state, changes)
    submit = params.get("submit")
    header = next_header(state, now)
    if not evidence_patch and not submit:
        return [DisputeUpdated(**header, changes=changes)] if changes else []
    is_appeal = state.status == "appeal_needs_response"
    if not is_appeal:
        evidence.check_without_appeal(state.evidence, evidence_patch, file_bytes)
    _check_accepts_evidence(state)
    evidence_changes = evidence.compute_changes(state.evidence, evidence_patch, file_bytes)
    if is_appeal:
        evidence.check_appeal_alone(evidence_changes)
    if submit is False:
        staged = EvidenceStaged(**header, evidence=evidence_changes, changes=changes)
        return [staged] if evidence_changes or changes else []
    after = evidence.apply_changes(state.evidence, evidence_changes)
    if not after:
        raise InvalidState("You must provide evidence before you submit it.", param="evidence")
    if is_appeal and not evidence.has_appeal(after):
        raise InvalidState("You must provide evidence[appeal] before you submit an appeal.", param="evidence")
    past_due = 0 < state.due_by < now
    return [EvidenceSubmitted(**header, evidence=evidence_changes, changes=changes, past_due=past_due)]


def close(state: Dispute, *, paid: PaidCharge, txn_id: str, now: int) -> list[DomainEvent]:
    """The merchant accepts the loss, or ends an inquiry, which moves no money.

    `txn_id` becomes the id of the money movement, if there is one. Raises InvalidState if the status does not
    allow it.
    """
    if state.status in CLOSED_STATUSES:
        raise InvalidState("This dispute is already closed")
    if "close" not in TRANSITIONS[state.status]:
        text = f"This dispute cannot be closed while its status is {state.status}."
        raise InvalidState(text)
    header = next_header(state, now)
    if state.status in _OPEN_INQUIRY_STATUSES:
        return [InquiryClosed(**header, cause="merchant", reference=None)]
    return [
        DisputeConceded(**header, movement=dispute_money.make_refunded_part_return(txn_id, state, paid, now))
    ]


def report_fact(
    state: Dispute, report: FactReport, *, paid: PaidCharge | None, txn_id: str, terms: Terms, now: int
) -> list[DomainEvent]:
    """Records a fact that the network reports of a dispute.

    `paid` may be None unless the fact is one of FACTS_ABOUT_CHARGE. `txn_id` becomes the id of the money
    movement, if there is one. An inquiry that is escalated over another amount than before also makes a
    ChargeDisputed on the charge's stream, to be appended together. Returns [] if the reference is known.
    Raises InvalidDisputeState for a fact that the status does not allow,
    ContentConflict for a reference that was used for another fact, what `dispute_money.choose_amount` raises
    for the amount, InvalidParameter for `created` out of bounds.
    """
    fact, reference = report.fact, report.reference
    known_fact = state.references.get(reference) if reference is not None else None
    if known_fact is not None and known_fact != fact:
        text = f"The reference '{reference}' was used for another fact before: {known_fact}."
        raise ContentConflict(text, param="fact")
    if known_fact is not None:
        return []
    if fact not in TRANSITIONS[state.status]:
        text = f"Dispute {state.id} has the status {state.status}; the fact {fact} cannot follow."
        raise InvalidDisputeState(text)
    header = next_header(state, now)
    earliest, subject = state.created, f"dispute {state.id}"
    if state.balance_transactions:
        earliest = state.balance_transactions[-1]["created"]
        subject = f"the last balance transaction of dispute {state.id}"
    created = resolve_reported_time(report.created, now, earliest=earliest, subject=subject)
    if fact == "won":
        movement = dispute_money.make_reversal(txn_id, state, terms, created)
        return [DisputeWon(**header, movement=movement, reference=reference)]
    if fact in FACTS_ABOUT_CHARGE:
        assert paid is not None, "the caller reads the charge for these facts"
        return _decide_by_charge(state, report, paid, txn_id=txn_id, terms=terms, now=now)
    if fact == "appeal_opened":
        due_by = _choose_due_by(report.due_by, terms, created)
        return [AppealOpened(**header, due_by=due_by, reference=reference)]
    return [InquiryClosed(**header, cause="network", reference=reference)]


def _decide_by_charge(
    state: Dispute, report: FactReport, paid: PaidCharge, *, txn_id: str, terms: Terms, now: int
) -> list[DomainEvent]:
    """The events of a loss or an escalation, which `report_fact` has found possible."""
    header = next_header(state, now)
    created = now if report.created is None else report.created
    if report.fact == "lost":
        movement = dispute_money.make_refunded_part_return(txn_id, state, paid, created)
        return [DisputeLost(**header, cause="network", movement=movement, reference=report.reference)]
    amount = dispute_money.choose_amount(
        paid.charge, report.amount, dispute_id=state.id, default=state.amount
    )
    escalated = InquiryEscalated(
        **header,
        movement=dispute_money.make_withdrawal(txn_id, amount, state.currency, terms, created),
        due_by=_choose_due_by(report.due_by, terms, created),
        reference=report.reference,
    )
    if amount == state.amount:
        return [escalated]
    return [charge_decisions.record_dispute(paid.charge, state.id, amount, None, now=now), escalated]


def find_pending_timeout(state: Dispute) -> tuple[str, int] | None:
    """The timeout that runs in this status: its kind, and the unix second from which it is counted.

    ("inquiry", creation): an open inquiry closes some time after its creation. ("response", due date):
    without evidence the dispute is lost after its due date. Later if the dispute was reported so late that
    its outcome may still be on its way. None if no timeout runs.
    """
    if state.status in _OPEN_INQUIRY_STATUSES:
        kind, since = "inquiry", state.created
    elif "timeout" in TRANSITIONS[state.status] and state.due_by:
        kind, since = "response", state.due_by
    else:
        return None
    if isinstance(state.reported_at, int):
        since = max(since, state.reported_at + LATE_REPORT_GRACE_SECONDS - TIMEOUT_SECONDS[kind])
    return kind, since


def compute_deadline(state: Dispute) -> int | None:
    """The first unix second at which `expire` acts on this state; None if it never does."""
    pending = find_pending_timeout(state)
    return None if pending is None else pending[1] + TIMEOUT_SECONDS[pending[0]]


def expire(state: Dispute, *, paid: PaidCharge, txn_id: str, now: int) -> list[DomainEvent]:
    """Ends what has timed out: a dispute without response is lost, an old inquiry closes. [] before
    `compute_deadline`. `txn_id` becomes the id of the money movement, if there is one."""
    due_at = compute_deadline(state)
    if due_at is None or now < due_at:
        return []
    header = next_header(state, now)
    if state.status in _OPEN_INQUIRY_STATUSES:
        return [InquiryClosed(**header, cause="deadline", reference=None)]
    movement = dispute_money.make_refunded_part_return(txn_id, state, paid, now)
    return [DisputeLost(**header, cause="deadline", movement=movement, reference=None)]


def close_refunded_inquiry(state: Dispute, *, now: int) -> list[DomainEvent]:
    """Closes an open inquiry, because its charge was fully refunded; [] in any other status."""
    if "refunded" not in TRANSITIONS[state.status]:
        return []
    return [InquiryClosed(**next_header(state, now), cause="refunded", reference=None)]


def get_test_outcome(state: Dispute) -> str | None:
    """The fact that follows a submission at once in test mode, by its exact `uncategorized_text` (contract
    §3.4).

    None in live mode, for another text, and for an appeal, whose text is still that of the first response.
    """
    text = state.evidence.get("uncategorized_text")
    if state.livemode or not isinstance(text, str):
        return None
    if state.status == "warning_under_review":
        return _TEST_INQUIRY_OUTCOMES.get(text)
    return _TEST_OUTCOMES.get(text) if state.status == "under_review" else None


def _check_accepts_evidence(state: Dispute) -> None:
    if state.status in CLOSED_STATUSES:
        raise InvalidState("This dispute is already closed")
    if "submit" not in TRANSITIONS[state.status]:
        text = "The evidence for this dispute has already been submitted and is under review."
        raise InvalidState(text)


def _get_payment_method(charge: Charge) -> tuple[str | None, str | None]:
    """Type of the payment method and brand of its card, None where unknown."""
    if charge.card is not None:
        return "card", charge.card["brand"]
    details = charge.payment_method_details or {}
    return details.get("type"), (details.get("card") or {}).get("brand")


def _choose_due_by(reported_due_by: int | None, terms: Terms, created: int) -> int:
    return terms.compute_due_by(created) if reported_due_by is None else reported_due_by
