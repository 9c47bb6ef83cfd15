"""Queries on disputes (contract §2.2)."""

from __future__ import annotations

from ledger.call import Call
from ledger.domain.dispute import Dispute
from ledger.objects import target_newest_dispute
from ledger.queries.charges import check_filters
from ledger.queries.context import QueryContext, list_objects, retrieve_object
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult

DISPUTES = ListQuery.of(
    "disputes",
    noun="dispute",
    filters={
        "charge": "AND charge = %(charge)s",
        "payment_intent": "AND payment_intent = %(payment_intent)s",
    },
)


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/disputes/{id}`"""
    return await retrieve_object(call, context, Dispute)


async def retrieve_newest(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/charges/{id}/dispute`: the newest dispute of the charge."""
    return await retrieve(await target_newest_dispute(call, context.get), context)


async def list_disputes(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/disputes`"""
    await check_filters(call, context)
    return await list_objects(call, context, DISPUTES, Dispute)
