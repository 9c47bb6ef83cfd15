"""What may happen to a dispute: the state machine of contract 3.2.

Commands are the merchant's (`update`, `close`); facts are the network's (`open_dispute`, `report_fact`);
`expire` is the clock's and `charge_refunded` the charge's. Whatever the table does not list is refused
with StateForbids, code `dispute_state` for facts. The same reference again decides nothing, so a fact
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
from ledger.errors import FactForbidden, StateForbids

KINDS = ("chargeback", "inquiry", "compliance", "prevented")
REASONS = (
    "bank_cannot_process", "check_returned", "credit_not_processed", "customer_initiated",
    "debit_not_authorized", "duplicate", "fraudulent", "general", "incorrect_account_details",
    "insufficient_funds", "noncompliant", "product_not_received", "product_unacceptable",
    "subscription_canceled", "unrecognized",
)  # fmt: skip
_OPEN_INQUIRY = frozenset({"warning_needs_response", "warning_under_review"})
_AWAITING = frozenset({"needs_response", "warning_needs_response", "appeal_needs_response"})
_CONCEDABLE = frozenset({"needs_response", "appeal_needs_response"})
_CONTESTED = frozenset({"needs_response", "under_review"})
_CLOSED = frozenset({"won", "lost", "warning_closed", "prevented"})
_FACTS: dict[str, frozenset[str]] = {
    "won": _CONTESTED | {"appeal_under_review"},
    "lost": _CONTESTED | {"appeal_under_review"},
    "escalated": _OPEN_INQUIRY,
    "inquiry_closed": _OPEN_INQUIRY,
    "appeal_opened": frozenset({"lost"}),
    "prevented": frozenset(),  # a dispute is prevented from the start or never
}
FACTS = tuple(_FACTS)
_TEST_OUTCOMES = {"winning_evidence": "won", "losing_evidence": "lost"}
_TEST_INQUIRY_OUTCOMES = {
    "winning_evidence": "inquiry_closed",
    "losing_evidence": "inquiry_closed",
    "escalate_inquiry_evidence": "escalated",
}


@dataclass(frozen=True, kw_only=True)
class Opening:
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
    charge: Charge, opening: Opening, *, dispute_id: str, txn_id: str, terms: Terms, now: int
) -> list[DomainEvent]:
    """ChargeDisputed on the charge's stream and DisputeOpened on the dispute's, to be appended together.

    [] if the charge knows the id or the reference: `charge.references` names that dispute. Raises
    StateForbids unless the charge is paid, and, param `amount`, for more than is left of it.
    """
    if dispute_id in charge.disputes or opening.reference in charge.references:
        return []
    if charge.status != "succeeded" or not charge.captured:
        text = f"Charge {charge.id} has not been paid; it cannot be disputed."
        raise FactForbidden(text, param="charge")
    left = charge.amount_disputable
    amount = left if opening.amount is None else opening.amount
    if not 1 <= amount <= left:
        text = f"Only {format_amount(left, charge.currency)} of charge {charge.id} can still be disputed."
        raise StateForbids(text, param="amount")
    withdraws = opening.kind in ("chargeback", "compliance")
    method, brand = _payment_method(charge)
    eligibility = list(opening.eligibility)
    if opening.kind == "compliance" and not eligibility:
        eligibility = ["mastercard_compliance" if brand == "mastercard" else "visa_compliance"]
    due_by = 0 if opening.kind == "prevented" else _due_by(opening.due_by, terms, now)
    opened = DisputeOpened(
        originator_id=dispute_id,
        originator_version=1,
        at=now,
        account=charge.account,
        livemode=charge.livemode,
        charge=charge.id,
        customer=charge.customer,
        payment_intent=charge.payment_intent,
        kind=opening.kind,
        amount=amount,
        currency=charge.currency,
        reason="noncompliant" if opening.kind == "compliance" else opening.reason,
        network_reason_code=opening.network_reason_code,
        method=method,
        brand=brand,
        eligibility=eligibility,
        due_by=due_by,
        movement=_withdrawal(txn_id, amount, charge.currency, terms, now) if withdraws else None,
        reference=opening.reference,
    )
    return [charge_decisions.dispute_opened(charge, dispute_id, amount, opening.reference, now=now), opened]


def test_openings(charge: Charge) -> list[Opening]:
    """The disputes that the test card of a paid `charge` brings about, in order; contract 3.4."""
    spec = TEST_CARDS[charge.card["token"]].dispute if charge.card and charge.captured else None
    if spec is None:
        return []
    share, rest = divmod(charge.amount_captured, spec.parts)
    return [
        Opening(
            kind=spec.kind,
            reason=spec.reason,
            network_reason_code=spec.network_reason_code,
            amount=share + (rest if part == spec.parts - 1 else 0),
            eligibility=spec.eligibility,
        )
        for part in range(spec.parts)
    ]


def update(
    state: Dispute, given: Mapping[str, Any], *, file_bytes: Mapping[str, int], now: int
) -> list[DomainEvent]:
    """Merges and stages `given["evidence"]`, and submits unless `given["submit"]` is False.

    Only evidence or an explicit `submit` submits; `metadata` and `intended_submission_method` may change
    in any state. `file_bytes`: size of every file named in the given and the staged evidence that exists
    and may be evidence. Raises StateForbids where the state admits no evidence, and with its
    param for evidence past its limits, for submitting none, and none of an appeal.
    """
    given_evidence = given.get("evidence") or {}
    changes: dict[str, Any] = {}
    if "intended_submission_method" in given:
        changes["intended_submission_method"] = given["intended_submission_method"]
    if "metadata" in given:
        changes["metadata"] = merge_patch.merged(state.metadata, given["metadata"])
    changes = {name: value for name, value in changes.items() if getattr(state, name) != value}
    submit = given.get("submit")
    stream: dict[str, Any] = {
        "originator_id": state.id,
        "originator_version": state.version + 1,
        "at": now,
        "changes": changes,
    }
    if not given_evidence and not submit:
        return [DisputeUpdated(**stream)] if changes else []
    _check_takes_evidence(state)
    changed = evidence.changes(state.evidence, given_evidence, file_bytes)
    if submit is False:
        return [EvidenceStaged(evidence=changed, **stream)] if changed or changes else []
    after = evidence.merged(state.evidence, changed)
    if not after:
        raise StateForbids("You must provide evidence before you submit it.", param="evidence")
    if state.status == "appeal_needs_response" and not evidence.appeals(after):
        raise StateForbids("You must provide evidence[appeal] before you submit an appeal.", param="evidence")
    past_due = 0 < state.due_by < now
    return [EvidenceSubmitted(evidence=changed, past_due=past_due, **stream)]


def close(state: Dispute, *, now: int) -> list[DomainEvent]:
    """The merchant gives in. Raises StateForbids unless a response to a chargeback or appeal is awaited."""
    if state.status in _CLOSED:
        raise StateForbids("This dispute is already closed")
    if state.status not in _CONCEDABLE:
        text = f"This dispute cannot be closed while its status is {state.status}."
        raise StateForbids(text)
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

    [] if `reference` was told before. Raises StateForbids, code `dispute_state`, for a fact that the
    state does not list, and, param `reference`, for one that stood for another fact.
    """
    told = state.references.get(reference) if reference is not None else None
    if told is not None and told != fact:
        raise StateForbids(f"Reference '{reference}' stands for the fact {told}.", param="reference")
    if told is not None:
        return []
    if state.status not in _FACTS[fact]:
        text = f"Dispute {state.id} is {state.status}; the fact {fact} cannot follow."
        raise FactForbidden(text)
    stream: dict[str, Any] = {
        "originator_id": state.id,
        "originator_version": state.version + 1,
        "at": now,
        "reference": reference,
    }
    if fact == "won":
        return [DisputeWon(movement=_reversal(txn_id, state, terms, now), **stream)]
    if fact == "lost":
        return [DisputeLost(cause="network", **stream)]
    if fact == "escalated":
        movement = _withdrawal(txn_id, state.amount, state.currency, terms, now)
        return [InquiryEscalated(movement=movement, due_by=_due_by(due_by, terms, now), **stream)]
    if fact == "appeal_opened":
        return [AppealOpened(due_by=_due_by(due_by, terms, now), **stream)]
    return [InquiryClosed(cause="network", **stream)]


