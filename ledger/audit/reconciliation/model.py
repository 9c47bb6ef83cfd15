"""An independent model of the money: what charges, refunds and disputes must be, by their events alone.

It shares no rule with the code that decided or folded the events: amounts, fees and statuses are recomputed
here from what each event says. `apply` takes one event and returns what is wrong with it. Fees are settings
of the time of the event, so only their sign and their return are known. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ledger.domain.charge import (
    ChargeCaptured,
    ChargeDisputed,
    ChargeExpired,
    ChargeFailed,
    ChargeRefunded,
    ChargeReleased,
    ChargeSucceeded,
)
from ledger.domain.dispute import (
    AppealOpened,
    DisputeConceded,
    DisputeLost,
    DisputeOpened,
    DisputeWon,
    EvidenceSubmitted,
    InquiryClosed,
    InquiryEscalated,
)
from ledger.domain.event import DomainEvent
from ledger.domain.money import Movement

_RESPONSES = {
    "needs_response": "under_review",
    "warning_needs_response": "warning_under_review",
    "appeal_needs_response": "appeal_under_review",
}
_INQUIRY = frozenset({"warning_needs_response", "warning_under_review"})
_APPEAL = frozenset({"appeal_needs_response", "appeal_under_review"})
_OPEN = frozenset({"needs_response", "under_review"})
LOST = frozenset({"lost"}) | _APPEAL
# The statuses that each event may follow, and the one that it leads to; a response depends on the status.
_STEPS: dict[type[DomainEvent], tuple[frozenset[str], str]] = {
    EvidenceSubmitted: (frozenset(_RESPONSES), ""),
    DisputeConceded: (frozenset({"needs_response", "appeal_needs_response"}), "lost"),
    DisputeLost: (_OPEN | _APPEAL, "lost"),
    DisputeWon: (_OPEN | {"appeal_under_review"}, "won"),
    InquiryEscalated: (_INQUIRY, "needs_response"),
    InquiryClosed: (_INQUIRY, "warning_closed"),
    AppealOpened: (frozenset({"lost"}), "appeal_needs_response"),
}
_FIRST_STATUSES = {
    "chargeback": "needs_response",
    "compliance": "needs_response",
    "inquiry": "warning_needs_response",
    "prevented": "prevented",
}


class Problem(NamedTuple):
    """What is wrong, and the two values."""

    what: str
    expected: object
    found: object


class Entry(NamedTuple):
    """The money that one event moved, and so its balance transaction and its postings."""

    position: int
    stream: str
    account: str
    livemode: bool
    movement: Movement
    type: str
    category: str
    source: str

    @property
    def net(self) -> int:
        """What it changes in the merchant's balance, in minor units."""
        return self.movement["amount"] - self.movement["fee"]

    @property
    def postings(self) -> list[tuple[str, str, int]]:
        """Ledger account, currency and amount of each side; a debit is positive."""
        currency = self.movement["currency"]
        fee_account = "dispute_fees" if self.type == "adjustment" else "processing_fees"
        sides = (
            ("network", currency, self.movement["amount"]),
            ("merchant_balance", currency, -self.net),
            (fee_account, currency, -self.movement["fee"]),
        )
        return [side for side in sides if side[2] != 0]


