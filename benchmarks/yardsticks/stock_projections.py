"""The stock ProjectionRunner fills the projections that a rebuild fills: all of them, in our tables.

It uses all of our parts but the engine: codec, folds, handlers, tables with their indexes. So the comparison
shows how the log is followed, not what is made of it. Aggregates stay folded in memory. Rows are upserted by
prepared statements in the transaction that moves the tracking, one event each, as in the library's tutorial.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, LiteralString

import msgspec
import psycopg
from eventsourcing.persistence import Mapper, StoredEvent, Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection as StockProjection
from eventsourcing.projection import ProjectionRunner
from psycopg.sql import SQL, Composed, Identifier

from benchmarks.store import ACCOUNT, ACTOR, REQUEST, SECRET_KEY, register_projections
from benchmarks.yardsticks import stock
from ledger.domain.aggregate import State
from ledger.postgres.connections import open_connection
from ledger.store.codec import Codec, evolve
from ledger.store.log import Recorded
from projections.engine import partitions
from projections.projection import Projection
from projections.read_models.catalog import PROJECTIONS

TIMEOUT_SECONDS = 120.0
_UPSERT: LiteralString = """
INSERT INTO {table} (generation, position, {columns}) VALUES (1, {values}) ON CONFLICT ({key}) DO {update}
"""


class SealedStockLog(stock.StockLog):
    """The same log, read by our codec, which opens sealed personal data."""

    name: ClassVar[str] = stock.StockLog.name  # type: ignore[misc]  # names the table that was filled

    def construct_mapper(self) -> Mapper[str]:
        """The library's hook for the codec of stored events."""
        return Codec(SECRET_KEY)


class StockTables(PostgresTrackingRecorder):
    """Our projections' tables, written in the transaction that moves the tracking."""

    def put(self, rows: Iterable[tuple[Composed, Sequence[Any]]], tracking: Tracking) -> None:
        """Upsert all rows of one event and move the tracking."""
        with self.datastore.transaction(commit=True) as cur:
            self._insert_tracking(cur, tracking)
            for statement, values in rows:
                cur.execute(statement, values, prepare=True)


class StockProjections(StockProjection[StockTables]):
    """Passes each event to the handlers of all projections that follow it."""

    name: ClassVar[str] = "stockprojections"  # type: ignore[misc]  # the library declares it without ClassVar
    states: ClassVar[dict[str, State]] = {}
    now: ClassVar[float] = 0.0

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Fold one event and write its rows. The library's runner calls this for each event."""
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
    """Fills all projections from `events`. `states` holds the aggregates before them, by stream id."""

    def __init__(
        self, dsn: str, password: str, states: dict[str, State], events: Sequence[StoredEvent]
    ) -> None:
        self._dsn = dsn
        self._states = states
        self._environment = stock.build_environment(dsn, password, ids="text")
        self._last_id = stock.insert_events(self._environment, events)
        StockProjections.now = time.time()
        asyncio.run(_create_generations(dsn))

    def rebuild(self) -> None:
        """Empty the tables and fill them again. Raises TimeoutError."""
        StockProjections.states = dict(self._states)
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute("DROP TABLE IF EXISTS stockprojections_tracking")
            for projection in PROJECTIONS:
                conn.execute(SQL("TRUNCATE {}").format(partitions.get_table(projection.name)))
        with ProjectionRunner(
            application_class=SealedStockLog,
            projection_class=StockProjections,
            view_class=StockTables,
            env=self._environment,
        ) as runner:
            runner.wait(self._last_id, timeout=TIMEOUT_SECONDS)


async def _create_generations(dsn: str) -> None:
    """Create the first generation of each projection, with partitions for today and tomorrow."""
    await register_projections(dsn)
    async with open_connection(dsn, "ledger_projector", name="benchmark") as conn:
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


_UPSERTS = {projection.name: _build_upsert(projection) for projection in PROJECTIONS}
