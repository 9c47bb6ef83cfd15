"""The JSON of redaction jobs and their validation errors (contract §2.15), and of legal holds."""

from __future__ import annotations

from typing import Any

from ledger.domain.legal_hold import LegalHold
from ledger.domain.redaction_job import RedactionJob, ValidationError
from ledger.domain.redaction_job_decisions import ROOT_TYPES
from ledger.wire.json_values import Json, make_list_object

EXPANDABLE_FIELDS: dict[str, Any] = {"objects": "redaction_job_objects"}
ERRORS_SHOWN_MAX = 10
"""So many validation errors are shown in a job; its list has all."""


def render_redaction_job(state: RedactionJob) -> Json:
    """A redaction job; `objects` is shown only if expanded."""
    errors = state.validation_errors
    return {
        "id": state.id,
        "object": "privacy.redaction_job",
        "created": state.created,
        "livemode": state.livemode,
        "status": state.status,
        "validation_behavior": state.validation_behavior,
        "validation_errors": make_list_object(
            [render_validation_error(error) for error in errors[:ERRORS_SHOWN_MAX]],
            f"/v1/privacy/redaction_jobs/{state.id}/validation_errors",
            has_more=len(errors) > ERRORS_SHOWN_MAX,
        ),
    }


def render_objects(state: RedactionJob) -> Json:
    """The ids of a job's roots, by list."""
    return {name: state.objects.get(name) for name in ROOT_TYPES}


def render_validation_error(error: ValidationError) -> Json:
    """A validation error of a job."""
    erring = error["object_id"]
    return {
        "id": error["id"],
        "object": "privacy.redaction_job_validation_error",
        "code": error["code"],
        "erroring_object": None if erring is None else {"id": erring, "object_type": error["object_type"]},
        "message": error["message"],
    }


def render_legal_hold(state: LegalHold) -> Json:
    """A legal hold: for the internal API and the audit; no route of the public API returns it."""
    return {
        "id": state.id,
        "object": "legal_hold",
        "active": state.active,
        "held_object": {"id": state.object_id, "object_type": state.object_type},
        "livemode": state.livemode,
        "placed_at": state.placed_at,
        "placed_by": state.placed_by,
        "reason": state.reason,
        "release_reason": state.release_reason,
        "released_at": state.released_at,
        "released_by": state.released_by,
    }