@dataclass
class ChargeModel:
    """A charge as its events say. Amounts are in minor units; `refunds` and `disputes` by id."""

    id: str
    currency: str = ""
    authorized: int = 0
    captured: int = 0
    refunds: dict[str, int] = field(default_factory=dict)
    disputes: dict[str, int] = field(default_factory=dict)
    is_failed: bool = False
    is_given_up: bool = False
    is_expired: bool = False

    @property
    def refunded(self) -> int:
        """The sum of its refunds."""
        return sum(self.refunds.values())

    @property
    def state(self) -> dict[str, Any]:
        """What the folded charge must have, by attribute."""
        return {
            "amount_captured": self.captured,
            # An authorization that expired is shown as refunded.
            "amount_refunded": self.authorized if self.is_expired else self.refunded,
            "refunds": self.refunds,
            "disputes": self.disputes,
            "status": "failed" if self.is_failed else "succeeded",
        }

    def apply(self, event: DomainEvent) -> Iterator[Problem]:
        """The charge after `event`; what is wrong with the event."""
        match event:
            case ChargeSucceeded() | ChargeFailed():
                self.currency, self.authorized = event.currency, event.amount
                self.is_failed = isinstance(event, ChargeFailed)
                if isinstance(event, ChargeSucceeded) and event.movement is not None:
                    yield from self._capture(event.movement, must_be=event.amount)
            case ChargeCaptured(movement=movement):
                if self.is_failed or self.is_given_up or self.captured:
                    yield Problem("capture", "a charge that awaits its capture", "another charge")
                yield from self._capture(movement, must_be=None)
            case ChargeRefunded(movement=movement, refund=refund):
                yield from self._refund(refund, movement)
            case ChargeDisputed(dispute=dispute, amount=amount):
                self.disputes[dispute] = amount
                total = sum(self.disputes.values())
                if amount < 1 or total > self.captured:
                    yield Problem("disputed amount", f"at most {self.captured}", total)
            case ChargeExpired() | ChargeReleased():
                if self.captured or self.is_failed:
                    yield Problem("authorization", "a charge that awaits its capture", "another charge")
                self.is_given_up, self.is_expired = True, isinstance(event, ChargeExpired)

    def _capture(self, movement: Movement, must_be: int | None) -> Iterator[Problem]:
        amount, fee = movement["amount"], movement["fee"]
        if must_be is not None and amount != must_be:
            yield Problem("captured amount", must_be, amount)
        elif not 1 <= amount <= self.authorized:
            yield Problem("captured amount", f"1 to {self.authorized}", amount)
        if fee < 0:
            yield Problem("processing fee", "0 or more", fee)
        yield from _check_currency(movement, self.currency)
        self.captured = amount

    def _refund(self, refund: str, movement: Movement) -> Iterator[Problem]:
        if refund in self.refunds:
            yield Problem("refund", "each refund once", refund)
        self.refunds[refund] = -movement["amount"]
        if movement["amount"] >= 0:
            yield Problem("refunded amount", "less than 0", movement["amount"])
        if self.refunded > self.captured:
            yield Problem("refunded amount", f"at most {self.captured}", self.refunded)
        if movement["fee"]:
            yield Problem("fee of a refund", 0, movement["fee"])
        yield from _check_currency(movement, self.currency)


