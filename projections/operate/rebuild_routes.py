"""Operating projections over HTTP, with the scope `projections`: rebuild, switch, roll back and retire.

A worker drives a rebuild that is begun here; the answer shows it as it is now, and so does every GET. A call
with an Idempotency-Key takes effect once; repeated, it is answered with the present state of what it did.
"""

from __future__ import annotations

from typing import Any, ClassVar

from fastapi import APIRouter, Request
from pydantic import Field

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers
from ledger.api.openapi.answers import answers_with
from ledger.audit.accesses import Accesses
from ledger.store.store import Store
from projections.operate.actions import GENERATION_MAX, get_projection
from projections.operate.routes import Name, NameList, OperationBody, get_operator, open_actions
from projections.rebuild.records import WORKERS_MAX

_REBUILD, _PROJECTION = answers_with("rebuild"), answers_with("projection")


class AcceptDifferencesBody(OperationBody):
    accept_differences: bool = Field(
        False, description="Promote it even if rows differ from the live ones; takes a reason."
    )


class RebuildBody(AcceptDifferencesBody):
    workers: int = Field(1, ge=1, le=WORKERS_MAX, description="Backfill processes.", examples=[2])


class RebuildManyBody(RebuildBody):
    NEWER_FIELDS: ClassVar[frozenset[str]] = frozenset({"all"})

    names: NameList = Field([], description="The projections, or `all`.", examples=[["customers", "feed"]])
    all: bool = Field(False, description="Every projection of this release.")


class SwitchBody(AcceptDifferencesBody):
    generation: int | None = Field(
        None,
        ge=1,
        le=GENERATION_MAX,
        description="Generation to switch to; default: the rebuilt one.",
        examples=[2],
    )


class RetireBody(OperationBody):
    NEWER_FIELDS: ClassVar[frozenset[str]] = frozenset({"removed"})

    generation: int | None = Field(
        None,
        ge=1,
        le=GENERATION_MAX,
        description="Generation to drop; default: all older than the live one.",
        examples=[1],
    )
    removed: bool = Field(
        False, description="Drop a projection that no release has any more; takes a reason."
    )


def rebuild_routes(callers: Callers, store: Store, _: Accesses) -> APIRouter:
    """The routes that change rebuilds and live generations."""
    router = APIRouter(prefix="/projections", tags=["projections"])
    scope = callers.require_scopes("projections")
    _add_rebuild_routes(router, scope, store)
    _add_control_routes(router, scope, store)
    _add_generation_routes(router, scope, store)
    return router


def _add_rebuild_routes(router: APIRouter, scope: Any, store: Store) -> None:
    async def begin(
        request: Request,
        names: list[str],
        body: RebuildBody,
        caller: Exchange,
        *,
        all_projections: bool = False,
    ) -> dict[str, Any]:
        async with open_actions(store) as actions:
            report = await actions.rebuild(
                get_operator(request, caller, body),
                names,
                all_projections=all_projections,
                workers=body.workers,
                accept_differences=body.accept_differences,
            )
        return report.to_json()

    @router.post("/rebuild", summary="Rebuild several projections in one pass", responses=_REBUILD)
    async def rebuild_projections(
        request: Request, body: RebuildManyBody, caller: Exchange = scope
    ) -> dict[str, Any]:
        """They are promoted together or not at all."""
        return await begin(request, body.names, body, caller, all_projections=body.all)

    @router.post(
        "/{name}/rebuild", summary="Rebuild a projection beside the live generation", responses=_REBUILD
    )
    async def rebuild_projection(
        request: Request, name: Name, body: RebuildBody, caller: Exchange = scope
    ) -> dict[str, Any]:
        """A worker backfills, compares, and promotes it when the rows are equal. 409 when it is being rebuilt
        already, saying by whom."""
        get_projection(name)
        return await begin(request, [name], body, caller)


def _add_control_routes(router: APIRouter, scope: Any, store: Store) -> None:
    @router.post("/{name}/pause", summary="Pause the rebuild of a projection", responses=_REBUILD)
    async def pause_rebuild(
        request: Request, name: Name, body: OperationBody | None = None, caller: Exchange = scope
    ) -> dict[str, Any]:
        """Its work is kept."""
        async with open_actions(store) as actions:
            return (await actions.pause(get_operator(request, caller, body), name)).to_json()

    @router.post("/{name}/resume", summary="Continue a rebuild that was paused or failed", responses=_REBUILD)
    async def resume_rebuild(
        request: Request, name: Name, body: OperationBody | None = None, caller: Exchange = scope
    ) -> dict[str, Any]:
        """A rebuild with differences is compared again."""
        async with open_actions(store) as actions:
            return (await actions.resume(get_operator(request, caller, body), name)).to_json()

    @router.post(
        "/{name}/cancel", summary="End the rebuild of a projection and drop its tables", responses=_REBUILD
    )
    async def cancel_rebuild(
        request: Request, name: Name, body: OperationBody | None = None, caller: Exchange = scope
    ) -> dict[str, Any]:
        """Tables locked by a reader or an index build are dropped later by a worker."""
        async with open_actions(store) as actions:
            return (await actions.cancel(get_operator(request, caller, body), name)).to_json()


def _add_generation_routes(router: APIRouter, scope: Any, store: Store) -> None:
    @router.post("/{name}/switch", summary="Switch readers to another generation", responses=_PROJECTION)
    async def switch_generation(
        request: Request, name: Name, body: SwitchBody, caller: Exchange = scope
    ) -> dict[str, Any]:
        """To `generation`; or, with `accept_differences`, to the rebuilt one that differs, together with the
        other projections of that rebuild."""
        async with open_actions(store) as actions:
            await actions.switch(
                get_operator(request, caller, body),
                name,
                generation=body.generation,
                accept_differences=body.accept_differences,
            )
            return await actions.describe_projection(name)

    @router.get(
        "/{name}/diff",
        summary="Get how the last rebuild differed from the live generation",
        responses=answers_with("rebuild_differences"),
    )
    async def get_rebuild_differences(name: Name, caller: Exchange = scope) -> dict[str, Any]:
        """The first rows that differ, by path, without personal data. 409 when no rebuild was compared."""
        async with open_actions(store) as actions:
            return await actions.load_diff(name)

    @router.post(
        "/{name}/rollback",
        summary="Switch back to the generation that was live before",
        responses=_PROJECTION,
    )
    async def roll_back_projection(
        request: Request, name: Name, body: OperationBody | None = None, caller: Exchange = scope
    ) -> dict[str, Any]:
        """Calling it twice switches forward again: give an Idempotency-Key if you may repeat it."""
        async with open_actions(store) as actions:
            await actions.roll_back(get_operator(request, caller, body), name)
            return await actions.describe_projection(name)

    @router.post("/{name}/retire", summary="Drop generations of a projection", responses=_PROJECTION)
    async def retire_generations(
        request: Request, name: Name, body: RetireBody | None = None, caller: Exchange = scope
    ) -> dict[str, Any]:
        """They cannot be rolled back to. 409 for the live one, and for one that is being built."""
        generation, removed = (None, False) if body is None else (body.generation, body.removed)
        async with open_actions(store) as actions:
            operator = get_operator(request, caller, body)
            await actions.retire(operator, name, generation=generation, removed=removed)
            return await actions.describe_projection(name)
