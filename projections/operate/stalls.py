"""Why a generation does not move: what the database knows of runners, their failures, and their obstacles.

A runner that is stopped loses its connection within seconds, so a slot that is held is that of a process that
works. The causes are looked for from the one that excludes the others to the one that nothing explains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ledger.postgres.connections import Conn, fetch_all
from projections.engine.assignment import count_runners, is_other_release_running
from projections.engine.batch import GenerationKey
from projections.engine.failures import list_failures
from projections.engine.status import GenerationStatus, StallCause
from projections.read_models.catalog import PROJECTIONS_BY_NAME

_OBSTACLES = (
    "SELECT kind, projection, generation, relation, pid, name, state, seconds FROM projections.obstacles()"
)
_SHAPES = "SELECT projection, generation, shape FROM projections.checkpoints"

STALL_CODES = (
    "no_worker", "other_release", "not_of_this_release", "later_shape", "batch_failed", "lock",
    "checkpoint_locked", "standby", "unknown",
)  # fmt: skip
NOT_OF_THIS_RELEASE = StallCause(
    "not_of_this_release",
    "No worker of this release has this projection: retire it, or run the one that has.",
)
LATER_SHAPE = StallCause(
    "later_shape", "A later release built it: only workers of that release apply events to it."
)
NO_WORKER = StallCause("no_worker", "No worker is running: start one with `ledger worker` or `ledger serve`.")
OTHER_RELEASE = StallCause(
    "other_release", "Only workers of another release are running: start one of this release."
)
UNKNOWN = StallCause(
    "unknown", "A worker is running and nothing is seen in its way: its log says what it does."
)


class _Obstacle(NamedTuple):
    """A session that is in the way of the runners; `kind` is one of lock, checkpoint, standby."""

    kind: str
    projection: str | None
    generation: int | None
    relation: str | None
    pid: int | None
    name: str | None
    state: str | None
    seconds: float | None

    def explain(self) -> StallCause:
        """The cause that it is."""
        if self.kind == "standby":
            return StallCause(
                "standby",
                "Commits wait for a synchronous standby, and what none has confirmed is not applied: see "
                "pg_stat_replication.",
            )
        session = f"session {self.pid} ({self.name or 'without a name'}, {self.state or 'unknown state'}"
        session += f" for {self.seconds:.0f} s)" if self.seconds is not None else ")"
        if self.kind == "checkpoint":
            return StallCause(
                "checkpoint_locked", f"{session} has locked its checkpoint: end that transaction."
            )
        place = f" on {self.relation}" if self.relation else ""
        return StallCause(
            "lock", f"The worker waits for a lock{place} that {session} holds: end that transaction."
        )


class Runners(NamedTuple):
    """The processes that follow the log: how many of this release, and whether there are any of another."""

    own: int
    others: bool


async def find_runners(conn: Conn) -> Runners:
    """The runners that are connected. Raises psycopg.Error."""
    shapes = {projection.name: projection.shape for projection in PROJECTIONS_BY_NAME.values()}
    return Runners(await count_runners(conn, shapes), await is_other_release_running(conn, shapes))


async def name_causes(
    conn: Conn, statuses: Sequence[GenerationStatus], runners: Runners
) -> list[GenerationStatus]:
    """The same, each that is stalled with its cause. Raises psycopg.Error."""
    if not any(status.stalled for status in statuses):
        return list(statuses)
    failures = await list_failures(conn)
    obstacles = [_Obstacle(*row) for row in await fetch_all(conn, _OBSTACLES)]
    shapes = {GenerationKey(name, number): shape for name, number, shape in await fetch_all(conn, _SHAPES)}
    return [
        status._replace(cause=_find_cause(status, runners, shapes, failures, obstacles))
        if status.stalled
        else status
        for status in statuses
    ]


def _find_cause(
    status: GenerationStatus,
    runners: Runners,
    shapes: Mapping[GenerationKey, int],
    failures: Mapping[GenerationKey, str],
    obstacles: Sequence[_Obstacle],
) -> StallCause:
    key = GenerationKey(status.lag.projection, status.lag.generation)
    projection = PROJECTIONS_BY_NAME.get(key.projection)
    if projection is None:
        return NOT_OF_THIS_RELEASE
    if not runners.own:
        return OTHER_RELEASE if runners.others else NO_WORKER
    if shapes.get(key, 1) > projection.shape:
        return LATER_SHAPE
    if key in failures:
        return StallCause("batch_failed", f"Its batches cannot be written: {failures[key]}")
    own = [each for each in obstacles if (each.projection, each.generation) == key]
    # A runner that waits for one table applies nothing to the others of its batch.
    others = [each for each in obstacles if each.kind != "checkpoint"]
    return next((each.explain() for each in (*own, *others)), UNKNOWN)
