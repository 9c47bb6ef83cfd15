"""Routes that show deliveries and their attempts, and send one again."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, change_once
from ledger.api.openapi.answers import answers_with
from ledger.commands.execution import Execution
from ledger.commands.models import StorableText
from ledger.postgres.connections import Conn
from ledger.queries.context import QueryContext
from ledger.webhooks.history.deliveries import list_deliveries, read_delivery, show_answer
from ledger.webhooks.history.filters import DeliveryFilters
from ledger.webhooks.history.retry import Request, retry_delivery
from ledger.webhooks.subscriptions import Owner

ID_LENGTH_MAX = 255
TYPES_MAX = 20
EVENTS_MAX = 20
SECONDS_MAX = 2**53

_Storable = Annotated[StorableText, Field(max_length=ID_LENGTH_MAX)]
_Text = _Storable | None
_Seconds = Annotated[int | None, Field(ge=0, le=SECONDS_MAX, description="Unix seconds.")]
DeliveryId = Annotated[StorableText, Path(alias="id", max_length=ID_LENGTH_MAX)]


class DeliveryListParams(BaseModel):
    """The query of the list."""

    model_config = ConfigDict(extra="forbid")

    endpoint: _Text = Field(None, description="Id of an endpoint, perhaps a deleted one.")
    event: list[_Storable] = Field(
        [], max_length=EVENTS_MAX, description="Id of an Event; repeat it for several."
    )
    replay: _Text = Field(None, description="Id of a replay, or of a retry.")
    state: list[_Storable] = Field(
        [], max_length=TYPES_MAX, description="A state; repeat it for several.", examples=[["failed"]]
    )
    type: list[_Storable] = Field(
        [],
        max_length=TYPES_MAX,
        description="A type, or a pattern such as `charge.*`; repeat it for several.",
    )
    created_gt: _Seconds = Field(None, alias="created[gt]")
    created_gte: _Seconds = Field(None, alias="created[gte]")
    created_lt: _Seconds = Field(None, alias="created[lt]")
    created_lte: _Seconds = Field(None, alias="created[lte]")
    limit: int = Field(10, ge=1, le=100)
    starting_after: _Text = Field(None, description="A delivery's id: return deliveries older than it.")

    def to_filters(self) -> DeliveryFilters:
        """The filters of the list."""
        bounds = {name: getattr(self, f"created_{name}") for name in ("gt", "gte", "lt", "lte")}
        created = {name: bound for name, bound in bounds.items() if bound is not None}
        return DeliveryFilters(self.endpoint, self.event, self.state, self.type, created, self.replay)


def get_owner(exchange: Exchange) -> Owner:
    """Account and mode of the caller."""
    return exchange.account, exchange.key.livemode


def delivery_routes(callers: Callers, execution: Execution, queries: QueryContext) -> APIRouter:
    """The routes under `/webhooks/deliveries`."""
    router = APIRouter(prefix="/deliveries")
    webhooks_scope = callers.require_scopes("webhooks")
    pool, codec = queries.pool, queries.store.codec

    @router.get("", summary="List deliveries, newest first", responses=answers_with("webhook_delivery_list"))
    async def list_webhook_deliveries(
        params: Annotated[DeliveryListParams, Query()], exchange: Exchange = webhooks_scope
    ) -> Response:
        """What was sent, or is to be sent, to the endpoints of the account in the last 30 days."""
        filters = params.to_filters()
        page, has_more = await pool.run_idempotent(
            lambda conn: list_deliveries(
                conn,
                get_owner(exchange),
                filters,
                limit=params.limit,
                starting_after=params.starting_after,
            )
        )
        return JSONResponse({"data": [delivery.to_json() for delivery in page], "has_more": has_more})

    @router.get(
        "/{id}", summary="One delivery with its attempts", responses=answers_with("webhook_delivery_record")
    )
    async def read_webhook_delivery(delivery: DeliveryId, exchange: Exchange = webhooks_scope) -> Response:
        """Each attempt with its time, status or error, duration and the first 2 KiB of the answer."""
        record = await pool.run_idempotent(
            lambda conn: read_delivery(conn, codec, delivery, get_owner(exchange), queries.store.clock.now())
        )
        return JSONResponse(record.to_json())

    @router.post(
        "/{id}/retry", summary="Send a delivery again", responses=answers_with("webhook_delivery_record")
    )
    async def retry_webhook_delivery(delivery: DeliveryId, exchange: Exchange = webhooks_scope) -> Response:
        """It is due at once, with the whole schedule of attempts before it; earlier attempts stay. While an
        attempt is under way, no other one is made: only if it fails is the next one. For an endpoint that is
        deleted or disabled it is refused: 409 `webhook_state`."""
        owner = get_owner(exchange)

        async def retry(conn: Conn) -> dict[str, Any]:
            request = Request(exchange.key.id, queries.store.clock.now())
            await retry_delivery(conn, codec, delivery, owner, request)
            return (await read_delivery(conn, codec, delivery, owner, request.now)).to_json()

        return await change_once(execution, pool, exchange, {}, retry, replay_answer=_leave_out_answers)

    return router


def _leave_out_answers(record: dict[str, Any]) -> dict[str, Any]:
    """A delivery without what its receiver answered, which may repeat the Event: it is not stored again."""
    attempts = [{**each, **show_answer(None)} for each in record["attempts"]]
    return {**record, "attempts": attempts}
