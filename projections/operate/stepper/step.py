"""One step: an event, and the rows of its object before it and after it, as one caller may see them.

All of it reads one snapshot, and nothing is written. Events of accounts that the caller does not reach are
named by position, type and object, which operators see of parked streams, too; their content is left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg

from ledger.audit.auditor import Auditor
from ledger.audit.moments import format_time
from ledger.audit.search.entries import get_closed_codec
from ledger.audit.search.recorded_events import load_recorded_event
from ledger.errors import printable_topic
from ledger.postgres.connections import Conn, fetch_one
from ledger.store.codec import Codec
from ledger.store.log import read_stream
from projections.engine.batch import Target, ignored_topics
from projections.operate.stepper.live_rows import LiveRows, compare_with_live
from projections.operate.stepper.places import Place, StepQuery, find_place
from projections.operate.stepper.rows import (
    Change,
    FoldedRows,
    fold_rows,
    list_changed_keys,
    list_changes,
    render_rows,
)
from projections.projection import ParkedStream, Projection
from projections.stored_rows import RowReader

STEP_CODES = (
    "applied", "unchanged", "handler_raised", "unreadable", "parked_before", "not_followed", "other_account",
    "stream_too_long", "no_event",
)  # fmt: skip
STREAM_EVENTS_MAX = 10_000
"""Events of an object that are folded for one step: about half a second."""

_EVENT = """
SELECT originator_id, originator_version, topic, account, livemode, extract(epoch FROM recorded_at)::float8
FROM ledger.events WHERE notification_id = %(position)s
"""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks.

    actor                the id of the key, or `cli`
    can_see              whether the content of events of an account, in a mode, may be shown
    shows_personal_data  else personal data is shown as if it had been erased: as null
    """

    actor: str
    can_see: Callable[[str, bool], Awaitable[bool]]
    shows_personal_data: bool = False


class Outcome(NamedTuple):
    """What the projection makes of the event: a code, and a sentence for people."""

    code: str
    message: str


class _Event(NamedTuple):
    stream: str
    version: int
    topic: str
    account: str
    livemode: bool
    recorded_at: float


class Step(NamedTuple):
    """One step. `event`, `before` and `after` are as JSON shows them."""

    projection: str
    stream: str | None
    place: Place
    outcome: Outcome
    event: dict[str, Any] | None = None
    before: list[dict[str, Any]] = []  # noqa: RUF012
    after: list[dict[str, Any]] = []  # noqa: RUF012
    rows_before: int = 0
    rows_after: int = 0
    changes: list[Change] = []  # noqa: RUF012
    live: LiveRows | None = None

    def to_json(self) -> dict[str, Any]:
        """The step as a JSON object."""
        return {
            "object": "projection_step",
            "projection": self.projection,
            "stream": self.stream,
            "head": self.place.head,
            "position": self.place.position,
            "next": self.place.next,
            "previous": self.place.previous,
            "searched": {"first": self.place.first, "last": self.place.last},
            "outcome": self.outcome._asdict(),
            "event": self.event,
            "before": self.before,
            "after": self.after,
            "rows_before": self.rows_before,
            "rows_after": self.rows_after,
            "changes": [change.to_json() for change in self.changes],
            "live": None if self.live is None else self.live.to_json(),
        }


async def load_step(
    conn: Conn, codec: Codec, now: float, projection: Projection, query: StepQuery, viewer: Viewer
) -> Step:
    """The step of one projection that `query` asks for; `now` in unix seconds, by the one clock.

    Raises InvalidParameter, UnknownObject, psycopg.Error. `conn` may be in no transaction.
    """
    await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
    try:
        async with conn.transaction():
            return await _Stepper(conn, codec, now, projection, viewer).load(query)
    finally:
        if not conn.closed:
            await conn.set_isolation_level(None)


