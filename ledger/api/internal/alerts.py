"""Routes of alerts and their receivers, for operators of the whole service (internal API §8).

Like projections, alerts are not of one account: whoever has the scope sees ids and counts of all.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, Response
from pydantic import ConfigDict, Field

from ledger.alerts.notices import begin_test, run_test
from ledger.alerts.receivers import (
    DESCRIPTION_LENGTH_MAX,
    ReceiverKeys,
    add_receiver,
    list_receivers,
    remove_receiver,
)
from ledger.alerts.records import (
    REASON_LENGTH_MAX,
    Actor,
    ListState,
    clear_alert,
    get_alert,
    list_alerts,
    read_look_age,
)
from ledger.alerts.service import make_client
from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, change_once
from ledger.api.openapi.answers import answers_with
from ledger.commands.execution import Execution
from ledger.commands.models import Body, StorableText
from ledger.config import Settings
from ledger.domain.webhook_urls import URL_LENGTH_MAX
from ledger.errors import RequestError, SecretAlreadyIssued
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import Conn, Pool

_ID_LENGTH_MAX = 255
_Id = Annotated[StorableText, Path(alias="id", max_length=_ID_LENGTH_MAX)]


class ClearBody(Body):
    """Why an alert is cleared."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "the receiver is being moved"}]})

    reason: StorableText = Field(
        min_length=1, max_length=REASON_LENGTH_MAX, description="Why; it is kept on record."
    )


class ReceiverBody(Body):
    """Where alerts are sent."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://alerts.example.com/hook", "description": "pager"}]}
    )

    url: StorableText = Field(
        max_length=URL_LENGTH_MAX, description="It is stored encrypted, and never shown."
    )
    description: StorableText = Field("", max_length=DESCRIPTION_LENGTH_MAX, description="For people.")


def alert_routes(
    callers: Callers, execution: Execution, pool: Pool, settings: Settings, service_keys: ServiceKeys | bytes
) -> APIRouter:
    """The routes under /internal/v1/alerts."""
    router = APIRouter(prefix="/alerts", tags=["alerts"])
    scope = callers.require_scopes("alerts")
    _add_receiver_routes(router, scope, execution, pool, ReceiverKeys(service_keys))
    _add_test_route(router, scope, pool, settings, ReceiverKeys(service_keys))
    _add_alert_routes(router, scope, execution, pool)
    return router


def _add_alert_routes(router: APIRouter, scope: Any, execution: Execution, pool: Pool) -> None:
    @router.get("", summary="List alerts, newest first", responses=answers_with("alert_list"))
    async def list_service_alerts(
        state: Annotated[ListState | None, Query(description="`ended`: resolved or cleared.")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        starting_after: Annotated[
            StorableText | None,
            Query(max_length=_ID_LENGTH_MAX, description="An alert's id: return alerts older than it."),
        ] = None,
        exchange: Exchange = scope,
    ) -> Response:
        """What is wrong with the service, and what was. `looked_seconds_ago` says whether somebody looks:
        one of the processes does, every 2 s."""

        async def read(conn: Conn) -> dict[str, Any]:
            page, has_more = await list_alerts(conn, state=state, starting_after=starting_after, limit=limit)
            return {"data": page, "has_more": has_more, "looked_seconds_ago": await read_look_age(conn)}

        return JSONResponse(await pool.run_idempotent(read))

    @router.get("/{id}", summary="One alert with its events", responses=answers_with("alert_record"))
    async def read_alert(alert: _Id, exchange: Exchange = scope) -> Response:
        """Each event with its notices: whom it was sent to, and how that went."""
        return JSONResponse(await pool.run_idempotent(lambda conn: get_alert(conn, alert)))

    @router.post("/{id}/clear", summary="Clear an alert by hand", responses=answers_with("alert_record"))
    async def clear_active_alert(body: ClearBody, alert: _Id, exchange: Exchange = scope) -> Response:
        """While its condition lasts. It is not raised again before the condition has ended once, or becomes
        more severe. Doing it twice changes nothing; of one that has resolved: 409 `alert_state`."""

        async def clear(conn: Conn) -> dict[str, Any]:
            await clear_alert(conn, alert, Actor(exchange.key.id, exchange.account, body.reason))
            return await get_alert(conn, alert)

        return await change_once(execution, pool, exchange, body.to_params(), clear)


def _add_receiver_routes(
    router: APIRouter, scope: Any, execution: Execution, pool: Pool, keys: ReceiverKeys
) -> None:
    @router.get("/receivers", summary="List receivers", responses=answers_with("alert_receiver_list"))
    async def list_alert_receivers(exchange: Exchange = scope) -> Response:
        """All of them, each with how its last attempt went. Never a URL or a secret."""
        return JSONResponse({"data": await pool.run_idempotent(list_receivers), "has_more": False})

    @router.post("/receivers", summary="Add a receiver", responses=answers_with("new_alert_receiver"))
    async def add_alert_receiver(body: ReceiverBody, exchange: Exchange = scope) -> Response:
        """Every later event of an alert is POSTed to it, signed by the secret in the answer, which is shown
        this once. Its host may be a private one, unless LEDGER_ALERT_PRIVATE_ADDRESSES is false."""

        async def add(conn: Conn) -> dict[str, Any]:
            actor = Actor(exchange.key.id, exchange.account)
            return await add_receiver(conn, keys, body.url, body.description, actor)

        return await change_once(
            execution, pool, exchange, body.to_params(), add, replay_answer=_refuse_to_repeat
        )

    @router.delete(
        "/receivers/{id}", summary="Remove a receiver", responses=answers_with("deleted_alert_receiver")
    )
    async def remove_alert_receiver(receiver: _Id, exchange: Exchange = scope) -> Response:
        """Nothing more is sent to it; what is pending is dropped."""
        actor = Actor(exchange.key.id, exchange.account)
        return await change_once(
            execution, pool, exchange, {}, lambda conn: remove_receiver(conn, receiver, actor)
        )


def _add_test_route(
    router: APIRouter, scope: Any, pool: Pool, settings: Settings, keys: ReceiverKeys
) -> None:
    @router.post(
        "/receivers/{id}/test",
        summary="Send a receiver an event that means nothing",
        responses=answers_with("alert_receiver_test"),
    )
    async def test_alert_receiver(receiver: _Id, exchange: Exchange = scope) -> Response:
        """One signed `alert.test`, now; the answer says how it went. Each call sends one, also under an
        Idempotency-Key."""
        actor = Actor(exchange.key.id, exchange.account)
        async with pool.connection() as conn:
            url = await begin_test(conn, keys, receiver, actor)
        client = make_client(settings)
        try:
            return JSONResponse(await run_test(client, keys, receiver, url))
        finally:
            await client.close()


def _refuse_to_repeat(added: dict[str, Any]) -> RequestError:
    return SecretAlreadyIssued(
        f"The receiver '{added['id']}' was added under this idempotency key. Its secret was shown once and "
        "is not stored: remove the receiver, and add it again under another key.",
        code="secret_shown_once",
    )
