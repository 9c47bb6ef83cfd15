"""The operators' routes that rebuild, switch, go back and retire, with the scope `projections`.

A rebuild asked for here is driven by a worker; the answer tells where it stands, and so does every GET. What
was done by which key is on record beside what was done from a shell; what has an Idempotency-Key is done
once, and asked for again gets how it stands then, not the first answer's bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints

from ledger.api.internal.callers import Caller, Callers
from ledger.commands.models import PositiveInteger, StorableText
from ledger.errors import InvalidParameter, InvalidProjectionState
from ledger.postgres.connections import Conn
from ledger.store.store import Store
from projections.engine import operations
from projections.engine.operations import AlreadyDone, Operator
from projections.engine.status import describe_projection, load_statuses
from projections.operate.routes import (
    Body,
    Name,
    get_operator,
    get_projection,
    load_rebuild_json,
    open_operator_connection,
    require_projection,
)
from projections.read_models.catalog import PROJECTIONS_BY_NAME
from projections.rebuild import generations, promotion, records
from projections.rebuild.records import WORKERS_MAX

NAMES_MAX = 100

OperatorAction = Callable[[Conn, Operator], Awaitable[object]]


class AcceptingBody(Body):
    """One that may accept differences, which takes a reason."""

    accept_differences: bool = Field(False, description="Switch also if rows differ from the live ones.")

    def require_reason(self) -> None:
        """Raises InvalidParameter for differences accepted without a word."""
        if self.accept_differences and not self.reason.strip():
            raise InvalidParameter(
                "Say why the differences are accepted; it is kept on record.",
                code="parameter_missing",
                param="reason",
            )


class RebuildBody(AcceptingBody):
    workers: int = Field(1, ge=1, le=WORKERS_MAX, description="Processes that fill.", examples=[2])


class RebuildManyBody(RebuildBody):
    names: list[Annotated[StorableText, StringConstraints(max_length=255)]] = Field(
        min_length=1,
        max_length=NAMES_MAX,
        description="The projections: one pass over the log, and one switch.",
        examples=[["customers", "feed"]],
    )


class SwitchBody(AcceptingBody):
    generation: PositiveInteger | None = Field(
        None, description="To which; else to what was rebuilt.", examples=[2]
    )


class RetireBody(Body):
    generation: PositiveInteger | None = Field(
        None, description="Which; else all made before the live one.", examples=[1]
    )


def rebuild_routes(callers: Callers, store: Store) -> APIRouter:
    """Each changes something at once or, for a rebuild, registers what a worker then does."""
    router = APIRouter(prefix="/projections", tags=["projections"])
    projections_scope = callers.require_scopes("projections")

    async def run_once(
        request: Request,
        names: Sequence[str],
        action: str,
        caller: Caller,
        body: Body | None,
        perform: OperatorAction,
    ) -> dict[str, Any]:
        """How it stands once it is done, now or before under the same Idempotency-Key."""
        operator = get_operator(request, caller, body or Body(reason=""))
        name = names[0]
        async with open_operator_connection(store) as conn:
            for projection_name in names:
                await require_projection(conn, projection_name)
            if not await operations.was_done(conn, operator, action, name):
                try:
                    await perform(conn, operator)
                except AlreadyDone:  # at this moment, perhaps with another body
                    await operations.was_done(conn, operator, action, name)
            if action in ("switch", "rollback", "retire"):
                return describe_projection(name, await load_statuses(conn, now=store.clock.now()))
            return await load_rebuild_json(conn, await records.find_last(conn, name))

    async def begin_rebuild(
        request: Request, names: Sequence[str], body: RebuildBody, caller: Caller
    ) -> dict[str, Any]:
        body.require_reason()
        projections = [get_projection(name) for name in dict.fromkeys(names)]

        async def perform(conn: Conn, operator: Operator) -> None:
            accept_differences = body.accept_differences
            await records.begin(
                conn, projections, operator, workers=body.workers, accept_differences=accept_differences
            )

        return await run_once(request, names, "rebuild", caller, body, perform)

    @router.post("/rebuild", summary="Build several anew in one pass beside what is live")
    async def rebuild_many(
        request: Request, body: RebuildManyBody, caller: Caller = projections_scope
    ) -> dict[str, Any]:
        """As one of them alone; they are switched together or not at all."""
        for name in body.names:
            if name not in PROJECTIONS_BY_NAME:
                raise InvalidParameter(
                    f"No such projection: '{name}'", code="resource_missing", param="names"
                )
        return await begin_rebuild(request, body.names, body, caller)

    @router.post("/{name}/rebuild", summary="Build it anew beside what is live")
    async def rebuild(
        request: Request, name: Name, body: RebuildBody, caller: Caller = projections_scope
    ) -> dict[str, Any]:
        """A worker fills, compares and, if it says the same as what is live, switches to it. 409 when it is
        being rebuilt already, saying by whom."""
        return await begin_rebuild(request, [name], body, caller)

    @router.post("/{name}/pause", summary="Have its rebuild stop; nothing done is lost")
    async def pause(
        request: Request, name: Name, body: Body | None = None, caller: Caller = projections_scope
    ) -> dict[str, Any]:
        async def perform(conn: Conn, operator: Operator) -> None:
            await records.pause(conn, await _get_active_rebuild_id(conn, name), operator)

        return await run_once(request, [name], "pause", caller, body, perform)

    @router.post("/{name}/resume", summary="Go on with a rebuild that was paused or failed")
    async def resume(
        request: Request, name: Name, body: Body | None = None, caller: Caller = projections_scope
    ) -> dict[str, Any]:
        """One that differs is compared again."""

        async def perform(conn: Conn, operator: Operator) -> None:
            await records.resume(conn, await _get_active_rebuild_id(conn, name), operator)

        return await run_once(request, [name], "resume", caller, body, perform)

    @router.post("/{name}/cancel", summary="End its rebuild and drop what it made")
    async def cancel(
        request: Request, name: Name, body: Body | None = None, caller: Caller = projections_scope
    ) -> dict[str, Any]:
        """What an index being built, or a reader, is in the way of a worker drops later."""

        async def perform(conn: Conn, operator: Operator) -> None:
            await records.cancel(conn, await _get_active_rebuild_id(conn, name), operator)

        return await run_once(request, [name], "cancel", caller, body, perform)

    @router.post("/{name}/switch", summary="Make another generation the one that readers see")
    async def switch(
        request: Request, name: Name, body: SwitchBody, caller: Caller = projections_scope
    ) -> dict[str, Any]:
        """To the generation named, or with `accept_differences` to what was rebuilt and differs, together
        with the other views of that rebuild."""
        body.require_reason()

        async def perform(conn: Conn, operator: Operator) -> None:
            if body.generation is not None:
                await generations.switch(conn, {name: body.generation}, operator)
                return
            rebuild_id = await _get_active_rebuild_id(conn, name)
            if not body.accept_differences:
                raise InvalidProjectionState(
                    promotion.explain_not_promoted(await records.load(conn, rebuild_id))
                )
            await promotion.accept_differences(conn, rebuild_id, operator)

        return await run_once(request, [name], "switch", caller, body, perform)

    @router.get("/{name}/diff", summary="How the last rebuild of it differed from what was live")
    async def diff(name: Name, caller: Caller = projections_scope) -> dict[str, Any]:
        """The first rows, by path; personal data is never told, only that it differs. 409 when none has come
        to comparing."""
        async with open_operator_connection(store) as conn:
            await require_projection(conn, name)
            return await generations.load_last_comparison(conn, name)

    @router.post("/{name}/rollback", summary="Make the generation live again that was before")
    async def rollback(
        request: Request, name: Name, body: Body | None = None, caller: Caller = projections_scope
    ) -> dict[str, Any]:
        """A second one goes forth again: give an Idempotency-Key where a call may be repeated."""

        async def perform(conn: Conn, operator: Operator) -> None:
            await generations.roll_back(conn, name, operator)

        return await run_once(request, [name], "rollback", caller, body, perform)

    @router.post("/{name}/retire", summary="Drop a generation, or all made before the live one")
    async def retire(
        request: Request, name: Name, body: RetireBody | None = None, caller: Caller = projections_scope
    ) -> dict[str, Any]:
        """Then there is no way back to it. 409 for the live one, and for one that is being built."""
        generation = None if body is None else body.generation

        async def perform(conn: Conn, operator: Operator) -> None:
            retired = (
                await generations.list_older_generations(conn, name) if generation is None else [generation]
            )
            for old_generation in retired:
                # Under one key one is on record, the last: asked for again, what is left of them is dropped.
                is_last = old_generation == retired[-1]
                await generations.retire(
                    conn,
                    name,
                    old_generation,
                    operator if is_last else operator._replace(idempotency_key=None),
                )

        return await run_once(request, [name], "retire", caller, body, perform)

    return router


async def _get_active_rebuild_id(conn: Conn, name: str) -> int:
    rebuild_id = await records.find_active(conn, name)
    if rebuild_id is None:
        raise InvalidProjectionState(f"{name} is not being rebuilt.")
    return rebuild_id
