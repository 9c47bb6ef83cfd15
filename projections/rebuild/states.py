"""The rebuild as a state machine: its states, its actions, and the one function that moves it.

Nothing else writes `state` or `paused`. Each move locks the rebuild's row first and checks the state that it
finds, so of two processes that move the same rebuild at once the second sees what the first one did.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from ledger.errors import InvalidProjectionState
from ledger.postgres.connections import Conn, fetch_one

_LOCK_REBUILD = "SELECT state, paused FROM projections.rebuilds WHERE id = %(rebuild)s FOR UPDATE"
_UPDATE_STATE = """
UPDATE projections.rebuilds
SET state = %(state)s, paused = %(paused)s, error = %(error)s, changed_at = now()
WHERE id = %(rebuild)s
"""


class RebuildState(StrEnum):
    """Where a rebuild is. The values are stored in `projections.rebuilds` and shown to operators.

                                                               promote
    filling ──→ indexing ──→ catching up ──→ comparing ─────────────────→ switched
                                              │     ↑                         ↑
                           report differences │     │ resume                  │
                                              ↓     │                         │
                                             differing ───────────────────────┘
                                                         accept differences

    pause, resume   filling, indexing, catching up and comparing keep their state while they are paused
    cancel          every state but switched and cancelled ──→ cancelled
    """

    BACKFILLING = "filling"
    INDEXING = "indexing"
    CATCHING_UP = "catching up"
    COMPARING = "comparing"
    DIFFERING = "differing"
    PROMOTED = "switched"
    CANCELLED = "cancelled"


INITIAL_STATE = RebuildState.BACKFILLING
RUNNING_STATES = (
    RebuildState.BACKFILLING,
    RebuildState.INDEXING,
    RebuildState.CATCHING_UP,
    RebuildState.COMPARING,
)
"""The states in which a driver works on the rebuild, unless it is paused."""
OPEN_STATES = (*RUNNING_STATES, RebuildState.DIFFERING)
"""The states of a rebuild that has not ended."""
ENDED_STATES = (RebuildState.PROMOTED, RebuildState.CANCELLED)


class RebuildAction(StrEnum):
    """What moves a rebuild. The values appear in error texts."""

    BUILD_INDEXES = "build indexes"
    CATCH_UP = "catch up"
    COMPARE = "compare"
    REPORT_DIFFERENCES = "report differences"
    PROMOTE = "promote"
    ACCEPT_DIFFERENCES = "accept differences"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


class Transition(NamedTuple):
    """What an action does.

    moves        the state it leads to, by the state it starts from; from any other it is refused
    if_paused    whether it may start from a paused rebuild
    then_paused  whether the rebuild is paused afterwards
    """

    moves: Mapping[RebuildState, RebuildState]
    if_paused: bool = False
    then_paused: bool = False


_STAY = {state: state for state in RUNNING_STATES}

TRANSITIONS: Mapping[RebuildAction, Transition] = MappingProxyType(
    {
        # The driver's. A paused rebuild refuses them, so a driver that did not notice the pause stops here.
        RebuildAction.BUILD_INDEXES: Transition({RebuildState.BACKFILLING: RebuildState.INDEXING}),
        RebuildAction.CATCH_UP: Transition({RebuildState.INDEXING: RebuildState.CATCHING_UP}),
        # From comparing to itself: another driver took over, or another generation became live meanwhile.
        # `changed_at` then says when the comparison that counts began.
        RebuildAction.COMPARE: Transition(
            {
                RebuildState.CATCHING_UP: RebuildState.COMPARING,
                RebuildState.COMPARING: RebuildState.COMPARING,
            }
        ),
        RebuildAction.REPORT_DIFFERENCES: Transition({RebuildState.COMPARING: RebuildState.DIFFERING}),
        RebuildAction.PROMOTE: Transition({RebuildState.COMPARING: RebuildState.PROMOTED}),
        # The operator's; the driver also pauses a rebuild that failed.
        RebuildAction.ACCEPT_DIFFERENCES: Transition({RebuildState.DIFFERING: RebuildState.PROMOTED}),
        RebuildAction.PAUSE: Transition(_STAY, if_paused=True, then_paused=True),
        RebuildAction.RESUME: Transition(
            {**_STAY, RebuildState.DIFFERING: RebuildState.COMPARING}, if_paused=True
        ),
        RebuildAction.CANCEL: Transition(dict.fromkeys(OPEN_STATES, RebuildState.CANCELLED), if_paused=True),
    }
)


class TransitionRefused(InvalidProjectionState):
    """The rebuild is in a state from which this action does not start; nothing has changed."""


async def transition(
    conn: Conn, rebuild_id: int, action: RebuildAction, *, error: str | None = None
) -> RebuildState:
    """Move a rebuild as TRANSITIONS says, and return the state it is in now. `error` is kept with it; an
    earlier one is forgotten. The row stays locked until the transaction in progress ends.

    Raises TransitionRefused, InvalidProjectionState when there is no such rebuild, psycopg.Error.
    """
    async with conn.transaction():
        row = await fetch_one(conn, _LOCK_REBUILD, {"rebuild": rebuild_id})
        if row is None:
            raise InvalidProjectionState(f"there is no rebuild {rebuild_id}.")
        state, paused = RebuildState(row[0]), bool(row[1])
        allowed = TRANSITIONS[action]
        target = allowed.moves.get(state)
        if target is None or (paused and not allowed.if_paused):
            raise TransitionRefused(_explain_refusal(rebuild_id, action, state, paused))
        parameters = {"state": target, "paused": allowed.then_paused, "error": error, "rebuild": rebuild_id}
        await conn.execute(_UPDATE_STATE, parameters)
    return target


def _explain_refusal(rebuild_id: int, action: RebuildAction, state: RebuildState, paused: bool) -> str:
    if action is RebuildAction.ACCEPT_DIFFERENCES:
        return f"rebuild {rebuild_id} is {state}: it has no differences to accept."
    if state in ENDED_STATES:
        return f"rebuild {rebuild_id} has ended: it is {state}."
    if action is RebuildAction.PAUSE:
        return f"rebuild {rebuild_id} waits for a decision on its differences: accept or cancel it."
    return f"rebuild {rebuild_id} is {state}{' (paused)' if paused else ''}: it cannot {action}."
