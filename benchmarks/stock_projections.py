"""The stock ProjectionRunner making what a rebuild makes: every view, in our tables, an event at a time.

It is given all that is ours but the engine: codec, folds, handlers, tables with their indexes. So the
difference is how a log is followed, not what is made of it. Aggregates stay folded in memory; rows are
upserted by prepared statements in the transaction that moves the tracking, as the library's tutorial has it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, LiteralString

import msgspec
import psycopg
from eventsourcing.application import Application
from eventsourcing.persistence import Mapper, StoredEvent, Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection as StockProjection
from eventsourcing.projection import ProjectionRunner
from psycopg.sql import SQL, Composed, Identifier

from benchmarks import stock
from benchmarks.store import ACCOUNT, ACTOR, REQUEST, SECRET_KEY
from ledger.postgres.connections import connected
from ledger.store.codec import Codec, State, evolve
from ledger.store.log import Recorded
from projections.engine import partitions, registry
from projections.engine.registry import PROJECTIONS
from projections.projection import Projection

TIMEOUT_SECONDS = 120.0
_UPSERT: LiteralString = """
INSERT INTO {table} (generation, position, {columns}) VALUES (1, {values}) ON CONFLICT ({key}) DO {update}
"""


class StockLog(Application[str]):
    """The application whose events are projected; read by our codec, which opens personal data."""

    def construct_mapper(self) -> Mapper[str]:
        return Codec(SECRET_KEY)


class StockViews(PostgresTrackingRecorder):
    """All the rows of an event, upserted in the transaction that moves the tracking."""

    def put(self, rows: Iterable[tuple[Composed, Sequence[Any]]], tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cur:
            self._insert_tracking(cur, tracking)
            for statement, values in rows:
                cur.execute(statement, values, prepare=True)


class MakingViews(StockProjection[StockViews]):
    """Hands each event to the handlers of all views that follow it."""

    name: ClassVar[str] = "stockviews"  # type: ignore[misc]  # the library declares it without ClassVar
    states: ClassVar[dict[str, State]] = {}
    now: ClassVar[float] = 0.0

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        before = self.states.get(domain_event.originator_id)
        after = self.states[domain_event.originator_id] = evolve(before, domain_event)
        recorded = Recorded(
            tracking.notification_id, domain_event, ACCOUNT, False, ACTOR, REQUEST, None, None, self.now
        )
        rows = [
            (_UPSERTS[view.name], [recorded.position, *_stored(view, row)])
            for view in PROJECTIONS
            if type(domain_event) in view.follows
            for row in view.apply(before, recorded, after)
        ]
        self.view.put(rows, tracking)


class Contestant:
    """Makes all views of `events`, whose streams are as in `states` before them; from nothing each time."""

    def __init__(
        self, dsn: str, password: str, states: dict[str, State], events: Sequence[StoredEvent]
    ) -> None:
        self._dsn = dsn
        self._states = states
        self._environment = stock.environment(dsn, password, ids="text")
        self._last = stock.fill(self._environment, events)
        MakingViews.now = time.time()
        asyncio.run(_begin(dsn))

    def make(self) -> None:
        """Raises TimeoutError."""
        MakingViews.states = dict(self._states)
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute("DROP TABLE IF EXISTS stockviews_tracking")
            for view in PROJECTIONS:
                conn.execute(SQL("TRUNCATE {}").format(partitions.table(view.name)))
        with ProjectionRunner(
            application_class=StockLog,
            projection_class=MakingViews,
            view_class=StockViews,
            env=self._environment,
        ) as runner:
            runner.wait(self._last, timeout=TIMEOUT_SECONDS)


async def _begin(dsn: str) -> None:
    async with connected(dsn, "ledger_projector", name="benchmark") as conn:
        await registry.ensure(conn)
        today = partitions.day_of(MakingViews.now)
        for view in PROJECTIONS:
            if view.days_kept is not None:
                await partitions.make_days(conn, view.name, 1, [today, today + 1])


def _stored(view: Projection, row: Sequence[Any]) -> Iterable[Any]:
    for column, value in zip(view.columns, row, strict=True):
        match column.type:
            case "json":
                yield msgspec.json.encode(value)
            case "document":
                yield value.decode()
            case _:
                yield value


def _upsert(view: Projection) -> Composed:
    names = [column.name for column in view.columns]
    key = ["generation", names[0], *(["created"] if view.days_kept is not None else [])]
    changed = [SQL("{0} = excluded.{0}").format(Identifier(name)) for name in view.changing]
    return SQL(_UPSERT).format(
        table=partitions.table(view.name),
        columns=SQL(", ").join(map(Identifier, names)),
        values=SQL(", ").join([SQL("%s")] * (len(names) + 1)),
        key=SQL(", ").join(map(Identifier, key)),
        update=SQL("UPDATE SET {}").format(SQL(", ").join(changed)) if changed else SQL("NOTHING"),
    )


_UPSERTS = {view.name: _upsert(view) for view in PROJECTIONS}
