"""A step over HTTP, with the scope `projections`. It shows content of the log, so it is on record."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from ledger.api.exchange import Exchange
from ledger.api.internal.audit.accesses import record_accesses
from ledger.api.internal.callers import Callers
from ledger.api.openapi.answers import answers_with
from ledger.audit.accesses import Accesses
from ledger.audit.moments import POSITION_MAX
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, open_connection
from ledger.store.log import PLANNER_SETTINGS
from ledger.store.store import Store
from projections.operate.actions import get_projection
from projections.operate.stepper.places import StepQuery
from projections.operate.stepper.step import Viewer, load_step

Position = Annotated[int | None, Query(ge=0, le=POSITION_MAX, examples=[40213])]


def stepper_routes(callers: Callers, store: Store, accesses: Accesses) -> APIRouter:
    """The one route. Each request is recorded before it is answered."""
    router = APIRouter(prefix="/projections", tags=["projections"], dependencies=[record_accesses(accesses)])
    scope = callers.require_scopes("projections")

    @router.get(
        "/{projection}/step",
        summary="One event through a projection: rows before and after",
        responses=answers_with("projection_step"),
    )
    async def step_projection(
        projection: Annotated[str, Path(max_length=255, examples=["disputes"])],
        position: Annotated[int | None, Query(ge=1, le=POSITION_MAX, examples=[40213])] = None,
        after: Position = None,
        before: Position = None,
        stream: Annotated[
            str | None, Query(max_length=255, description="Only events of this object.")
        ] = None,
        caller: Exchange = scope,
    ) -> dict[str, Any]:
        """The event at `position`, or the next one that the projection follows `after` or `before` a
        position; by default the last one. Rows come from folding the object in memory; nothing is written.
        Of events that the key does not reach only position, type and object are shown. Personal data needs
        the scope `personal_data`."""
        chosen = get_projection(projection, param="projection")
        viewer = Viewer(
            caller.key.id,
            lambda account, livemode: callers.can_see(caller, account, livemode),
            "personal_data" in caller.key.scopes,
        )
        async with open_connection(
            store.dsn,
            "ledger_projector",
            name="operator",
            settings=PLANNER_SETTINGS,
            answer_seconds=BACKGROUND_ANSWER_SECONDS,
        ) as conn:
            query = StepQuery(position, after, before, stream)
            step = await load_step(conn, store.codec, store.clock.now(), chosen, query, viewer)
        return step.to_json()

    return router
