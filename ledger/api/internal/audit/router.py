"""The router of the audit API: every route under /internal/v1/audit."""

from __future__ import annotations

from fastapi import APIRouter

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers
from ledger.audit.auditor import Auditor
from ledger.queries.context import QueryContext


def audit_routes(callers: Callers, queries: QueryContext) -> APIRouter:
    """All of them."""
    return APIRouter(prefix="/audit", tags=["audit"])


def get_auditor(exchange: Exchange) -> Auditor:
    """The caller of a request, whose key has the scope `audit`."""
    cause = exchange.build_cause()
    return Auditor(
        cause.account,
        cause.livemode,
        exchange.key.id,
        shows_personal_data="personal_data" in exchange.key.scopes,
    )
