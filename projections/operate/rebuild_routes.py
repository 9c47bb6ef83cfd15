"""The operators' routes that rebuild, switch, go back and retire, with the scope `projections`.

A rebuild asked for here is driven by a worker; the answer tells where it stands, and so does every GET. What
was done by which key is on record beside what was done from a shell; what has an Idempotency-Key is done
once, and asked for again gets how it stands then, not the first answer's bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from pydantic import Field, StringConstraints

from ledger.api.internal.callers import Caller, Callers
from ledger.commands.models import Keepable, Positive
from ledger.errors import InvalidParameter, OperationRefused
from ledger.store.store import Store
from projections.engine import operations
from projections.engine.operations import AlreadyDone, Operator
from projections.engine.registry import BY_NAME, described, status
from projections.operate.routes import Body, Name, existing, known, operator_of, rebuild_told, session
from projections.rebuild import generations, promotion, records
from projections.rebuild.records import WORKERS_MAX

NAMES_MAX = 100

Do = Callable[[AsyncConnection[TupleRow], Operator], Awaitable[object]]


class AcceptingBody(Body):
    """One that may accept differences, which takes a reason."""

    accept_differences: bool = Field(False, description="Switch also if rows differ from the live ones.")

    def say_why(self) -> None:
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
    names: list[Annotated[Keepable, StringConstraints(max_length=255)]] = Field(
        min_length=1,
        max_length=NAMES_MAX,
        description="The projections: one pass over the log, and one switch.",
        examples=[["customers", "feed"]],
    )


class SwitchBody(AcceptingBody):
    generation: Positive | None = Field(None, description="To which; else to what was rebuilt.", examples=[2])


class RetireBody(Body):
    generation: Positive | None = Field(
        None, description="Which; else all made before the live one.", examples=[1]
    )


def rebuild_routes(callers: Callers, store: Store) -> APIRouter:
    """Each changes something at once or, for a rebuild, registers what a worker then does."""
    router = APIRouter(prefix="/projections", tags=["projections"])
    operator = callers.scoped("projections")

    async def once(
        request: Request, names: Sequence[str], action: str, caller: Caller, body: Body | None, do: Do
    ) -> dict[str, Any]:
        """How it stands once it is done, now or before under the same Idempotency-Key."""
        by = operator_of(request, caller, body or Body(reason=""))
        name = names[0]
        async with session(store) as conn:
            for each in names:
                await existing(conn, each)
            if not await operations.was_done(conn, by, action, name):
                try:
                    await do(conn, by)
                except AlreadyDone:  # at this moment, perhaps with another body
                    await operations.was_done(conn, by, action, name)
            if action in ("switch", "rollback", "retire"):
                return described(name, await status(conn, now=store.clock.now()))
            return await rebuild_told(conn, await records.last(conn, name))

    async def build(
        request: Request, names: Sequence[str], body: RebuildBody, caller: Caller
    ) -> dict[str, Any]:
        body.say_why()
        projections = [known(name) for name in dict.fromkeys(names)]

        async def begin(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            accepted = body.accept_differences
            await records.begin(conn, projections, by, workers=body.workers, accept_differences=accepted)

        return await once(request, names, "rebuild", caller, body, begin)

    @router.post("/rebuild", summary="Build several anew in one pass beside what is live")
    async def rebuild_many(
        request: Request, body: RebuildManyBody, caller: Caller = operator
    ) -> dict[str, Any]:
        """As one of them alone; they are switched together or not at all."""
        for name in body.names:
            if name not in BY_NAME:
                raise InvalidParameter(
                    f"No such projection: '{name}'", code="resource_missing", param="names"
                )
        return await build(request, body.names, body, caller)

    @router.post("/{name}/rebuild", summary="Build it anew beside what is live")
    async def rebuild(
        request: Request, name: Name, body: RebuildBody, caller: Caller = operator
    ) -> dict[str, Any]:
        """A worker fills, compares and, if it says the same as what is live, switches to it. 409 when it is
        being rebuilt already, saying by whom."""
        return await build(request, [name], body, caller)

    @router.post("/{name}/pause", summary="Have its rebuild stop; nothing done is lost")
    async def pause(
        request: Request, name: Name, body: Body | None = None, caller: Caller = operator
    ) -> dict[str, Any]:
        async def stop(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            await records.pause(conn, await _under_way(conn, name), by)

        return await once(request, [name], "pause", caller, body, stop)

    @router.post("/{name}/resume", summary="Go on with a rebuild that was paused or failed")
    async def resume(
        request: Request, name: Name, body: Body | None = None, caller: Caller = operator
    ) -> dict[str, Any]:
        """One that differs is compared again."""

        async def go_on(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            await records.resume(conn, await _under_way(conn, name), by)

        return await once(request, [name], "resume", caller, body, go_on)

    @router.post("/{name}/cancel", summary="End its rebuild and drop what it made")
    async def cancel(
        request: Request, name: Name, body: Body | None = None, caller: Caller = operator
    ) -> dict[str, Any]:
        """What an index being built, or a reader, is in the way of a worker drops later."""

        async def end(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            await records.cancel(conn, await _under_way(conn, name), by)

        return await once(request, [name], "cancel", caller, body, end)

    @router.post("/{name}/switch", summary="Make another generation the one that readers see")
    async def switch(
        request: Request, name: Name, body: SwitchBody, caller: Caller = operator
    ) -> dict[str, Any]:
        """To the generation named, or with `accept_differences` to what was rebuilt and differs, together
        with the other views of that rebuild."""
        body.say_why()

        async def to(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            if body.generation is not None:
                await generations.switch(conn, {name: body.generation}, by)
                return
            number = await _under_way(conn, name)
            if not body.accept_differences:
                raise OperationRefused(promotion.undecided(await records.load(conn, number)))
            await promotion.accept(conn, number, by)

        return await once(request, [name], "switch", caller, body, to)

    @router.get("/{name}/diff", summary="How the last rebuild of it differed from what was live")
    async def diff(name: Name, caller: Caller = operator) -> dict[str, Any]:
        """The first rows, by path; personal data is never told, only that it differs. 409 when none has come
        to comparing."""
        async with session(store) as conn:
            await existing(conn, name)
            return await generations.last_comparison(conn, name)

    @router.post("/{name}/rollback", summary="Make the generation live again that was before")
    async def rollback(
        request: Request, name: Name, body: Body | None = None, caller: Caller = operator
    ) -> dict[str, Any]:
        """A second one goes forth again: give an Idempotency-Key where a call may be repeated."""

        async def back(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            await generations.rollback(conn, name, by)

        return await once(request, [name], "rollback", caller, body, back)

    @router.post("/{name}/retire", summary="Drop a generation, or all made before the live one")
    async def retire(
        request: Request, name: Name, body: RetireBody | None = None, caller: Caller = operator
    ) -> dict[str, Any]:
        """Then there is no way back to it. 409 for the live one, and for one that is being built."""
        generation = None if body is None else body.generation

        async def drop(conn: AsyncConnection[TupleRow], by: Operator) -> None:
            which = await generations.older(conn, name) if generation is None else [generation]
            for each in which:
                # Under one key one is on record, the last: asked for again, what is left of them is dropped.
                last = each == which[-1]
                await generations.retire(conn, name, each, by if last else by._replace(key=None))

        return await once(request, [name], "retire", caller, body, drop)

    return router


async def _under_way(conn: AsyncConnection[TupleRow], name: str) -> int:
    number = await records.under_way(conn, name)
    if number is None:
        raise OperationRefused(f"{name} is not being rebuilt.")
    return number
