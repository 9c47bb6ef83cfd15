"""Commands that ingest what an account did in another system, as lines of an import: responses to disputes,
deletions of customers, published resources. Each is idempotent by its content.
"""

from __future__ import annotations

from typing import Any

from ledger.call import Call
from ledger.commands import resources
from ledger.commands.context import DecisionContext
from ledger.commands.disputes import read_charge, read_paid_charge
from ledger.commands.execution import Decision
from ledger.commands.external_facts import IngestResult
from ledger.commands.files import get_evidence_sizes
from ledger.domain import customer, dispute_decisions
from ledger.domain.aggregate import check_not_redacted
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_responses import ResponseReport, find_submitted_evidence, report_response
from ledger.domain.dispute_states import CLOSED_STATUSES
from ledger.errors import ContentConflict
from ledger.objects import get_target
from ledger.store.journal import fold_changes
from ledger.wire.parameters import Hash
from ledger.wire.tables.disputes import EVIDENCE

_parse_evidence = Hash(EVIDENCE).compile("evidence")


async def ingest_response(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """What the merchant did about a dispute: staged or submitted evidence, other changes, or its end."""
    params = dict(call.parameters)
    state = await get_target(call, Dispute, context.get)
    if params.pop("closed", False):
        if state.status in CLOSED_STATUSES:
            return IngestResult([], state)
        paid, txn_id = await read_paid_charge(state, context), context.new_id("txn")
        events = dispute_decisions.close(state, paid=paid, txn_id=txn_id, now=now)
    else:
        if "evidence" in params:
            params["evidence"] = _parse_evidence(_to_form(params["evidence"]))
        report = ResponseReport(**params)
        charge = await read_charge(state, context)
        if charge.redaction:
            report = report.redact()
        await _check_known_submission(state, report, context)
        sizes = await get_evidence_sizes(call, context, state.evidence, params.get("evidence") or {})
        events = report_response(state, report, file_bytes=sizes, now=now)
        if events:
            check_not_redacted(charge)
    changes = fold_changes(events, state)
    return IngestResult(changes, changes[-1].state if changes else state)


async def ingest_deletion(call: Call, context: DecisionContext, now: int) -> IngestResult:
    """The deletion of a customer."""
    state = await get_target(call, Customer, context.get)
    changes = [] if state.deleted else fold_changes(customer.delete(state, now=now), state)
    return IngestResult(changes, changes[-1].state if changes else state)


async def import_resource(call: Call, context: DecisionContext, now: int) -> Decision:
    """`PUT /internal/v1/resources/{type}/{id}`, answered like other lines of an import."""
    decision = await resources.publish(call, context, now)
    return Decision(decision.changes, {"id": call.target, "changed": bool(decision.changes)})


async def _check_known_submission(state: Dispute, report: ResponseReport, context: DecisionContext) -> None:
    """Raises ContentConflict if this submission was recorded before, with other evidence."""
    if report.submission is None or report.evidence is None or report.submission > state.submission_count:
        return
    known = find_submitted_evidence(await context.get_events(state.id), report.submission)
    if known is not None and known != report.evidence:
        text = f"Submission {report.submission} of '{state.id}' was recorded before with other evidence."
        raise ContentConflict(text, param="evidence")


def _to_form(value: Any) -> Any:
    """A value of JSON as the parameter tables take it, which parse forms."""
    if isinstance(value, dict):
        return {name: _to_form(member) for name, member in value.items()}
    if isinstance(value, list):
        return {str(index): _to_form(item) for index, item in enumerate(value)}
    return str(value).lower() if isinstance(value, bool) else value