class _Stepper:
    """Loads one step in one snapshot."""

    def __init__(self, conn: Conn, codec: Codec, now: float, projection: Projection, viewer: Viewer) -> None:
        self._conn = conn
        self._codec = codec
        self._now = now
        self._projection = projection
        self._viewer = viewer
        self._ignored_topics = ignored_topics([Target(projection, 0)])

    async def load(self, query: StepQuery) -> Step:
        place = await find_place(self._conn, query, self._ignored_topics)
        name = self._projection.name
        if place.position is None:
            message = f"{name} follows no event between positions {place.first} and {place.last}."
            return Step(name, query.stream, place, Outcome("no_event", message))
        row = await fetch_one(self._conn, _EVENT, {"position": place.position})
        assert row is not None, "positions have no holes"
        event = _Event(*row)
        step = Step(name, query.stream, place, Outcome("", ""))
        if not await self._viewer.can_see(event.account, event.livemode):
            message = "The event is of an account or a mode that your key does not reach: it is not shown."
            return step._replace(
                outcome=Outcome("other_account", message), event=_name_event(place.position, event)
            )
        auditor = Auditor(event.account, event.livemode, self._viewer.actor, self._viewer.shows_personal_data)
        step = step._replace(
            event=await load_recorded_event(self._conn, self._codec, auditor, place.position)
        )
        if event.topic in self._ignored_topics:
            message = f"{name} does not follow events of type {printable_topic(event.topic)}."
            return step._replace(outcome=Outcome("not_followed", message))
        if event.version > STREAM_EVENTS_MAX:
            message = (
                f"The object has {event.version} events up to this one: a step folds {STREAM_EVENTS_MAX} at "
                "most."
            )
            return step._replace(outcome=Outcome("stream_too_long", message))
        return await self._fold(step, event, place.position)

    async def _fold(self, step: Step, event: _Event, position: int) -> Step:
        """The step with its rows."""
        folded = visible = await self._fold_with(self._codec, event.stream, position)
        if not self._viewer.shows_personal_data:
            visible = await self._fold_with(get_closed_codec(self._codec), event.stream, position)
        live = await compare_with_live(
            self._conn,
            RowReader(self._codec),
            self._projection,
            event.stream,
            position,
            event.recorded_at,
            folded,
            self._ignored_topics,
            self._now,
        )
        return step._replace(
            outcome=_judge(folded),
            before=render_rows(self._projection, visible, visible.before),
            after=render_rows(self._projection, visible, visible.after),
            rows_before=len(folded.before),
            rows_after=len(folded.after),
            changes=list_changes(self._projection, folded, visible),
            live=live,
        )

    async def _fold_with(self, codec: Codec, stream: str, position: int) -> FoldedRows:
        recorded = await read_stream(self._conn, codec, stream, upto=position)
        return await fold_rows(self._projection, recorded)


def _judge(folded: FoldedRows) -> Outcome:
    if (parked := folded.parked_before) is not None:
        return Outcome(
            "parked_before",
            f"The object is parked from position {parked.position} on: later events are not applied. "
            f"{_explain(parked)}",
        )
    if folded.parked is not None:
        code = "unreadable" if folded.parked.is_unreadable else "handler_raised"
        return Outcome(code, f"The event parks the object. {_explain(folded.parked)}")
    changed = len(list_changed_keys(folded))
    if not changed:
        return Outcome("unchanged", "The event changes no row.")
    created = sum(key not in folded.before for key in list_changed_keys(folded))
    parts = [
        f"{count} {'row' if count == 1 else 'rows'} {what}"
        for count, what in ((created, "created"), (changed - created, "changed"))
        if count
    ]
    return Outcome("applied", f"{' and '.join(parts)}.".capitalize())


def _explain(parked: ParkedStream) -> str:
    what = "Its record cannot be read" if parked.is_unreadable else "Its handler raised"
    return f"{what}: {parked.error}"


def _name_event(position: int, event: _Event) -> dict[str, Any]:
    """What is shown of an event of another account."""
    return {
        "position": position,
        "time": format_time(event.recorded_at),
        "stream": event.stream,
        "version": event.version,
        "type": printable_topic(event.topic),
    }
