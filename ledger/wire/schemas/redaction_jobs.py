"""The members of a redaction job and of its validation errors."""

from __future__ import annotations

from ledger.domain.redaction_job import BEHAVIORS, STATUSES
from ledger.domain.redaction_job_decisions import ROOT_TYPES
from ledger.wire.schemas.fields import (
    Fields,
    array,
    boolean,
    choice,
    component,
    constant,
    hash_of,
    livemode,
    text,
    unix_time,
)

ERROR_CODES = (
    "invalid_cascading_source",
    "invalid_file_purpose",
    "invalid_state",
    "locked_by_other_job",
    "too_many_objects",
)
VALIDATION_ERROR: Fields = {
    "id": text("Id of the error.", "prjve_1T6yFH2eZvKYlo2CUI79vXWy"),
    "object": constant("privacy.redaction_job_validation_error"),
    "code": choice("Why the job cannot run.", ERROR_CODES, "invalid_state"),
    "erroring_object": hash_of(
        "The object that the error is about; null if it is no single one.",
        {
            "id": text("Its id.", "du_1MtJUT2eZvKYlo2CNaw2HvEv"),
            "object_type": text("Of which kind it is.", "dispute"),
        },
    ).or_null(),
    "message": text("The error in words.", "This dispute is open."),
}
_ERRORS: Fields = {
    "object": constant("list"),
    "data": array(
        "The first 10.", component("A validation error.", "privacy.redaction_job_validation_error")
    ),
    "has_more": boolean("Whether there are more."),
    "url": text("Where all are listed.", "/v1/privacy/redaction_jobs/prj_1/validation_errors"),
}
REDACTION_JOB: Fields = {
    "id": text("Id of the job.", "prj_1T6yFG2eZvKYlo2C8Vq0a1bd"),
    "object": constant("privacy.redaction_job"),
    "created": unix_time("When it was created."),
    "livemode": livemode(),
    "objects": hash_of(
        "The objects to erase, with all that belongs to them. Only if expanded.",
        {
            name: array("Ids of such objects.", text(f"Id of a {object_type}.", "cus_1")).or_null()
            for name, object_type in ROOT_TYPES.items()
        },
    ).or_missing(),
    "status": choice("How far the job is.", STATUSES, "ready"),
    "validation_behavior": choice("What validation does with what could be mended.", BEHAVIORS),
    "validation_errors": hash_of("What keeps the job from running.", _ERRORS),
}
