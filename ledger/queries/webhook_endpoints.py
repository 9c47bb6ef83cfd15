"""Webhook endpoints as read (contract §5.1), and the secrets that deliveries to them are signed with.

A secret follows from the endpoint's id and the service key and is never kept (README, invariant 7). Only the
answer to a create shows it.
"""

from __future__ import annotations

import hmac

import msgspec

from ledger.call import Call
from ledger.domain.webhook_endpoint import WebhookEndpoint, check_not_deleted
from ledger.ids import encode_digest
from ledger.objects import get_target, render_object
from ledger.queries.pages import ListQuery, Pages, QueryResult, render_list
from ledger.store.store import Store

SECRET_PREFIX = "whsec_"  # noqa: S105 (no secret)

WEBHOOK_ENDPOINTS = ListQuery(
    projection="webhook_endpoints",
    noun="webhook endpoint",
    url="/v1/webhook_endpoints",
    select="""
SELECT state, created, position FROM projections.webhook_endpoints
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'webhook_endpoints')
AND account = %(account)s AND livemode = %(livemode)s AND NOT deleted
""",
    cursor_select="""
SELECT created, position FROM projections.webhook_endpoints
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'webhook_endpoints')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
)


class WebhookSecrets:
    """Secrets of webhook endpoints under the service key."""

    def __init__(self, service_key: bytes) -> None:
        self._key = hmac.digest(service_key, b"ledger/webhook_endpoint/secret/1", "sha256")

    def derive(self, endpoint_id: str) -> str:
        """The endpoint's secret: `whsec_` and 32 digits that only the service key can make. Whole, prefix
        included, it is the key of its signatures (contract §5.4)."""
        return SECRET_PREFIX + encode_digest(hmac.digest(self._key, endpoint_id.encode(), "sha256"))


class WebhookEndpointQueries:
    """Reads of webhook endpoints against one store and its read models."""

    def __init__(self, store: Store, pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def retrieve(self, call: Call) -> QueryResult:
        """`GET /v1/webhook_endpoints/{id}`. Raises UnknownObject, for a deleted one too."""
        state = await get_target(call, WebhookEndpoint, self._store.streams.read)
        check_not_deleted(state)
        return QueryResult(render_object(state, self._now()))

    async def list(self, call: Call) -> QueryResult:
        """`GET /v1/webhook_endpoints`"""
        page = await self._pages.fetch_page(call, WEBHOOK_ENDPOINTS)
        states = [msgspec.json.decode(row[0], type=WebhookEndpoint) for row in page.rows]
        return render_list(WEBHOOK_ENDPOINTS, [render_object(state, self._now()) for state in states], page)

    def _now(self) -> int:
        return int(self._store.clock.now())