@dataclass
class DisputeModel:
    """A dispute as its events say. `held` is what it has of the charge's money, `fee` that of its withdrawal,
    in minor units."""

    id: str
    charge: str = ""
    currency: str = ""
    status: str = ""
    amount: int = 0
    held: int = 0
    fee: int = 0
    fees_kept: int = 0
    movement_count: int = 0

    @property
    def state(self) -> dict[str, Any]:
        """What the folded dispute must have, by attribute."""
        return {
            "status": self.status,
            "charge": self.charge,
            "amount": self.amount,
            "amount_withdrawn": self.held,
        }

    def apply(self, event: DomainEvent) -> Iterator[Problem]:
        """The dispute after `event`; what is wrong with the event."""
        if isinstance(event, DisputeOpened):
            self.charge, self.currency, self.amount = event.charge, event.currency, event.amount
            self.status = _FIRST_STATUSES.get(event.kind, "")
            takes_money = event.kind in ("chargeback", "compliance")
            if takes_money != (event.movement is not None):
                expected = "a withdrawal" if takes_money else "no movement"
                yield Problem(f"movement of a {event.kind}", expected, "the contrary")
            if event.movement is not None:
                yield from self._withdraw(event.movement, must_be=event.amount)
        elif type(event) in _STEPS:
            yield from self._step(event)
        yield from self._check_held()

    def _step(self, event: DomainEvent) -> Iterator[Problem]:
        before, after = _STEPS[type(event)]
        if self.status not in before:
            yield Problem(f"status before {event.TOPIC}", " or ".join(sorted(before)), self.status)
        match event:
            case EvidenceSubmitted():
                after = _RESPONSES.get(self.status, self.status)
            case InquiryEscalated(movement=movement):
                yield from self._withdraw(movement, must_be=None)
            case DisputeWon(movement=movement):
                yield from self._return(movement, what="won", must_be=self.held)
            case DisputeLost(movement=movement) | DisputeConceded(movement=movement):
                yield from self._return(movement, what="lost", must_be=None)
        self.status = after

    def _withdraw(self, movement: Movement, must_be: int | None) -> Iterator[Problem]:
        withdrawn = -movement["amount"]
        if must_be is not None and withdrawn != must_be:
            yield Problem("withdrawn amount", must_be, withdrawn)
        elif withdrawn < 1:
            yield Problem("withdrawn amount", "1 or more", withdrawn)
        if movement["fee"] < 0:
            yield Problem("dispute fee", "0 or more", movement["fee"])
        yield from _check_currency(movement, self.currency)
        self.amount, self.fee = withdrawn if must_be is None else must_be, movement["fee"]
        self.held += withdrawn
        self.fees_kept += movement["fee"]
        self.movement_count += 1

    def _return(self, movement: Movement | None, *, what: str, must_be: int | None) -> Iterator[Problem]:
        """A reversal of all (`must_be`) or, None, of some part of what the dispute holds."""
        amount, fee = (0, 0) if movement is None else (movement["amount"], movement["fee"])
        if must_be is not None and amount != must_be:
            yield Problem(f"amount that the {what} dispute returns", must_be, amount)
        elif not 0 <= amount <= self.held:
            yield Problem(f"amount that the {what} dispute returns", f"0 to {self.held}", amount)
        allowed = (0, -self.fee) if what == "won" else (0,)
        if fee not in allowed:
            yield Problem(
                f"fee that the {what} dispute returns", " or ".join(map(str, sorted(set(allowed)))), fee
            )
        if movement is not None:
            yield from _check_currency(movement, self.currency)
            self.movement_count += 1
        self.held -= amount
        self.fees_kept += fee

    def _check_held(self) -> Iterator[Problem]:
        """Whether the dispute holds what its status says."""
        if self.status in _OPEN:
            expected = self.amount
        elif self.status in LOST:
            return
        else:
            expected = 0
        if self.held != expected:
            yield Problem(f"amount held while {self.status}", expected, self.held)


def make_entry(event: DomainEvent, position: int, owner: tuple[str, bool]) -> Entry | None:
    """The money that the event moved; None if it moved none. `owner`: account and mode."""
    movement: Movement | None = getattr(event, "movement", None)
    if movement is None:
        return None
    kind, category, source = "adjustment", "dispute_reversal", event.originator_id
    if isinstance(event, ChargeRefunded):
        kind, category, source = "refund", "refund", event.refund
    elif isinstance(event, ChargeSucceeded | ChargeCaptured):
        kind, category = "charge", "charge"
    elif isinstance(event, DisputeOpened | InquiryEscalated):
        category = "dispute"
    return Entry(position, event.originator_id, *owner, movement, kind, category, source)


def compute_return(charge: ChargeModel, held: int, held_by_lost: int) -> int:
    """What a dispute that holds `held` returns when it is lost: by how much the refunds of the charge, what
    its other lost disputes hold, and this would together exceed what was captured."""
    return min(max(charge.refunded + held_by_lost + held - charge.captured, 0), held)


def _check_currency(movement: Movement, currency: str) -> Iterator[Problem]:
    if movement["currency"] != currency:
        yield Problem("currency of the movement", currency, movement["currency"])
    if movement["available_on"] < movement["created"]:
        yield Problem("available_on", f"{movement['created']} or later", movement["available_on"])
