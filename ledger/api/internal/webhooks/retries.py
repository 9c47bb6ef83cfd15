"""Routes that send again all deliveries that match, and look after such retries."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, Response
from pydantic import ConfigDict, Field

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, change_once
from ledger.api.internal.webhooks.deliveries import ID_LENGTH_MAX, TYPES_MAX, get_owner
from ledger.api.internal.webhooks.replays import Reason, ReplayChangeBody
from ledger.api.openapi.answers import answers_with
from ledger.commands.execution import Execution
from ledger.commands.models import Body, EventType, Id, Seconds, StorableText
from ledger.postgres.connections import Conn
from ledger.queries.context import QueryContext
from ledger.webhooks.replays.records import Actor, ReplayAction
from ledger.webhooks.retries.filters import RetryRequest, resolve_retry
from ledger.webhooks.retries.preview import preview_retry
from ledger.webhooks.retries.records import change_retry, get_retry, list_retries, start_retry

PREVIEW_ROWS_MAX = 50_000
"""Among so many deliveries a dry run counts, within a second; `ledger webhooks retry-all` among all."""
RetryId = Annotated[StorableText, Path(alias="id", max_length=ID_LENGTH_MAX)]


class CreatedBounds(Body):
    """Times in unix seconds."""

    gt: Seconds | None = Field(None, description="Unix seconds: made after it.")
    gte: Seconds | None = Field(None, description="Unix seconds: made then or later.")
    lt: Seconds | None = Field(None, description="Unix seconds: made before it.")
    lte: Seconds | None = Field(None, description="Unix seconds: made then or earlier.")


class RetryBody(Body):
    """Which deliveries to send again."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "endpoint": "we_1Mr5jULkdIwHu7ix1ibLTM0x",
                    "state": ["failed"],
                    "types": ["charge.*"],
                    "created": {"gte": 1794996400, "lt": 1795000000},
                    "status": 503,
                    "dry_run": True,
                    "reason": "the receiver is back",
                }
            ]
        }
    )

    endpoint: Id | None = Field(None, description="Only deliveries to this endpoint; default: to all.")
    event: Id | None = Field(None, description="Only deliveries of this Event.")
    state: list[Annotated[StorableText, Field(max_length=100)]] = Field(
        [],
        max_length=TYPES_MAX,
        description="Of `failed`, `dropped`, `delivered`, `pending`; default: `failed` and `dropped`.",
    )
    types: list[EventType] = Field(
        [], max_length=TYPES_MAX, description="Event types, or patterns such as `charge.*`; default: all."
    )
    created: CreatedBounds | None = Field(None, description="When the delivery was made.")
    status: Annotated[int, Field(ge=100, le=599)] | None = Field(
        None, description="Only those whose last attempt was answered with this HTTP status."
    )
    error: Annotated[StorableText, Field(max_length=100)] | None = Field(
        None, description="Only those whose last attempt got no answer, for this reason."
    )
    dry_run: bool = Field(False, description="Count, and change nothing.")
    reason: Reason = ""

    def to_request(self) -> RetryRequest:
        """As the retry takes it."""
        bounds = {} if self.created is None else self.created.model_dump(exclude_none=True)
        return RetryRequest(
            self.endpoint, self.event, self.state, self.types, bounds, self.status, self.error
        )


def retry_routes(callers: Callers, execution: Execution, queries: QueryContext) -> APIRouter:
    """The routes under `/webhooks/retries`."""
    router = APIRouter(prefix="/retries")
    webhooks_scope = callers.require_scopes("webhooks")
    _add_start(router, webhooks_scope, execution, queries)
    _add_reads(router, webhooks_scope, queries)
    for action in ("pause", "resume", "cancel"):
        _add_change(router, webhooks_scope, execution, queries, action)
    return router


