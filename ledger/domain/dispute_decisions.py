"""What may happen to a dispute: the state machine of contract §3.2.

Commands are the merchant's (`update`, `close`); facts are the network's (`open_dispute`, `report_fact`);
`expire` is the clock's and `close_refunded_inquiry` the charge's. Whatever the table does not list is refused
with InvalidState, code `dispute_state` for facts. The same reference again decides nothing, so a fact
told twice never moves money twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.domain import charge_decisions, evidence, merge_patch
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
from ledger.domain.event import DomainEvent
from ledger.domain.money import DAY_SECONDS, Movement, Terms, format_amount
from ledger.errors import InvalidDisputeState, InvalidState

KINDS = ("chargeback", "inquiry", "compliance", "prevented")
REASONS = (
    "bank_cannot_process", "check_returned", "credit_not_processed", "customer_initiated",
    "debit_not_authorized", "duplicate", "fraudulent", "general", "incorrect_account_details",
    "insufficient_funds", "noncompliant", "product_not_received", "product_unacceptable",
    "subscription_canceled", "unrecognized",
)  # fmt: skip
_OPEN_INQUIRY_STATUSES = frozenset({"warning_needs_response", "warning_under_review"})
_AWAITING_RESPONSE_STATUSES = frozenset({"needs_response", "warning_needs_response", "appeal_needs_response"})
_CONCEDABLE_STATUSES = frozenset({"needs_response", "appeal_needs_response"})
_CONTESTED_STATUSES = frozenset({"needs_response", "under_review"})
_CLOSED_STATUSES = frozenset({"won", "lost", "warning_closed", "prevented"})
_STATUSES_BY_FACT: dict[str, frozenset[str]] = {
    "won": _CONTESTED_STATUSES | {"appeal_under_review"},
    "lost": _CONTESTED_STATUSES | {"appeal_under_review"},
    "escalated": _OPEN_INQUIRY_STATUSES,
    "inquiry_closed": _OPEN_INQUIRY_STATUSES,
    "appeal_opened": frozenset({"lost"}),
    "prevented": frozenset(),  # a dispute is prevented from the start or never
}
FACTS = tuple(_STATUSES_BY_FACT)
_TEST_OUTCOMES = {"winning_evidence": "won", "losing_evidence": "lost"}
_TEST_INQUIRY_OUTCOMES = {
    "winning_evidence": "inquiry_closed",
    "losing_evidence": "inquiry_closed",
    "escalate_inquiry_evidence": "escalated",
}


@dataclass(frozen=True, kw_only=True)
class DisputeReport:
    """A dispute as the network reports it.

    amount      minor units; None for all that can be disputed
    due_by      unix seconds; None for the terms' default
    reference   the network's, of this fact; the same again opens nothing
    """

    kind: str
    reason: str = "general"
    network_reason_code: str | None = None
    amount: int | None = None
    due_by: int | None = None
    reference: str | None = None
    eligibility: tuple[str, ...] = ()


def open_dispute(
    charge: Charge, report: DisputeReport, *, dispute_id: str, txn_id: str, terms: Terms, now: int
) -> list[DomainEvent]:
    """ChargeDisputed on the charge's stream and DisputeOpened on the dispute's, to be appended together.

    [] if the charge knows the id or the reference: `charge.references` names that dispute. Raises
    InvalidState unless the charge is paid, and, param `amount`, for more than is left of it.
    """
    if dispute_id in charge.disputes or report.reference in charge.references:
        return []
    if charge.status != "succeeded" or not charge.captured:
        text = f"Charge {charge.id} has not been paid; it cannot be disputed."
        raise InvalidDisputeState(text, param="charge")
    remaining = charge.amount_disputable
    amount = remaining if report.amount is None else report.amount
    if not 1 <= amount <= remaining:
        text = (
            f"Only {format_amount(remaining, charge.currency)} of charge {charge.id} can still be disputed."
        )
        raise InvalidState(text, param="amount")
    takes_money = report.kind in ("chargeback", "compliance")
    method, brand = _get_payment_method(charge)
    eligibility = list(report.eligibility)
    if report.kind == "compliance" and not eligibility:
        eligibility = ["mastercard_compliance" if brand == "mastercard" else "visa_compliance"]
    due_by = 0 if report.kind == "prevented" else _choose_due_by(report.due_by, terms, now)
    opened = DisputeOpened(
        originator_id=dispute_id,
        originator_version=1,
        at=now,
        account=charge.account,
        livemode=charge.livemode,
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
        movement=_make_withdrawal(txn_id, amount, charge.currency, terms, now) if takes_money else None,
        reference=report.reference,
    )
    return [charge_decisions.record_dispute(charge, dispute_id, amount, report.reference, now=now), opened]


def get_test_card_disputes(charge: Charge) -> list[DisputeReport]:
    """The disputes that the test card of a paid `charge` brings about, in order; contract §3.4."""
    spec = TEST_CARDS[charge.card["token"]].dispute if charge.card and charge.captured else None
    if spec is None:
        return []
    equal_amount, remainder = divmod(charge.amount_captured, spec.dispute_count)
    return [
        DisputeReport(
            kind=spec.kind,
            reason=spec.reason,
            network_reason_code=spec.network_reason_code,
            amount=equal_amount + (remainder if part == spec.dispute_count - 1 else 0),
            eligibility=spec.eligibility,
        )
        for part in range(spec.dispute_count)
    ]


def update(
    state: Dispute, params: Mapping[str, Any], *, file_bytes: Mapping[str, int], now: int
) -> list[DomainEvent]:
    """Merges and stages `params["evidence"]`, and submits unless `params["submit"]` is False.

    Only evidence or an explicit `submit` submits; `metadata` and `intended_submission_method` may change
    in any state. `file_bytes`: size of every file named in the given and the staged evidence that exists
    and may be evidence. Raises InvalidState where the state admits no evidence, and with its
    param for evidence past its limits, for submitting none, and none of an appeal.
    """
    evidence_patch = params.get("evidence") or {}
    changes: dict[str, Any] = {}
    if "intended_submission_method" in params:
        changes["intended_submission_method"] = params["intended_submission_method"]
    if "metadata" in params:
        changes["metadata"] = merge_patch.merge_metadata(state.metadata, params["metadata"])
    changes = {name: value for name, value in changes.items() if getattr(state, name) != value}
    submit = params.get("submit")
    event_fields: dict[str, Any] = {
        "originator_id": state.id,
        "originator_version": state.version + 1,
        "at": now,
        "changes": changes,
    }
    if not evidence_patch and not submit:
        return [DisputeUpdated(**event_fields)] if changes else []
    _check_accepts_evidence(state)
    evidence_changes = evidence.compute_changes(state.evidence, evidence_patch, file_bytes)
    if submit is False:
        return (
            [EvidenceStaged(evidence=evidence_changes, **event_fields)] if evidence_changes or changes else []
        )
    after = evidence.apply_changes(state.evidence, evidence_changes)
    if not after:
        raise InvalidState("You must provide evidence before you submit it.", param="evidence")
    if state.status == "appeal_needs_response" and not evidence.has_appeal(after):
        raise InvalidState("You must provide evidence[appeal] before you submit an appeal.", param="evidence")
    past_due = 0 < state.due_by < now
    return [EvidenceSubmitted(evidence=evidence_changes, past_due=past_due, **event_fields)]


def close(state: Dispute, *, now: int) -> list[DomainEvent]:
    """The merchant gives in. Raises InvalidState unless a response to a chargeback or appeal is awaited."""
    if state.status in _CLOSED_STATUSES:
        raise InvalidState("This dispute is already closed")
    if state.status not in _CONCEDABLE_STATUSES:
        text = f"This dispute cannot be closed while its status is {state.status}."
        raise InvalidState(text)
    return [DisputeConceded(originator_id=state.id, originator_version=state.version + 1, at=now)]


def report_fact(
    state: Dispute,
    fact: str,
    reference: str | None,
    *,
    due_by: int | None,
    txn_id: str,
    terms: Terms,
    now: int,
) -> list[DomainEvent]:
    """What the network says of a dispute: `fact` is one of FACTS. `due_by` None is the terms' default.

    [] if `reference` was told before. Raises InvalidState, code `dispute_state`, for a fact that the
    state does not list, and, param `reference`, for one that stood for another fact.
    """
    known_fact = state.references.get(reference) if reference is not None else None
    if known_fact is not None and known_fact != fact:
        raise InvalidState(f"Reference '{reference}' stands for the fact {known_fact}.", param="reference")
    if known_fact is not None:
        return []
    if state.status not in _STATUSES_BY_FACT[fact]:
        text = f"Dispute {state.id} is {state.status}; the fact {fact} cannot follow."
        raise InvalidDisputeState(text)
    event_fields: dict[str, Any] = {
        "originator_id": state.id,
        "originator_version": state.version + 1,
        "at": now,
        "reference": reference,
    }
    if fact == "won":
        return [DisputeWon(movement=_make_reversal(txn_id, state, terms, now), **event_fields)]
    if fact == "lost":
        return [DisputeLost(cause="network", **event_fields)]
    if fact == "escalated":
        movement = _make_withdrawal(txn_id, state.amount, state.currency, terms, now)
        return [
            InquiryEscalated(movement=movement, due_by=_choose_due_by(due_by, terms, now), **event_fields)
        ]
    if fact == "appeal_opened":
        return [AppealOpened(due_by=_choose_due_by(due_by, terms, now), **event_fields)]
    return [InquiryClosed(cause="network", **event_fields)]


def find_pending_timeout(state: Dispute) -> tuple[str, int] | None:
    """What time will end: an `inquiry` open since then, or the wait for a `response` until then."""
    if state.status in _OPEN_INQUIRY_STATUSES:
        return "inquiry", state.created
    if state.status in _CONCEDABLE_STATUSES and state.due_by:
        return "response", state.due_by
    return None


def timeout_seconds(kind: str, terms: Terms) -> int:
    """How many seconds after the moment of `find_pending_timeout` its end comes."""
    return terms.inquiry_days * DAY_SECONDS if kind == "inquiry" else terms.due_grace_seconds + 1


def compute_deadline(state: Dispute, terms: Terms) -> int | None:
    """The first second at which `expire` acts, as things stand; None if it never does."""
    pending = find_pending_timeout(state)
    return None if pending is None else pending[1] + timeout_seconds(pending[0], terms)


def expire(state: Dispute, *, terms: Terms, now: int) -> list[DomainEvent]:
    """What time does: an unanswered dispute is lost, an old inquiry closes. [] before its
    `compute_deadline`."""
    due_at = compute_deadline(state, terms)
    if due_at is None or now < due_at:
        return []
    event_fields: dict[str, Any] = {
        "originator_id": state.id,
        "originator_version": state.version + 1,
        "at": now,
        "cause": "deadline",
        "reference": None,
    }
    return [
        InquiryClosed(**event_fields)
        if state.status in _OPEN_INQUIRY_STATUSES
        else DisputeLost(**event_fields)
    ]


def close_refunded_inquiry(state: Dispute, *, now: int) -> list[DomainEvent]:
    """The charge was fully refunded: an open inquiry closes; [] in any other status."""
    if state.status not in _OPEN_INQUIRY_STATUSES:
        return []
    return [
        InquiryClosed(
            originator_id=state.id,
            originator_version=state.version + 1,
            at=now,
            cause="refunded",
            reference=None,
        )
    ]


def get_test_outcome(state: Dispute) -> str | None:
    """The fact that follows a submission in test mode, by the exact `uncategorized_text`, contract §3.4. What
    becomes of an appeal only facts say: the text there is what was answered to the dispute."""
    text = state.evidence.get("uncategorized_text")
    if state.livemode or not isinstance(text, str):
        return None
    if state.status == "warning_under_review":
        return _TEST_INQUIRY_OUTCOMES.get(text)
    return _TEST_OUTCOMES.get(text) if state.status == "under_review" else None


def _check_accepts_evidence(state: Dispute) -> None:
    if state.status in _CLOSED_STATUSES:
        raise InvalidState("This dispute is already closed")
    if state.status not in _AWAITING_RESPONSE_STATUSES:
        text = "The evidence for this dispute has already been submitted and is under review."
        raise InvalidState(text)


def _get_payment_method(charge: Charge) -> tuple[str | None, str | None]:
    """Type of payment method and brand of card."""
    if charge.card is not None:
        return "card", charge.card["brand"]
    details = charge.payment_method_details or {}
    return details.get("type"), (details.get("card") or {}).get("brand")


def _choose_due_by(reported_due_by: int | None, terms: Terms, now: int) -> int:
    return terms.compute_due_by(now) if reported_due_by is None else reported_due_by


def _make_withdrawal(txn_id: str, amount: int, currency: str, terms: Terms, now: int) -> Movement:
    fee = terms.get_dispute_fee(currency)
    return Movement(id=txn_id, amount=-amount, fee=fee, currency=currency, created=now, available_on=now)


def _make_reversal(txn_id: str, state: Dispute, terms: Terms, now: int) -> Movement:
    """The amount comes back, and the fee that was taken with it where the terms say so."""
    withdrawal_fee = state.balance_transactions[0]["fee"]
    return Movement(
        id=txn_id,
        amount=state.amount,
        fee=-withdrawal_fee if terms.fee_credited_on_win else 0,
        currency=state.currency,
        created=now,
        available_on=now,
    )
