"""What operators do to projections: each action once, with its validation, refusals and record.

The command line and HTTP call these methods and only translate: options or JSON in, text or JSON out. An
action with an idempotency key takes effect once; repeated, it returns the present state of what it did then.
Errors are RequestErrors: InvalidParameter for an argument, UnknownObject or UnknownReference for a name,
InvalidProjectionState for what the state of the projection does not allow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from ledger.clock import Clock
from ledger.errors import InvalidParameter, InvalidProjectionState, UnknownObject, UnknownReference
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec
from ledger.wire.suggestions import find_nearest
from projections.engine import checkpoints, operations
from projections.engine.assignment import is_other_release_running
from projections.engine.checkpoints import StillParked
from projections.engine.engine import Engine
from projections.engine.operations import AlreadyDone, DoneOperation, Operator
from projections.engine.registration import projection_exists
from projections.engine.status import GenerationStatus, describe_projection, load_statuses
from projections.operate.reports import ProjectionReport, RebuildReport, StatusReport
from projections.operate.stalls import find_runners, name_causes
from projections.projection import Projection
from projections.read_models.catalog import PROJECTIONS, PROJECTIONS_BY_NAME
from projections.rebuild import generations, promotion, records, verification
from projections.rebuild.records import WORKERS_MAX
from projections.rebuild.verification import Verification

NAMES_MAX = 100
REASON_LENGTH_MAX = 1000
GENERATION_MAX = 2**31 - 1
SAMPLE_MAX = 10_000
"""Streams of one sample. A full check has no limit."""

ReturnValue = TypeVar("ReturnValue")


class Actions:
    """The actions of operators on one database, over one connection.

    create_engine  makes the engine that applies the events of a parked stream; it is closed here
    """

    def __init__(
        self, conn: Conn, dsn: str, codec: Codec, clock: Clock, create_engine: Callable[[], Engine]
    ) -> None:
        self._conn = conn
        self._dsn = dsn
        self._codec = codec
        self._clock = clock
        self._create_engine = create_engine

    async def load_status(self, name: str | None = None) -> StatusReport:
        """The state of one projection, or of all. Raises UnknownObject."""
        if name is not None:
            one = await self.load_projection(name)
            rebuilds = [] if one.rebuild is None else [one.rebuild]
            return StatusReport(one.generations, rebuilds, (name,), one.workers)
        statuses, workers = await self._load_statuses()
        rebuilds = [await self._load_rebuild(each) for each in await records.list_open(self._conn)]
        return StatusReport(statuses, rebuilds, workers=workers)

    async def load_projection(self, name: str) -> ProjectionReport:
        """The state of one projection, and what was done to it. Raises UnknownObject."""
        await self._require_projection(name)
        statuses, workers = await self._load_statuses()
        rebuild_id = await records.find_active(self._conn, name)
        return ProjectionReport(
            name,
            [status for status in statuses if status.lag.projection == name],
            None if rebuild_id is None else await self._load_rebuild(rebuild_id),
            await operations.list_operations(self._conn, name),
            workers,
        )

    async def _load_statuses(self) -> tuple[list[GenerationStatus], int]:
        """Every generation, with the cause where it is stalled, and the number of workers."""
        statuses = await load_statuses(self._conn, now=self._clock.now())
        runners = await find_runners(self._conn)
        return await name_causes(self._conn, statuses, runners), runners.own

    async def describe_projection(self, name: str) -> dict[str, Any]:
        """A projection and its generations as a JSON object, also of one that has just been removed."""
        return describe_projection(name, await load_statuses(self._conn, now=self._clock.now()))

    async def verify(
        self, names: Sequence[str], *, all_projections: bool = False, sample: int | None = None
    ) -> list[Verification]:
        """Compare live rows with a replay of the log, of all projections when none is named: about `sample`
        streams of each, or all. One that could not be verified has an `error`.

        Raises InvalidParameter, UnknownReference, psycopg.OperationalError.
        """
        if sample is not None:
            _check_range("sample", sample, SAMPLE_MAX)
        projections = _select_projections(names, all_projections=all_projections or not names)
        results = await verification.verify(self._dsn, self._codec, self._clock, projections, sample=sample)
        by_name = {result.projection: result for result in results}
        return [
            by_name.get(projection.name)
            or Verification(projection.name, error="it is not live in this release's shape")
            for projection in projections
        ]

    async def retry(self, operator: Operator, name: str, stream: str) -> dict[int, StillParked]:
        """Apply the parked events of a stream. Returns the generations in which it is still parked.

        Raises UnknownObject, InvalidProjectionState when the stream is not parked.
        """
        get_projection(name)

        async def apply() -> None:
            engine = self._create_engine()
            try:
                await engine.retry(name, stream, operator)
            finally:
                await engine.close()

        await self._run_once(operator, "retry", name, apply, lambda _: None)
        return await checkpoints.find_still_parked(self._conn, name, stream)

    async def rebuild(
        self,
        operator: Operator,
        names: Sequence[str],
        *,
        all_projections: bool = False,
        workers: int = 1,
        accept_differences: bool = False,
    ) -> RebuildReport:
        """Begin one rebuild of these projections, for a worker or the caller to drive: they are promoted
        together or not at all. `accept_differences` also promotes rows that differ from the live ones.

        Raises InvalidParameter, UnknownReference, InvalidProjectionState when one is being rebuilt already.
        """
        projections = _select_projections(names, all_projections=all_projections)
        _check_range("workers", workers, WORKERS_MAX)
        if accept_differences:
            _require_reason(operator, "accepting the differences")

        async def begin() -> int:
            return await records.begin(
                self._conn, projections, operator, workers=workers, accept_differences=accept_differences
            )

        first = projections[0].name
        return await self._load_rebuild(
            await self._run_once(operator, "rebuild", first, begin, _get_rebuild_id)
        )

    async def pause(self, operator: Operator, name: str) -> RebuildReport:
        """Pause the open rebuild of a projection; its work is kept. Raises UnknownObject,
        InvalidProjectionState when it has none, or one that waits for a decision."""
        return await self._change_rebuild(operator, "pause", name, records.pause)

    async def resume(self, operator: Operator, name: str) -> RebuildReport:
        """Continue the open rebuild of a projection, for a worker or the caller to drive; one with
        differences is compared again. Raises UnknownObject, InvalidProjectionState when it has none."""
        return await self._change_rebuild(operator, "resume", name, records.resume)

    async def cancel(self, operator: Operator, name: str) -> RebuildReport:
        """End the open rebuild of a projection and drop its tables: those that are locked are dropped by a
        worker later, and until then have a size. Raises UnknownObject, InvalidProjectionState when it has
        none."""
        return await self._change_rebuild(operator, "cancel", name, records.cancel)

    async def switch(
        self,
        operator: Operator,
        name: str,
        *,
        generation: int | None = None,
        accept_differences: bool = False,
    ) -> None:
        """Switch readers of a projection to `generation`; or promote its rebuild despite the differences,
        with all projections of it. Raises InvalidParameter, UnknownObject, InvalidProjectionState."""
        if generation is not None:
            _check_range("generation", generation, GENERATION_MAX)
            if accept_differences:
                raise InvalidParameter(
                    "Accept the differences of a rebuild, or name a generation: not both.",
                    param="accept_differences",
                )
        if accept_differences:
            _require_reason(operator, "accepting the differences")

        async def perform() -> None:
            if generation is not None:
                await generations.switch(self._conn, {name: generation}, operator)
                return
            rebuild_id = await self._get_open_rebuild_id(name)
            if not accept_differences:
                rebuild = await records.load(self._conn, rebuild_id)
                raise InvalidProjectionState(promotion.explain_not_promoted(rebuild))
            await promotion.accept_differences(self._conn, rebuild_id, operator)

        await self._run_once(operator, "switch", name, perform, lambda _: None)

    async def load_diff(self, name: str) -> dict[str, Any]:
        """The last comparison of a projection with a rebuild of it, as a JSON object. Raises UnknownObject,
        InvalidProjectionState when there was none."""
        await self._require_projection(name)
        return await generations.load_last_comparison(self._conn, name)

    async def roll_back(self, operator: Operator, name: str) -> int:
        """Switch readers back to the generation that was live before the last switch; its number. Once more
        switches forward. Raises UnknownObject, InvalidProjectionState."""

        async def perform() -> int:
            return await generations.roll_back(self._conn, name, operator)

        return await self._run_once(operator, "rollback", name, perform, lambda done: done.generation)

    async def retire(
        self, operator: Operator, name: str, *, generation: int | None = None, removed: bool = False
    ) -> list[int]:
        """Drop `generation` of a projection, or all older than the live one; with `removed` all generations
        of a projection that no release has any more. Returns their numbers, none when it is repeated.

        Raises InvalidParameter, UnknownObject, InvalidProjectionState.
        """
        if generation is not None:
            _check_range("generation", generation, GENERATION_MAX)
            if removed:
                raise InvalidParameter(
                    "A removed projection is dropped with all its generations: name none.", param="generation"
                )
        if removed:
            _require_reason(operator, "dropping the projection")

        async def perform() -> list[int]:
            if removed:
                await self._refuse_if_in_use(name)
                return await generations.remove_projection(self._conn, name, operator)
            if generation is not None:
                dropped = [generation]
            else:
                dropped = await generations.list_older_generations(self._conn, name)
            await generations.retire(self._conn, name, dropped, operator)
            return dropped

        return await self._run_once(operator, "retire", name, perform, lambda _: [])

    async def _run_once(
        self,
        operator: Operator,
        action: str,
        name: str,
        perform: Callable[[], Awaitable[ReturnValue]],
        recall: Callable[[DoneOperation], ReturnValue],
    ) -> ReturnValue:
        """What `perform` returns; or, when the operator's idempotency key was used for this action before,
        what `recall` makes of its record. Raises IdempotencyKeyReused, UnknownObject."""
        _check_reason(operator.reason)
        done = await operations.find_done(self._conn, operator, action, name)
        if done is None:
            await self._require_projection(name)
            try:
                return await perform()
            except AlreadyDone:  # by the same call in another process, at this moment
                done = await operations.find_done(self._conn, operator, action, name)
        assert done is not None
        return recall(done)

    async def _change_rebuild(
        self,
        operator: Operator,
        action: str,
        name: str,
        change: Callable[[Conn, int, Operator], Awaitable[object]],
    ) -> RebuildReport:
        async def perform() -> int:
            rebuild_id = await self._get_open_rebuild_id(name)
            await change(self._conn, rebuild_id, operator)
            return rebuild_id

        return await self._load_rebuild(
            await self._run_once(operator, action, name, perform, _get_rebuild_id)
        )

    async def _load_rebuild(self, rebuild_id: int) -> RebuildReport:
        rebuild = await records.load(self._conn, rebuild_id)
        return RebuildReport(rebuild, await records.load_size_bytes(self._conn, rebuild))

    async def _get_open_rebuild_id(self, name: str) -> int:
        rebuild_id = await records.find_active(self._conn, name)
        if rebuild_id is None:
            raise InvalidProjectionState(f"{name} is not being rebuilt.")
        return rebuild_id

    async def _require_projection(self, name: str) -> None:
        """Raises UnknownObject unless this release or another has such a projection."""
        if not await projection_exists(self._conn, PROJECTIONS, name):
            raise UnknownObject("projection", name, param="name", hint=_suggest(name))

    async def _refuse_if_in_use(self, name: str) -> None:
        """Raises InvalidProjectionState while this release, or a running worker of another, has it."""
        if name in PROJECTIONS_BY_NAME:
            raise InvalidProjectionState(f"{name} is a projection of this release.")
        shapes = {projection.name: projection.shape for projection in PROJECTIONS}
        if await is_other_release_running(self._conn, shapes):
            raise InvalidProjectionState(
                f"a worker of another release, which may still have {name}, is running: stop it first."
            )


def get_projection(name: str, *, param: str = "name") -> Projection:
    """A projection of this release. Raises UnknownObject, naming the parameter."""
    projection = PROJECTIONS_BY_NAME.get(name)
    if projection is None:
        raise UnknownObject("projection", name, param=param, hint=_suggest(name))
    return projection


def _suggest(name: str) -> str:
    """The end of an error about an unknown name: the nearest one, if one is near."""
    nearest = find_nearest(name, PROJECTIONS_BY_NAME)
    return f". Did you mean {nearest}?" if nearest else ""


def _select_projections(names: Sequence[str], *, all_projections: bool) -> list[Projection]:
    """The projections named, or all of this release."""
    if all_projections:
        if names:
            raise InvalidParameter("Name projections, or ask for all: not both.", param="all")
        return list(PROJECTIONS)
    for name in names:
        if name not in PROJECTIONS_BY_NAME:
            raise UnknownReference("projection", name, param="names", hint=_suggest(name))
    if not names:
        raise InvalidParameter("Name projections, or pass all (in the shell: --all).", param="names")
    return [PROJECTIONS_BY_NAME[name] for name in dict.fromkeys(names)]


def _get_rebuild_id(done: DoneOperation) -> int:
    return int(done.details["rebuild"])


def _check_range(param: str, value: int, maximum: int) -> None:
    if not 1 <= value <= maximum:
        raise InvalidParameter(f"Must be 1 to {maximum}.", param=param)


def _check_reason(reason: str) -> None:
    storable = "\0" not in reason and not any("\ud800" <= character <= "\udfff" for character in reason)
    if not storable or len(reason) > REASON_LENGTH_MAX:
        raise InvalidParameter(f"Must be text of at most {REASON_LENGTH_MAX} characters.", param="reason")


def _require_reason(operator: Operator, action: str) -> None:
    if not operator.reason.strip():
        raise InvalidParameter(
            f"Give a reason for {action}; it is kept on record.", code="parameter_missing", param="reason"
        )