def _add_start(router: APIRouter, webhooks_scope: Any, execution: Execution, queries: QueryContext) -> None:
    store = queries.store

    @router.post(
        "",
        summary="Send again all deliveries that match",
        responses=answers_with("webhook_retry_answer"),
    )
    async def retry_webhooks(body: RetryBody, exchange: Exchange = webhooks_scope) -> Response:
        """A worker makes them due, each once, in the order in which they were made and as fast as each
        endpoint takes them; what else is due goes first. Those to disabled or deleted endpoints are left out.
        With `dry_run` they are counted, up to a bound that the answer names, and nothing changes."""

        async def preview(conn: Conn) -> dict[str, Any]:
            now = store.clock.now()
            chosen = await resolve_retry(conn, body.to_request(), owner=get_owner(exchange), now=now)
            found = await preview_retry(conn, store.codec, chosen, now=now, rows_max=PREVIEW_ROWS_MAX)
            return found.to_json()

        async def start(conn: Conn) -> dict[str, Any]:
            now = store.clock.now()
            chosen = await resolve_retry(conn, body.to_request(), owner=get_owner(exchange), now=now)
            actor = Actor(exchange.key.id, body.reason)
            return (await start_retry(conn, chosen, actor, now=now)).to_json()

        if body.dry_run:
            return JSONResponse(await queries.pool.run_idempotent(preview))
        return await change_once(execution, queries.pool, exchange, body.to_params(), start)


def _add_reads(router: APIRouter, webhooks_scope: Any, queries: QueryContext) -> None:
    pool = queries.pool

    @router.get("", summary="List retries of many deliveries", responses=answers_with("webhook_retry_list"))
    async def list_webhook_retries(
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        starting_after: Annotated[
            StorableText | None,
            Query(max_length=ID_LENGTH_MAX, description="A retry's id: return retries older than it."),
        ] = None,
        exchange: Exchange = webhooks_scope,
    ) -> Response:
        """Newest first."""
        page, has_more = await pool.run_idempotent(
            lambda conn: list_retries(
                conn, owner=get_owner(exchange), starting_after=starting_after, limit=limit
            )
        )
        return JSONResponse({"data": [retry.to_json() for retry in page], "has_more": has_more})

    @router.get(
        "/{id}", summary="One retry of many with its progress", responses=answers_with("webhook_retry")
    )
    async def read_webhook_retry(retry: RetryId, exchange: Exchange = webhooks_scope) -> Response:
        """How many deliveries match, how many are accepted by now, how fast it is, and when it may end."""
        found = await pool.run_idempotent(lambda conn: get_retry(conn, retry, owner=get_owner(exchange)))
        return JSONResponse(found.to_json())


_CHANGES: dict[ReplayAction, tuple[str, str]] = {
    "pause": ("Pause a retry of many", "Nothing further becomes due. What is pending is sent."),
    "resume": ("Resume a paused retry of many", "It goes on where it stopped."),
    "cancel": (
        "Cancel a retry of many",
        "What is pending of it gets its former state back; what was pending before stays so.",
    ),
}


def _add_change(
    router: APIRouter,
    webhooks_scope: Any,
    execution: Execution,
    queries: QueryContext,
    action: ReplayAction,
) -> None:
    summary, description = _CHANGES[action]

    @router.post(
        f"/{{id}}/{action}",
        summary=summary,
        description=f"{description} Doing it twice changes nothing; one that has ended: 409 `webhook_state`.",
        name=f"{action}_webhook_retry",
        responses=answers_with("webhook_retry"),
    )
    async def change_webhook_retry(
        retry: RetryId, body: ReplayChangeBody | None = None, exchange: Exchange = webhooks_scope
    ) -> Response:
        async def change(conn: Conn) -> dict[str, Any]:
            actor = Actor(exchange.key.id, "" if body is None else body.reason)
            changed = await change_retry(
                conn, retry, action, actor, owner=get_owner(exchange), now=queries.store.clock.now()
            )
            return changed.to_json()

        parameters = {} if body is None else body.to_params()
        return await change_once(execution, queries.pool, exchange, parameters, change)
