"""The router of the audit API: every route under /internal/v1/audit."""

from __future__ import annotations

from fastapi import APIRouter

from ledger.api.internal.audit.accesses import access_routes, record_accesses
from ledger.api.internal.audit.export import export_routes
from ledger.api.internal.audit.lists import past_list_routes
from ledger.api.internal.audit.log import log_routes
from ledger.api.internal.audit.lookup import lookup_routes
from ledger.api.internal.audit.money import money_routes
from ledger.api.internal.audit.objects import ObjectReader, object_routes
from ledger.api.internal.audit.tree import tree_routes
from ledger.api.internal.callers import Callers
from ledger.audit.accesses import Accesses
from ledger.config import Settings
from ledger.queries.context import QueryContext
from ledger.tree.witnesses.addresses import parse_witnesses


def audit_routes(
    callers: Callers,
    queries: QueryContext,
    accesses: Accesses,
    reader: ObjectReader,
    settings: Settings,
) -> APIRouter:
    """All of them. Each request is recorded before it is answered."""
    router = APIRouter(prefix="/audit", tags=["audit"], dependencies=[record_accesses(accesses)])
    router.include_router(access_routes(callers, accesses))
    router.include_router(lookup_routes(callers, queries))
    router.include_router(past_list_routes(callers, queries, settings.public_url))
    router.include_router(object_routes(callers, queries, reader))
    router.include_router(log_routes(callers, queries))
    router.include_router(export_routes(callers, queries))
    router.include_router(money_routes(callers, queries))
    router.include_router(tree_routes(callers, queries, parse_witnesses(settings.witnesses)))
    return router
