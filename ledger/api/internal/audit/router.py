"""The router of the audit API: every route under /internal/v1/audit."""

from __future__ import annotations

from fastapi import APIRouter

from ledger.api.internal.audit.tree import tree_routes
from ledger.api.internal.callers import Callers
from ledger.queries.context import QueryContext


def audit_routes(callers: Callers, queries: QueryContext) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/audit", tags=["audit"])
    router.include_router(tree_routes(callers, queries))
    return router
