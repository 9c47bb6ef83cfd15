"""The route that exports recorded events as a file that can be checked offline."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from ledger.api.exchange import Exchange
from ledger.api.internal.audit.auditors import get_auditor
from ledger.api.internal.audit.log import LogFilterParams
from ledger.api.internal.callers import Callers
from ledger.audit.exports.formats import make_encoder
from ledger.audit.exports.source import plan_export, stream_export
from ledger.queries.context import QueryContext


class ExportParams(LogFilterParams):
    """The query of an export."""

    format: Literal["ndjson", "parquet"] = Field(
        "ndjson", description="Parquet needs pyarrow in the service."
    )


def export_routes(callers: Callers, queries: QueryContext) -> APIRouter:
    """An export takes memory and connections for one page at a time, however slowly the client takes it."""
    router = APIRouter()
    audit_scope = callers.require_scopes("audit")

    @router.get(
        "/export",
        summary="Export recorded events with their proof",
        response_class=StreamingResponse,
        responses={
            200: {
                "content": {
                    "application/x-ndjson": {"schema": {"type": "string"}},
                    "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
                }
            }
        },
    )
    async def export_log(
        params: Annotated[ExportParams, Query()], exchange: Exchange = audit_scope
    ) -> StreamingResponse:
        """The events that satisfy all filters, oldest first, up to the newest signed checkpoint, with the
        hashes of those left out: `ledger audit verify-export` checks the file without the service. A file
        without a trailer is incomplete: go on with `position[gt]` = the position of its last whole line, and
        append the answer. Personal data stays sealed."""
        encoder = make_encoder(params.format)
        plan = await plan_export(queries, get_auditor(exchange), params.to_filters())
        return StreamingResponse(
            stream_export(queries, plan, encoder), headers={"content-type": encoder.media_type}
        )

    return router
