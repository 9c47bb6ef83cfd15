"""The operations on redaction jobs (contract §2.15); `routes` has all operations."""

from __future__ import annotations

from functools import partial

from ledger.api.public.operations import Operation
from ledger.commands import redaction_jobs
from ledger.queries import redaction_jobs as redaction_job_queries
from ledger.wire import tables

_job = partial(Operation, resource="redaction_job", expandable="privacy.redaction_job", is_preview=True)
_error = partial(
    Operation,
    resource="redaction_job",
    expandable="privacy.redaction_job_validation_error",
    is_preview=True,
)

REDACTION_JOBS = (
    _job(
        method="POST",
        path="/v1/privacy/redaction_jobs",
        summary="Create a redaction job, which starts to validate",
        table=tables.redaction_jobs.CREATE,
        decide=redaction_jobs.create,
    ),
    _job(
        method="GET",
        path="/v1/privacy/redaction_jobs",
        summary="List redaction jobs, newest first",
        table=tables.redaction_jobs.LIST,
        read=redaction_job_queries.list_redaction_jobs,
    ),
    _job(
        method="GET",
        path="/v1/privacy/redaction_jobs/{job}",
        summary="Retrieve a redaction job",
        table=tables.redaction_jobs.RETRIEVE,
        read=redaction_job_queries.retrieve,
    ),
    _job(
        method="POST",
        path="/v1/privacy/redaction_jobs/{job}",
        summary="Update a redaction job, without validating it",
        table=tables.redaction_jobs.UPDATE,
        decide=redaction_jobs.update,
    ),
    _job(
        method="POST",
        path="/v1/privacy/redaction_jobs/{job}/validate",
        summary="Validate a redaction job again that has failed",
        table=tables.redaction_jobs.VALIDATE,
        decide=redaction_jobs.validate,
    ),
    _job(
        method="POST",
        path="/v1/privacy/redaction_jobs/{job}/run",
        summary="Run a redaction job: nothing brings back what it erases",
        table=tables.redaction_jobs.RUN,
        decide=redaction_jobs.run,
    ),
    _job(
        method="POST",
        path="/v1/privacy/redaction_jobs/{job}/cancel",
        summary="Cancel a redaction job that does not run yet",
        table=tables.redaction_jobs.CANCEL,
        decide=redaction_jobs.cancel,
    ),
    _error(
        method="GET",
        path="/v1/privacy/redaction_jobs/{job}/validation_errors",
        summary="List what keeps a redaction job from running",
        table=tables.redaction_jobs.LIST_ERRORS,
        read=redaction_job_queries.list_validation_errors,
    ),
    _error(
        method="GET",
        path="/v1/privacy/redaction_jobs/{job}/validation_errors/{error}",
        summary="Retrieve a validation error of a redaction job",
        table=tables.redaction_jobs.RETRIEVE,
        read=redaction_job_queries.retrieve_validation_error,
    ),
)
