"""Routes that replay the Events of a window to one endpoint, and look after replays."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, Response
from pydantic import ConfigDict, Field

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, change_once
from ledger.api.internal.webhooks.deliveries import ID_LENGTH_MAX, get_owner
from ledger.api.openapi.answers import answers_with
from ledger.commands.execution import Execution
from ledger.commands.models import Body, Id, Seconds, StorableText
from ledger.errors import InvalidParameter
from ledger.postgres.connections import Conn
from ledger.queries.context import QueryContext
from ledger.webhooks.replays.filters import ReplayFilter, ReplayRequest, resolve_filter
from ledger.webhooks.replays.preview import preview_replay
from ledger.webhooks.replays.records import (
    REASON_LENGTH_MAX,
    Actor,
    ReplayAction,
    change_replay,
    get_replay,
    list_replays,
    start_replay,
)

PREVIEW_POSITIONS_MAX = 5_000_000
"""So many recorded events a dry run reads, within seconds; `ledger webhooks replay` has no such limit."""
ReplayId = Annotated[StorableText, Path(alias="id", max_length=ID_LENGTH_MAX)]
Reason = Annotated[
    StorableText, Field(max_length=REASON_LENGTH_MAX, description="Why; it is kept on record.")
]


class ReplayBody(Body):
    """What to replay."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "endpoint": "we_1Mr5jULkdIwHu7ix1ibLTM0x",
                    "from": 1794996400,
                    "to": 1795000000,
                    "types": ["charge.*", "customer.created"],
                    "only_failed": False,
                    "dry_run": True,
                    "reason": "the receiver lost an hour",
                }
            ]
        }
    )

    endpoint: Id = Field(description="The webhook endpoint to send to.")
    window_from: Seconds = Field(alias="from", description="Unix seconds, included.")
    window_to: Seconds | None = Field(
        None, alias="to", description="Unix seconds, not included; default: all that is recorded by now."
    )
    types: list[Annotated[StorableText, Field(max_length=100)]] = Field(
        [], description="Event types, or patterns such as `charge.*`; default: all the endpoint's."
    )
    only_failed: bool = Field(False, description="Only Events whose delivery was given up or dropped.")
    object: Id | None = Field(None, description="Only Events of the object with this id.")
    dry_run: bool = Field(False, description="Count, and change nothing.")
    reason: Reason = ""

    def to_request(self) -> ReplayRequest:
        """As the replay takes it."""
        return ReplayRequest(
            self.endpoint, self.window_from, self.window_to, self.types, self.only_failed, self.object
        )


class ReplayChangeBody(Body):
    """Why a replay or a retry of many is changed."""

    reason: Reason = ""


def replay_routes(callers: Callers, execution: Execution, queries: QueryContext) -> APIRouter:
    """`/webhooks/replay` and the routes under `/webhooks/replays`."""
    router = APIRouter()
    webhooks_scope = callers.require_scopes("webhooks")
    _add_start(router, webhooks_scope, execution, queries)
    _add_reads(router, webhooks_scope, queries)
    for action in ("pause", "resume", "cancel"):
        _add_change(router, webhooks_scope, execution, queries, action)
    return router


def _add_start(router: APIRouter, webhooks_scope: Any, execution: Execution, queries: QueryContext) -> None:
    store = queries.store

    @router.post(
        "/replay",
        summary="Replay the Events of a window to an endpoint",
        responses=answers_with("webhook_replay_answer"),
    )
    async def replay_webhooks(body: ReplayBody, exchange: Exchange = webhooks_scope) -> Response:
        """A worker makes their deliveries, in the order of the log and as fast as the endpoint takes them;
        what else is due to it goes first. The Events may be of any age, and the endpoint newer than they are.
        With `dry_run` they are counted, and nothing changes. One replay at a time goes to an endpoint."""

        async def resolve(conn: Conn) -> ReplayFilter:
            return await resolve_filter(
                conn, store.codec, body.to_request(), now=store.clock.now(), owner=get_owner(exchange)
            )

        async def preview(conn: Conn) -> dict[str, Any]:
            chosen = await resolve(conn)
            if chosen.upto - chosen.after > PREVIEW_POSITIONS_MAX:
                raise InvalidParameter(
                    f"The window has {chosen.upto - chosen.after:,} recorded events. A dry run reads at most "
                    f"{PREVIEW_POSITIONS_MAX:,}: make the window narrower, or use `ledger webhooks replay "
                    "--dry-run`.",
                    param="from",
                )
            return (await preview_replay(conn, store.codec, chosen)).to_json()

        async def start(conn: Conn) -> dict[str, Any]:
            chosen = await resolve(conn)
            actor = Actor(exchange.key.id, body.reason)
            return (await start_replay(conn, chosen, body.types, actor, now=store.clock.now())).to_json()

        if body.dry_run:
            return JSONResponse(await queries.pool.run_idempotent(preview))
        return await change_once(execution, queries.pool, exchange, body.to_params(), start)


def _add_reads(router: APIRouter, webhooks_scope: Any, queries: QueryContext) -> None:
    pool = queries.pool

    @router.get("/replays", summary="List replays", responses=answers_with("webhook_replay_list"))
    async def list_webhook_replays(
        endpoint: Annotated[StorableText | None, Query(max_length=ID_LENGTH_MAX)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        starting_after: Annotated[
            StorableText | None,
            Query(max_length=ID_LENGTH_MAX, description="A replay's id: return replays older than it."),
        ] = None,
        exchange: Exchange = webhooks_scope,
    ) -> Response:
        """Newest first."""
        page, has_more = await pool.run_idempotent(
            lambda conn: list_replays(
                conn,
                owner=get_owner(exchange),
                endpoint=endpoint,
                starting_after=starting_after,
                limit=limit,
            )
        )
        return JSONResponse({"data": [replay.to_json() for replay in page], "has_more": has_more})

    @router.get(
        "/replays/{id}", summary="One replay with its progress", responses=answers_with("webhook_replay")
    )
    async def read_webhook_replay(replay: ReplayId, exchange: Exchange = webhooks_scope) -> Response:
        """How many Events it found, how many are delivered, how fast it is, and when it may end."""
        found = await pool.run_idempotent(lambda conn: get_replay(conn, replay, owner=get_owner(exchange)))
        return JSONResponse(found.to_json())


_CHANGES: dict[ReplayAction, tuple[str, str]] = {
    "pause": (
        "Pause a replay",
        "No further deliveries are made of its Events. Those that are pending are sent.",
    ),
    "resume": ("Resume a paused replay", "It goes on where it stopped."),
    "cancel": (
        "Cancel a replay",
        "What is pending of it is given up; what is pending for another reason is left alone.",
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
        f"/replays/{{id}}/{action}",
        summary=summary,
        description=f"{description} Doing it twice changes nothing; one that has ended: 409 `webhook_state`.",
        name=f"{action}_webhook_replay",
        responses=answers_with("webhook_replay"),
    )
    async def change_webhook_replay(
        replay: ReplayId, body: ReplayChangeBody | None = None, exchange: Exchange = webhooks_scope
    ) -> Response:
        async def change(conn: Conn) -> dict[str, Any]:
            actor = Actor(exchange.key.id, "" if body is None else body.reason)
            changed = await change_replay(
                conn, replay, action, actor, owner=get_owner(exchange), now=queries.store.clock.now()
            )
            return changed.to_json()

        parameters = {} if body is None else body.to_params()
        return await change_once(execution, queries.pool, exchange, parameters, change)