def waiting(state: Dispute) -> tuple[str, int] | None:
    """What time will end: an `inquiry` open since then, or the wait for a `response` until then."""
    if state.status in _OPEN_INQUIRY:
        return "inquiry", state.created
    if state.status in _CONCEDABLE and state.due_by:
        return "response", state.due_by
    return None


def patience(kind: str, terms: Terms) -> int:
    """How many seconds after the moment of `waiting` its end comes."""
    return terms.inquiry_days * DAY_SECONDS if kind == "inquiry" else terms.due_grace_seconds + 1


def deadline(state: Dispute, terms: Terms) -> int | None:
    """The first second at which `expire` acts, as things stand; None if it never does."""
    waits = waiting(state)
    return None if waits is None else waits[1] + patience(waits[0], terms)


def expire(state: Dispute, *, terms: Terms, now: int) -> list[DomainEvent]:
    """What time does: an unanswered dispute is lost, an old inquiry closes. [] before its `deadline`."""
    moment = deadline(state, terms)
    if moment is None or now < moment:
        return []
    stream: dict[str, Any] = {
        "originator_id": state.id,
        "originator_version": state.version + 1,
        "at": now,
        "cause": "deadline",
        "reference": None,
    }
    return [InquiryClosed(**stream) if state.status in _OPEN_INQUIRY else DisputeLost(**stream)]


