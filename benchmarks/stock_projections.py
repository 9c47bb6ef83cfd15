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
from ledger.postgres.connections import open_connection
from ledger.store.codec import Codec, State, evolve
from ledger.store.log import Recorded
from projections.engine import partitions
from projections.engine.registration import register_missing
from projections.projection import Projection
from projections.read_models.catalog import PROJECTIONS

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


class StockProjections(StockProjection[StockViews]):
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
            (_UPSERTS[projection.name], [recorded.position, *_encode_row(projection, row)])
            for projection in PROJECTIONS
            if type(domain_event) in projection.event_classes
            for row in projection.apply(before, recorded, after)
        ]
        self.view.put(rows, tracking)


class StockRebuild:
    """Makes all views of `events`, whose streams are as in `states` before them; from nothing each time."""

    def __init__(
        self, dsn: str, password: str, states: dict[str, State], events: Sequence[StoredEvent]
    ) -> None:
        self._dsn = dsn
        self._states = states
        self._environment = stock.build_environment(dsn, password, ids="text")
        self._last_id = stock.insert_events(self._environment, events)
        StockProjections.now = time.time()
        asyncio.run(_register_projections(dsn))

    def rebuild(self) -> None:
        """Raises TimeoutError."""
        StockProjections.states = dict(self._states)
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute("DROP TABLE IF EXISTS stockviews_tracking")
            for projection in PROJECTIONS:
                conn.execute(SQL("TRUNCATE {}").format(partitions.get_table(projection.name)))
        with ProjectionRunner(
            application_class=StockLog,
            projection_class=StockProjections,
            view_class=StockViews,
            env=self._environment,
        ) as runner:
            runner.wait(self._last_id, timeout=TIMEOUT_SECONDS)


async def _register_projections(dsn: str) -> None:
    async with open_connection(dsn, "ledger_projector", name="benchmark") as conn:
        await register_missing(conn, PROJECTIONS)
        today = partitions.to_utc_day(StockProjections.now)
        for projection in PROJECTIONS:
            if projection.retention_days is not None:
                await partitions.create_days(conn, projection.name, 1, [today, today + 1])


def _encode_row(projection: Projection, row: Sequence[Any]) -> Iterable[Any]:
    for column, value in zip(projection.columns, row, strict=True):
        match column.type:
            case "json":
                yield msgspec.json.encode(value)
            case "document":
                yield value.decode()
            case _:
                yield value


def _build_upsert(projection: Projection) -> Composed:
    names = [column.name for column in projection.columns]
    key = ["generation", names[0], *(["created"] if projection.retention_days is not None else [])]
    updates = [SQL("{0} = excluded.{0}").format(Identifier(name)) for name in projection.mutable_columns]
    return SQL(_UPSERT).format(
        table=partitions.get_table(projection.name),
        columns=SQL(", ").join(map(Identifier, names)),
        values=SQL(", ").join([SQL("%s")] * (len(names) + 1)),
        key=SQL(", ").join(map(Identifier, key)),
        update=SQL("UPDATE SET {}").format(SQL(", ").join(updates)) if updates else SQL("NOTHING"),
    )


_UPSERTS = {view.name: _build_upsert(view) for view in PROJECTIONS}
