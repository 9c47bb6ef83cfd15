"""The answers to the questions of docs/analysis.md, computed from what the public API shows."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby, islice
from typing import Any

from ledger.domain.money import DAY_SECONDS, get_decimal_places
from tests.analysis.business import HOOKS, Business
from tests.webhooks.receiver import Receiver

OPEN = {"needs_response", "under_review", "warning_needs_response", "warning_under_review"}


class Answers:
    """What the API shows of a business, and for each question the rows that follow from it."""

    def __init__(self, business: Business, receiver: Receiver, now: float) -> None:
        client = business.client
        self.business, self.receiver, self.now = business, receiver, now
        self.charges = list(client.v1.charges.list({"limit": 100}).auto_paging_iter())
        self.refunds = list(client.v1.refunds.list({"limit": 100}).auto_paging_iter())
        self.disputes = list(client.v1.disputes.list({"limit": 100}).auto_paging_iter())
        self.events = list(client.v1.events.list({"limit": 100}).auto_paging_iter())
        transactions = client.v1.balance_transactions.list({"limit": 100})
        self.transactions = list(transactions.auto_paging_iter())
        self.balance = client.v1.balance.retrieve()
        self.customers = {charge.id: charge.customer for charge in self.charges}

    def volume(self) -> list[Any]:
        """Question 1."""
        charged: Counter[tuple[str, str]] = Counter()
        refunded: Counter[tuple[str, str]] = Counter()
        for charge in self.charges:
            if charge.captured:
                charged[_month(charge), charge.currency] += charge.amount_captured
        for refund in self.refunds:
            refunded[_month(refund), refund.currency] += refund.amount
        return [
            (*key, charged[key], refunded[key], net, to_major(net, key[1]))
            for key in sorted(charged.keys() | refunded.keys())
            for net in [charged[key] - refunded[key]]
        ]

    def dispute_rate(self) -> list[Any]:
        """Question 2."""
        month_by_charge = {charge.id: _month(charge) for charge in self.charges if charge.captured}
        charges = Counter(month_by_charge.values())
        disputed = defaultdict(set)
        for dispute in self._chargebacks():
            disputed[month_by_charge[dispute.charge], dispute.reason].add(dispute.charge)
        return [
            (month, reason, len(ids), charges[month], _percent(len(ids), charges[month], 2))
            for (month, reason), ids in sorted(disputed.items())
        ]

    def win_rate(self) -> list[Any]:
        """Question 3."""
        rows = []
        for currency, disputes in _group(self._decided(), lambda dispute: dispute.currency):
            won = sum(dispute.status == "won" for dispute in disputes)
            answered = [hours for dispute in disputes for hours in self._hours_to_evidence(dispute)]
            to_evidence = statistics.median(answered) if answered else None
            to_decision = statistics.median(map(self._hours_to_decision, disputes))
            percent = _percent(won, len(disputes), 1)
            rows.append((currency, won, len(disputes), percent, to_evidence, to_decision))
        return rows

    def held(self) -> list[Any]:
        """Question 4."""
        return [
            (currency, len(disputes), held, to_major(held, currency))
            for currency, disputes in _group(self._open(), lambda dispute: dispute.currency)
            for held in [-sum(moved.amount for dispute in disputes for moved in dispute.balance_transactions)]
        ]

    def due(self) -> list[Any]:
        """Question 5."""
        rows = [
            (dispute.id, dispute.charge, dispute.reason, dispute.currency, dispute.amount, _moment(due_by))
            for dispute in self.disputes
            if dispute.status.endswith("needs_response")
            for due_by in [dispute.evidence_details.due_by]
            if due_by is not None and self.now <= due_by <= self.now + 7 * DAY_SECONDS
        ]
        return sorted(rows, key=lambda row: (row[-1], row[0]))

    def top_customers(self) -> list[Any]:
        """Question 6."""
        of_customers = [dispute for dispute in self._chargebacks() if self.customers[dispute.charge]]
        rows = []
        for currency, disputes in _group(of_customers, lambda dispute: dispute.currency):
            by_customer = [
                (
                    customer,
                    len(each),
                    sum(dispute.amount for dispute in each),
                    sum(dispute.status == "lost" for dispute in each),
                )
                for customer, each in _group(disputes, lambda dispute: self.customers[dispute.charge])
            ]
            by_customer.sort(key=lambda row: (-row[2], row[0]))
            rows += [(currency, rank, *row) for rank, row in enumerate(by_customer[:10], 1)]
        return rows

    def fees(self) -> list[Any]:
        """Question 9."""
        rows = []
        for (month, currency), transactions in _group(
            self.transactions, lambda transaction: (_month(transaction), transaction.currency)
        ):
            by_type: dict[str, Any] = {}
            for transaction in transactions:
                by_type[transaction.type] = by_type.get(transaction.type, 0) + transaction.fee
            if any(transaction.fee for transaction in transactions):
                rows.append((month, currency, by_type.get("charge"), by_type.get("adjustment")))
        return rows

    def balances(self) -> list[Any]:
        """Question 10."""
        available = Counter({entry.currency: entry.amount for entry in self.balance.available})
        pending = Counter({entry.currency: entry.amount for entry in self.balance.pending})
        return [
            (currency, available[currency] + pending[currency], available[currency], pending[currency])
            for currency in sorted(available.keys() | pending.keys())
        ]

    def books(self) -> list[Any]:
        """Question 11."""
        rows = []
        for currency, transactions in _group(self.transactions, lambda transaction: transaction.currency):
            sides = [
                side
                for transaction in transactions
                for side in (transaction.amount, transaction.fee - transaction.amount, -transaction.fee)
            ]
            rows.append((currency, len(transactions), sum(side for side in sides if side > 0), 0))
        return rows

    def events_a_day(self) -> list[Any]:
        """Question 12."""
        counts = Counter((_moment(event.created).date(), event.type) for event in self.events)
        return [(*day_and_type, count) for day_and_type, count in sorted(counts.items())]

    def deliveries(self) -> list[Any]:
        """Question 14."""
        rows = []
        days = {event.id: _moment(event.created).date() for event in self.events}
        for path in HOOKS:
            received = [json.loads(request.body)["id"] for request in self.receiver.requests_to(path)]
            for day in sorted({days[event] for event in received}):
                attempts = Counter(event for event in received if days[event] == day)
                at_first = sum(count == 1 for count in attempts.values())
                rows.append((day, self.business.endpoints[path], len(attempts), len(attempts), at_first, 0))
        return sorted(rows)

    def brands(self) -> list[Any]:
        """Question 15."""
        return [
            (
                *brand_and_currency,
                len(disputes),
                sum(dispute.status == "won" for dispute in disputes),
                sum(dispute.status == "lost" for dispute in disputes),
                sum(dispute.status in OPEN for dispute in disputes),
            )
            for brand_and_currency, disputes in _group(
                self.disputes, lambda dispute: (dispute.payment_method_details.card.brand, dispute.currency)
            )
        ]

    def events_of(self, object_id: str) -> Iterator[Any]:
        """The Events about an object, oldest first."""
        return (event for event in self.events[::-1] if event.data.object["id"] == object_id)

    def _chargebacks(self) -> list[Any]:
        others = ("warning", "prevented")
        return [dispute for dispute in self.disputes if not dispute.status.startswith(others)]

    def _open(self) -> list[Any]:
        return [dispute for dispute in self.disputes if dispute.status in OPEN]

    def _decided(self) -> list[Any]:
        return [dispute for dispute in self.disputes if dispute.status in ("won", "lost")]

    def _hours_to_evidence(self, dispute: Any) -> list[float]:
        """From the opening to the first submission; [] if there was none."""
        submissions = (
            event for event in self.events_of(dispute.id) if event.data.object["status"] == "under_review"
        )
        return [(event.created - dispute.created) / 3600 for event in islice(submissions, 1)]

    def _hours_to_decision(self, dispute: Any) -> float:
        (closed,) = (each for each in self.events_of(dispute.id) if each.type == "charge.dispute.closed")
        decided_at = dispute.balance_transactions[-1].created if dispute.status == "won" else closed.created
        return float(decided_at - dispute.created) / 3600


def to_major(amount: int, currency: str) -> Decimal:
    """The amount as people write it."""
    return Decimal(amount).scaleb(-get_decimal_places(currency))


def _percent(part: int, whole: int, places: int) -> Decimal:
    return round(Decimal(100) * part / whole, places)


def _month(shown: Any) -> str:
    return _moment(shown.created).strftime("%Y-%m")


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _group(shown: list[Any], key: Callable[[Any], Any]) -> list[tuple[Any, list[Any]]]:
    return [(value, list(members)) for value, members in groupby(sorted(shown, key=key), key)]