def charge_refunded(state: Dispute, *, now: int) -> list[DomainEvent]:
    """The charge was fully refunded: an open inquiry closes; [] in any other status."""
    if state.status not in _OPEN_INQUIRY:
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


def test_outcome(state: Dispute) -> str | None:
    """The fact that follows a submission in test mode, by the exact `uncategorized_text` (contract 3.4). What
    becomes of an appeal only facts say: the text there is what was answered to the dispute."""
    text = state.evidence.get("uncategorized_text")
    if state.livemode or not isinstance(text, str):
        return None
    if state.status == "warning_under_review":
        return _TEST_INQUIRY_OUTCOMES.get(text)
    return _TEST_OUTCOMES.get(text) if state.status == "under_review" else None


def _check_takes_evidence(state: Dispute) -> None:
    if state.status in _CLOSED:
        raise StateForbids("This dispute is already closed")
    if state.status not in _AWAITING:
        text = "The evidence for this dispute has already been submitted and is under review."
        raise StateForbids(text)


def _payment_method(charge: Charge) -> tuple[str | None, str | None]:
    """Type of payment method and brand of card."""
    if charge.card is not None:
        return "card", charge.card["brand"]
    details = charge.payment_method_details or {}
    return details.get("type"), (details.get("card") or {}).get("brand")


def _due_by(reported: int | None, terms: Terms, now: int) -> int:
    return terms.due_by(now) if reported is None else reported


def _withdrawal(txn_id: str, amount: int, currency: str, terms: Terms, now: int) -> Movement:
    fee = terms.dispute_fee(currency)
    return Movement(id=txn_id, amount=-amount, fee=fee, currency=currency, created=now, available_on=now)


def _reversal(txn_id: str, state: Dispute, terms: Terms, now: int) -> Movement:
    """The amount comes back, and the fee that was taken with it where the terms say so."""
    taken = state.balance_transactions[0]["fee"]
    return Movement(
        id=txn_id,
        amount=state.amount,
        fee=-taken if terms.fee_credited_on_win else 0,
        currency=state.currency,
        created=now,
        available_on=now,
    )
