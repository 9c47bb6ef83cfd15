"""The lines of an import that make a dispute: how it was opened, what the network reported and what the
merchant did, each at its position, because what may follow depends on what was before. Redacted evidence is
left out: an import takes neither placeholders nor files that are gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ledger.audit.importable.lines import Line
from ledger.domain import dispute
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
from ledger.domain.dispute_states import TRANSITIONS
from ledger.domain.event import DomainEvent

LinesByVersion = dict[int, list[Line]]


def make_dispute_lines(events: Iterable[DomainEvent]) -> LinesByVersion:
    """The lines of a dispute with these events, by the version that each line makes."""
    lines: LinesByVersion = {}
    state: Dispute | None = None
    staged: tuple[int, Line] | None = None  # evidence that was not submitted later
    changed: tuple[int, Line] | None = None  # what else the merchant may change; the last counts
    for event in events:
        before, state = state, dispute.evolve(state, event)
        version = event.originator_version
        lines[version] = _make_lines(event, before, state)
        if isinstance(event, EvidenceSubmitted):
            staged = None
        if isinstance(event, EvidenceStaged) and event.evidence and not event.redaction:
            staged = version, {"op": "response", "dispute": state.id, "evidence": state.evidence}
        if isinstance(event, DisputeUpdated | EvidenceStaged | EvidenceSubmitted) and _tells_change(event):
            changed = version, _make_change_line(state)
    for last in (staged, changed):
        if last is not None:
            lines[last[0]].append(last[1])
    return lines


def _tells_change(event: DisputeUpdated | EvidenceStaged | EvidenceSubmitted) -> bool:
    """Whether a change other than of evidence is known: metadata is empty once it is redacted."""
    names = set(event.changes or ())
    return bool(names - {"metadata"} if event.redaction else names)


def _make_change_line(state: Dispute) -> Line:
    line: Line = {"op": "response", "dispute": state.id, "metadata": state.metadata}
    if state.intended_submission_method is not None:
        line["intended_submission_method"] = state.intended_submission_method
    return line


def _make_lines(event: DomainEvent, before: Dispute | None, state: Dispute) -> list[Line]:
    match event:
        case DisputeOpened():
            return [_make_opening(event)]
        case EvidenceSubmitted():
            line: Line = {"op": "response", "dispute": state.id, "submission": state.submission_count}
            if event.evidence is not None:
                line["evidence"] = {} if event.redaction else state.evidence
            if event.past_due:
                line["past_due"] = True
            return [line]
        case DisputeWon():
            return [_make_fact("won", event, event.reference, created=_created(event.movement))]
        case DisputeConceded() | DisputeLost() if before is not None and "lost" not in _facts(before):
            return [{"op": "response", "dispute": state.id, "closed": True}]
        case DisputeConceded():
            return [_make_fact("lost", event, None, created=_created(event.movement))]
        case DisputeLost():
            return [_make_fact("lost", event, event.reference, created=_created(event.movement))]
        case InquiryEscalated(movement=movement):
            return [
                _make_fact(
                    "escalated",
                    event,
                    event.reference,
                    amount=-movement["amount"],
                    created=movement["created"],
                    due_by=event.due_by,
                )
            ]
        case InquiryClosed(cause=cause) if cause != "refunded":  # that follows from the refund
            return [_make_fact("inquiry_closed", event, event.reference)]
        case AppealOpened():
            return [_make_fact("appeal_opened", event, event.reference, due_by=event.due_by)]
    return []


def _facts(state: Dispute) -> Iterable[str]:
    return TRANSITIONS[state.status]


def _make_opening(event: DisputeOpened) -> Line:
    line: Line = {
        "op": "dispute",
        "id": event.originator_id,
        "charge": event.charge,
        "kind": event.kind,
        "reason": event.reason,
        "network_reason_code": event.network_reason_code,
        "amount": event.amount,
        "created": event.created,
        "due_by": event.due_by or None,
        "reference": event.reference,
    }
    if event.kind == "compliance":  # the reason follows from the kind
        del line["reason"]
    return {name: value for name, value in line.items() if value is not None}


def _make_fact(fact: str, event: DomainEvent, reference: str | None, **members: Any) -> Line:
    """A fact. One that the network did not report has no reference: it gets one of its version."""
    line = {"op": "fact", "dispute": event.originator_id, "fact": fact}
    line["reference"] = reference if reference is not None else f"export:{event.originator_version}"
    return line | {name: value for name, value in members.items() if value is not None}


def _created(movement: Any) -> int | None:
    return movement["created"] if movement is not None else None
