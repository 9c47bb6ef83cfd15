"""Reconciles streams: each event with the independent model, with what the code folds and posts, and with the
streams of the other objects that it names.

A page of whole streams is checked at a time; what its streams name is looked up in a bounded number of reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from ledger.audit.reconciliation.model import (
    LOST,
    ChargeModel,
    DisputeModel,
    Entry,
    compute_return,
    make_entry,
)
from ledger.audit.reconciliation.related import RelatedStreams
from ledger.audit.reconciliation.report import Report
from ledger.domain import charge, dispute, refund
from ledger.domain.aggregate import State
from ledger.domain.charge import Charge, ChargeDisputed, ChargeFailed, ChargeRefunded, ChargeSucceeded
from ledger.domain.dispute import Dispute, DisputeConceded, DisputeLost, DisputeOpened
from ledger.domain.postings import derive_postings, get_balance_transaction
from ledger.domain.refund import RefundCreated
from ledger.errors import UnreadableRecord
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.store.codec import Codec, UnreadableEvent, evolve_stored
from ledger.store.log import Recorded
from ledger.wire.aggregates import EVENT_CLASSES

MONEY_EVENTS = (*charge.EVENTS, *dispute.EVENTS, *refund.EVENTS)
MONEY_TOPICS = [each.TOPIC for each in MONEY_EVENTS]
OTHER_TOPICS = [each.TOPIC for each in EVENT_CLASSES if each not in MONEY_EVENTS]

_MOVEMENTS = """
SELECT ledger.movement_id(e.state), e.notification_id, e.originator_id, e.state FROM ledger.events e
WHERE ledger.movement_id(e.state) = ANY (%(ids)s::text[])
AND position('"movement":{'::bytea IN e.state) > 0 AND e.notification_id <= %(upto)s
"""
_CREATED = """
SELECT e.originator_id FROM ledger.events e
WHERE e.originator_id = ANY (%(ids)s::text[]) AND e.originator_version = 1 AND e.notification_id <= %(upto)s
AND e.topic IN ('refund.created', 'dispute.opened')
"""
_STORED = "SELECT state FROM ledger.events WHERE notification_id = %(position)s"


class StreamChecker:
    """Checks streams as of the position `upto`, on a connection in one snapshot."""

    def __init__(self, conn: Conn, codec: Codec, report: Report, upto: int) -> None:
        self._conn = conn
        self._report = report
        self._upto = upto
        self._related = RelatedStreams(conn, codec, upto)

    async def check(self, recorded: Sequence[Recorded]) -> list[Entry]:
        """Check whole streams. Returns the entries of those that can be read."""
        await self._related.load(recorded)
        entries: list[Entry] = []
        refunds: list[Recorded] = []
        for _, group in groupby(recorded, key=lambda each: each.event.originator_id):
            stream = list(group)
            if not _is_money(stream[0]):
                continue
            self._report.streams += 1
            self._report.events += len(stream)
            if (gap := self._find_unreadable(stream)) is not None:
                self._report.add_gap(*gap)
                continue
            self._check_order(stream)
            first = stream[0].event
            if isinstance(first, ChargeSucceeded | ChargeFailed):
                self._check_charge(stream)
            elif isinstance(first, DisputeOpened):
                await self._check_dispute(stream)
            elif isinstance(first, RefundCreated):
                refunds.append(stream[0])
            else:
                continue
            entries += self._collect_entries(stream)
        await self._check_named(recorded)
        await self._check_movements(entries, refunds)
        self._report.entries += len(entries)
        return entries

    def _find_unreadable(self, stream: Sequence[Recorded]) -> tuple[int, str, str] | None:
        """The first record of a stream that cannot be read or folded; None if all can."""
        state: State | None = None
        for recorded in stream:
            event = recorded.event
            try:
                if isinstance(event, UnreadableEvent):
                    raise event.error
                if event.originator_version == 1 or state is not None:
                    state = evolve_stored(state, event)
            except UnreadableRecord as error:
                return recorded.position, event.originator_id, f"cannot be read: {error.reason}"
        return None

    def _check_order(self, stream: Sequence[Recorded]) -> None:
        """Check that versions follow each other, positions grow, and all events have one owner."""
        first = stream[0]
        owner = (first.account, first.livemode)
        if not isinstance(first.event, ChargeSucceeded | ChargeFailed | DisputeOpened | RefundCreated):
            self._add(first, "first event", "the creation", first.event.TOPIC)
        elif owner != (first.event.account, first.event.livemode):
            self._add(first, "account and mode", (first.event.account, first.event.livemode), owner)
        previous = 0
        for version, recorded in enumerate(stream, 1):
            if recorded.event.originator_version != version:
                self._add(recorded, "version", version, recorded.event.originator_version)
                break
            if recorded.position <= previous:
                self._add(recorded, "position", f"after {previous}", recorded.position)
            if (recorded.account, recorded.livemode) != owner:
                self._add(recorded, "account and mode", owner, (recorded.account, recorded.livemode))
            previous = recorded.position

    def _collect_entries(self, stream: Sequence[Recorded]) -> Iterator[Entry]:
        """The entries of a stream, each compared with the postings and the balance transaction that the code
        derives."""
        state: State | None = None
        for recorded in stream:
            state = evolve_stored(state, recorded.event)
            entry = make_entry(recorded.event, recorded.position, (recorded.account, recorded.livemode))
            if entry is None:
                continue
            postings = derive_postings(recorded.event)
            if postings != entry.postings or sum(each.amount for each in postings) != 0:
                self._add(recorded, "postings", entry.postings, [tuple(each) for each in postings])
            assert isinstance(state, Charge | Dispute)
            transaction: dict[str, Any] = dict(get_balance_transaction(recorded.event, state) or {})
            expected = {
                **entry.movement, "type": entry.type, "reporting_category": entry.category,
                "source": entry.source,
            }  # fmt: skip
            found = {name: transaction.get(name) for name in expected}
            if found != expected:
                self._add(recorded, "balance transaction", expected, found)
            yield entry

    def _check_charge(self, stream: Sequence[Recorded]) -> None:
        model = ChargeModel(stream[0].event.originator_id)
        state: State | None = None
        for recorded in stream:
            self._apply(model, recorded)
            state = evolve_stored(state, recorded.event)
            self._compare(recorded, model.state, state)
            if isinstance(recorded.event, ChargeRefunded) and model.disputes:
                self._check_refund_beside_disputes(model, recorded)
        if model.captured and model.refunded == model.captured and self._related.can_read(*model.disputes):
            for other in self._related.find_disputes(model, self._upto):
                if other.status.startswith("warning_") and other.status != "warning_closed":
                    self._add(stream[-1], f"inquiry {other.id} of a refunded charge", "closed", other.status)

    def _check_refund_beside_disputes(self, model: ChargeModel, recorded: Recorded) -> None:
        if not self._related.can_read(*model.disputes):
            return
        for other in self._related.find_disputes(model, recorded.position):
            if other.held:
                self._add(recorded, f"refund while dispute {other.id} has", 0, other.held)

    async def _check_dispute(self, stream: Sequence[Recorded]) -> None:
        model = DisputeModel(stream[0].event.originator_id)
        state: State | None = None
        for recorded in stream:
            held = model.held
            self._apply(model, recorded)
            state = evolve_stored(state, recorded.event)
            self._compare(recorded, model.state, state)
            event = recorded.event
            if isinstance(event, DisputeLost | DisputeConceded):
                await self._check_loss(model, recorded, held, event)
        if not self._related.can_read(model.charge):
            return
        charge_model = self._related.find_charge(model.charge, self._upto)
        recorded_amount = None if charge_model is None else charge_model.disputes.get(model.id)
        if recorded_amount != model.amount:
            self._add(stream[-1], f"amount on charge {model.charge}", model.amount, recorded_amount)
        elif charge_model is not None and charge_model.currency != model.currency:
            self._add(stream[0], "currency of the charge", charge_model.currency, model.currency)

    async def _check_loss(
        self, model: DisputeModel, recorded: Recorded, held: int, event: DisputeLost | DisputeConceded
    ) -> None:
        """Check what a loss returned with the charge and its other disputes as they were then."""
        charge_model = self._related.find_charge(model.charge, recorded.position)
        if charge_model is None or not self._related.can_read(model.charge, *charge_model.disputes):
            return
        others = self._related.find_disputes(charge_model, recorded.position)
        held_by_lost = sum(each.held for each in others if each.id != model.id and each.status in LOST)
        expected = compute_return(charge_model, held, held_by_lost)
        found = event.movement["amount"] if event.movement else 0
        if found != expected and not await self._returned_nothing_by_rule(recorded):
            self._add(recorded, "amount that the lost dispute returns", expected, found)

    async def _returned_nothing_by_rule(self, recorded: Recorded) -> bool:
        """Whether a release recorded the loss whose losses returned nothing: version 1 of its class."""
        row = await fetch_one(self._conn, _STORED, {"position": recorded.position})
        return row is not None and msgspec.json.decode(row[0]).get("class_version", 1) == 1

    async def _check_named(self, page: Sequence[Recorded]) -> None:
        """Check that the refunds and disputes that charges name have been created."""
        named = {named_id: each for each in page if (named_id := _get_named_id(each)) is not None}
        if not named:
            return
        rows = await fetch_all(self._conn, _CREATED, {"ids": list(named), "upto": self._upto})
        for missing in sorted(named.keys() - {row[0] for row in rows}):
            self._add(named[missing], "events of the object it names", missing, "none")

    async def _check_movements(self, entries: Sequence[Entry], refunds: Sequence[Recorded]) -> None:
        """Check that each balance transaction was made once, and that each refund's movement is that of its
        charge."""
        moved = {each.event.moved["id"]: each for each in refunds if isinstance(each.event, RefundCreated)}
        ids = [*{entry.movement["id"] for entry in entries} | moved.keys()]
        rows = await fetch_all(self._conn, _MOVEMENTS, {"ids": ids, "upto": self._upto}) if ids else []
        first: dict[str, tuple[int, str, dict[str, Any]]] = {}
        for transaction, position, stream, stored in sorted(rows, key=itemgetter(1)):
            if transaction in first:
                earlier = f"at position {first[transaction][0]} only"
                self._report.add(position, stream, f"balance transaction {transaction}", expected=earlier,
                                 found="again")  # fmt: skip
            else:
                first[transaction] = (position, stream, msgspec.json.decode(stored)["movement"])
        for transaction, recorded in moved.items():
            event = recorded.event
            assert isinstance(event, RefundCreated)
            _, stream, movement = first.get(transaction, (None, None, None))
            if (stream, movement) != (event.charge, event.moved):
                self._add(recorded, f"movement on charge {event.charge}", event.moved, movement or "none")
            if event.moved["amount"] != -event.amount or event.moved["currency"] != event.currency:
                self._add(recorded, "refunded amount", event.amount, -event.moved["amount"])

    def _apply(self, model: ChargeModel | DisputeModel, recorded: Recorded) -> None:
        for what, expected, found in model.apply(recorded.event):
            self._add(recorded, what, expected, found)

    def _compare(self, recorded: Recorded, expected: dict[str, Any], state: State) -> None:
        """Compare the model with the state that the code folds."""
        for name, value in expected.items():
            if getattr(state, name) != value:
                self._add(recorded, f"folded {name}", value, getattr(state, name))

    def _add(self, recorded: Recorded, what: str, expected: object, found: object) -> None:
        self._report.add(
            recorded.position, recorded.event.originator_id, what, expected=expected, found=found
        )


def _is_money(first: Recorded) -> bool:
    """Whether a stream with this first record is one of a charge, a refund or a dispute."""
    if isinstance(first.event, UnreadableEvent):
        return first.event.first_topic in MONEY_TOPICS
    return isinstance(first.event, MONEY_EVENTS)


def _get_named_id(recorded: Recorded) -> str | None:
    """The refund or dispute that an event of a charge names."""
    match recorded.event:
        case ChargeRefunded(refund=refund_id):
            return refund_id
        case ChargeDisputed(dispute=dispute_id):
            return dispute_id
    return None
