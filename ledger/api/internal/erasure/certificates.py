"""Certificates of erasures over HTTP: what was erased, the signed note, and the proofs of its two records."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import PlainTextResponse, Response

from ledger.api.exchange import Exchange
from ledger.api.internal.audit.accesses import record_accesses
from ledger.api.internal.audit.auditors import get_auditor
from ledger.api.internal.callers import Callers
from ledger.api.openapi.answers import answers_with
from ledger.audit.accesses import Accesses
from ledger.audit.auditor import Auditor
from ledger.audit.moments import POSITION_MAX
from ledger.erasure.certificate import ErasureStep
from ledger.erasure.issuance import (
    KeptCertificate,
    find_certificate,
    list_certificates,
    make_certified_proof,
)
from ledger.errors import UnknownObject
from ledger.queries.context import QueryContext
from ledger.tlog.encoding import encode_base64
from ledger.tlog.proof_files import FILE_SUFFIX

MICROSECONDS = 1_000_000
_NOTE = {"content": {"text/plain": {"schema": {"type": "string"}}}}

Job = Annotated[str, Path(max_length=255, description="The id of the redaction job (prj_…).")]


def erasure_routes(callers: Callers, queries: QueryContext, accesses: Accesses) -> APIRouter:
    """All of them, for auditors. Each request is recorded before it is answered."""
    router = APIRouter(prefix="/erasures", tags=["audit"], dependencies=[record_accesses(accesses)])
    audit_scope = callers.require_scopes("audit")
    _add_list_routes(router, queries, audit_scope)
    _add_file_routes(router, queries, audit_scope)
    return router


def _add_list_routes(router: APIRouter, queries: QueryContext, audit_scope: Any) -> None:
    @router.get("", summary="The erasures that are certified", responses=answers_with("erasure_list"))
    async def list_erasures(
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        starting_after: Annotated[
            int | None,
            Query(ge=1, le=POSITION_MAX, description="`completed.position` of one: list those before it."),
        ] = None,
        exchange: Exchange = audit_scope,
    ) -> dict[str, Any]:
        """Newest first. An erasure is in the list once its certificate is made, which follows its end within
        seconds; until then, see its redaction job."""
        auditor = get_auditor(exchange)
        before = POSITION_MAX if starting_after is None else starting_after
        rows = await queries.pool.run_idempotent(
            lambda conn: list_certificates(
                conn, auditor.account, livemode=auditor.livemode, before=before, limit=limit + 1
            )
        )
        return {
            "object": "list",
            "url": "/internal/v1/erasures",
            "has_more": len(rows) > limit,
            "data": [_render(row) for row in rows[:limit]],
        }

    @router.get("/{job}", summary="One certified erasure", responses=answers_with("erasure"))
    async def read_erasure(job: Job, exchange: Exchange = audit_scope) -> dict[str, Any]:
        """What its certificate says: subjects, records, counts, and what was not reached."""
        return _render(await _find(queries, get_auditor(exchange), job))


def _add_file_routes(router: APIRouter, queries: QueryContext, audit_scope: Any) -> None:
    @router.get(
        "/{job}/certificate",
        summary="The certificate of an erasure",
        response_class=PlainTextResponse,
        responses={200: _NOTE},
    )
    async def get_erasure_certificate(job: Job, exchange: Exchange = audit_scope) -> Response:
        """A note that the log's key has signed (C2SP signed-note); `ledger verify-erasure` checks it."""
        return PlainTextResponse((await _find(queries, get_auditor(exchange), job)).note)

    @router.get(
        f"/{{job}}/certificate{FILE_SUFFIX}",
        summary="The proof of an erasure's completion",
        response_class=PlainTextResponse,
        responses={200: _NOTE},
    )
    async def get_erasure_completion_proof(job: Job, exchange: Exchange = audit_scope) -> Response:
        """C2SP tlog-proof of the record by which it was completed, with the record."""
        kept = await _find(queries, get_auditor(exchange), job)
        return await _prove(queries, kept.completed)

    @router.get(
        f"/{{job}}/request{FILE_SUFFIX}",
        summary="The proof of an erasure's request",
        response_class=PlainTextResponse,
        responses={200: _NOTE},
    )
    async def get_erasure_request_proof(job: Job, exchange: Exchange = audit_scope) -> Response:
        """C2SP tlog-proof of the record by which it was requested, with the record."""
        kept = await _find(queries, get_auditor(exchange), job)
        return await _prove(queries, kept.requested)


async def _find(queries: QueryContext, auditor: Auditor, job: str) -> KeptCertificate:
    """The certificate of a job of the auditor's. Raises UnknownObject."""
    kept = await queries.pool.run_idempotent(lambda conn: find_certificate(conn, job))
    if kept is None or (kept.account, kept.livemode) != (auditor.account, auditor.livemode):
        raise UnknownObject("certificate of an erasure", job, param="job")
    return kept


async def _prove(queries: QueryContext, position: int) -> Response:
    return PlainTextResponse(
        await queries.pool.run_idempotent(lambda conn: make_certified_proof(conn, position))
    )


def _render(kept: KeptCertificate) -> dict[str, Any]:
    certificate = kept.read()
    url = f"/internal/v1/erasures/{kept.job}"
    return {
        "object": "erasure",
        "id": kept.job,
        "account": kept.account,
        "livemode": kept.livemode,
        "subjects": list(certificate.subjects),
        "requested": _render_step(certificate.requested),
        "completed": _render_step(certificate.completed),
        "data_keys_destroyed": certificate.data_keys_destroyed,
        "streams": certificate.streams,
        "streams_digest": encode_base64(certificate.streams_digest),
        "counts": dict(certificate.counts),
        "not_reached": list(certificate.not_reached),
        "certificate": f"{url}/certificate",
        "certified": int(kept.made_at),
    }


def _render_step(step: ErasureStep) -> dict[str, Any]:
    return {"position": step.position, "time": step.recorded_at / MICROSECONDS}
