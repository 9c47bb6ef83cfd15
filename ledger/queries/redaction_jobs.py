"""Queries on redaction jobs and their validation errors (contract §2.15), and on legal holds."""

from __future__ import annotations

from ledger.call import Call
from ledger.domain.legal_hold import LegalHold
from ledger.domain.redaction_job import RedactionJob
from ledger.errors import UnknownObject
from ledger.objects import get_target
from ledger.queries.context import QueryContext, list_objects, retrieve_object
from ledger.queries.inner_lists import cut_page, make_list_result
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult
from ledger.wire.redaction_jobs import render_validation_error

URL = "/v1/privacy/redaction_jobs"
ERROR_NOUN = "redaction job validation error"
REDACTION_JOBS = ListQuery.of(
    "redaction_jobs", noun="redaction job", filters={"status": "AND status = %(status)s"}
)
LEGAL_HOLDS = ListQuery.of(
    "legal_holds",
    noun="legal hold",
    filters={"active": "AND active = %(active)s", "object": "AND object_id = %(object)s"},
)


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/privacy/redaction_jobs/{id}`"""
    return await retrieve_object(call, context, RedactionJob)


async def list_redaction_jobs(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/privacy/redaction_jobs`"""
    return await list_objects(call, context, REDACTION_JOBS, RedactionJob, url=URL)


async def list_validation_errors(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/privacy/redaction_jobs/{id}/validation_errors`: those of the current validation."""
    job = await get_target(call, RedactionJob, context.get)
    rendered = [render_validation_error(error) for error in job.validation_errors]
    page, has_more = cut_page(rendered, call.parameters, noun=ERROR_NOUN)
    return make_list_result(page, f"{URL}/{job.id}/validation_errors", has_more=has_more)


async def retrieve_validation_error(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/privacy/redaction_jobs/{id}/validation_errors/{error}`. Raises UnknownObject."""
    job = await get_target(call, RedactionJob, context.get)
    for error in job.validation_errors:
        if error["id"] == call.part:
            return QueryResult(render_validation_error(error))
    raise UnknownObject(ERROR_NOUN, call.part, param="error")


async def list_legal_holds(call: Call, context: QueryContext) -> QueryResult:
    """`GET /internal/v1/legal_holds`"""
    return await list_objects(call, context, LEGAL_HOLDS, LegalHold, url="/internal/v1/legal_holds")
