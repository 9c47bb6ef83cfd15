"""Decisions on what a merchant did about a dispute in another system: evidence, its submission, the end.

A report has the whole evidence, not a change to it, and the number of the submission: so the same report
again changes nothing, whatever has happened to the dispute since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ledger.domain import evidence, merge_patch
from ledger.domain.aggregate import next_header
from ledger.domain.dispute import Dispute, DisputeUpdated, EvidenceStaged, EvidenceSubmitted
from ledger.domain.dispute_states import TRANSITIONS
from ledger.domain.event import DomainEvent
from ledger.domain.redaction.rules import redact_evidence, redact_metadata
from ledger.errors import InvalidDisputeState


@dataclass(frozen=True, kw_only=True)
class ResponseReport:
    """What the merchant did.

    evidence    the whole evidence after it; None if it is not reported
    submission  which submission this is, 1 for the first; None if the evidence is only staged
    past_due    whether it was submitted after the due date
    """

    evidence: Mapping[str, Any] | None = None
    submission: int | None = None
    past_due: bool = False
    metadata: Mapping[str, str] | None = None
    intended_submission_method: str | None = None

    def redact(self) -> ResponseReport:
        """What stays of the report once its personal data is erased, to compare it with what was recorded."""
        evidence, metadata = redact_evidence(self.evidence), redact_metadata(self.metadata)
        return replace(self, evidence=evidence, metadata=metadata)


def report_response(
    state: Dispute, report: ResponseReport, *, file_bytes: Mapping[str, int], now: int
) -> list[DomainEvent]:
    """Records a response. Returns [] for one that is known. `file_bytes` as for `dispute_decisions.update`.

    Raises InvalidDisputeState if the status does not allow it, InvalidState and UnknownReference for evidence
    beyond its limits and a file that is none, InvalidParameter for metadata beyond its limits.
    """
    changes = _find_changes(state, report)
    header = next_header(state, now)
    is_known = report.submission is not None and report.submission <= state.submission_count
    patch = {} if is_known else _make_patch(state, report.evidence)
    if is_known or (report.submission is None and not patch):
        return [DisputeUpdated(**header, changes=changes)] if changes else []
    if "submit" not in TRANSITIONS[state.status]:
        text = f"Dispute {state.id} has the status {state.status}, in which it takes no evidence."
        raise InvalidDisputeState(text, param="evidence" if report.submission is None else "submission")
    evidence.compute_changes(state.evidence, patch, file_bytes)  # raises beyond its limits
    if report.submission is None:
        return [EvidenceStaged(**header, evidence=patch, changes=changes)]
    if report.submission > state.submission_count + 1:
        text = f"Dispute {state.id} has {state.submission_count} submissions: report the next one first."
        raise InvalidDisputeState(text, param="submission")
    return [EvidenceSubmitted(**header, evidence=patch, changes=changes, past_due=report.past_due)]


def find_submitted_evidence(events: Iterable[DomainEvent], submission: int) -> dict[str, Any] | None:
    """The whole evidence after a submission that is known; None if some of it was erased since."""
    known: dict[str, Any] = {}
    count = 0
    for event in events:
        if isinstance(event, EvidenceStaged | EvidenceSubmitted):
            if event.evidence is None:
                return None
            known = evidence.apply_changes(known, event.evidence)
            count += isinstance(event, EvidenceSubmitted)
            if count == submission:
                break
    return known


def _make_patch(state: Dispute, reported: Mapping[str, Any] | None) -> dict[str, Any]:
    """The members of the evidence that are other than in `state`; None for one that it has no more."""
    if reported is None:
        return {}
    names = dict.fromkeys([*state.evidence, *reported])
    return {name: reported.get(name) for name in names if state.evidence.get(name) != reported.get(name)}


def _find_changes(state: Dispute, report: ResponseReport) -> dict[str, Any]:
    after: dict[str, Any] = {}
    if report.metadata is not None:
        after["metadata"] = merge_patch.merge_metadata({}, report.metadata)
    if report.intended_submission_method is not None:
        after["intended_submission_method"] = report.intended_submission_method
    return merge_patch.find_changes(state, after)
