"""The yardsticks from the `eventsourcing` library, used as its documentation shows and with its defaults.

One setting differs: its connection pool has a connection for each thread; by default it would have fewer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any, ClassVar
from uuid import UUID

import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import StoredEvent, Tracking
from eventsourcing.postgres import (
    PostgresApplicationRecorder,
    PostgresDatastore,
    PostgresTrackingRecorder,
)
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from benchmarks.measurement import rate_of_threads

THREADS_MAX = 16
INSERT_BATCH_EVENTS = 500

Environment = Mapping[str, str]


def build_environment(dsn: str, password: str, *, ids: str) -> dict[str, str]:
    """The library's settings for the database `dsn`. `ids` is the type of aggregate ids, `uuid` or `text`."""
    connection_info = conninfo_to_dict(dsn)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(connection_info["dbname"]),
        "POSTGRES_HOST": str(connection_info["host"]),
        "POSTGRES_PORT": str(connection_info["port"]),
        "POSTGRES_USER": str(connection_info["user"]),
        "POSTGRES_PASSWORD": password,
        "POSTGRES_POOL_SIZE": str(THREADS_MAX),
        "ORIGINATOR_ID_TYPE": ids,
    }


@contextmanager
def open_recorder(dsn: str, password: str) -> Iterator[PostgresApplicationRecorder]:
    """Open the library's recorder for text ids, with its table created."""
    connection_info = conninfo_to_dict(dsn)
    datastore = PostgresDatastore(
        dbname=str(connection_info["dbname"]),
        host=str(connection_info["host"]),
        port=str(connection_info["port"]),
        user=str(connection_info["user"]),
        password=password,
        pool_size=THREADS_MAX,
        originator_id_type="text",
    )
    stock_recorder = PostgresApplicationRecorder(datastore)
    stock_recorder.create_table()
    try:
        yield stock_recorder
    finally:
        datastore.close()


def rate_of_inserts(
    recorder: PostgresApplicationRecorder, events: Sequence[StoredEvent], *, threads: int, seconds: float
) -> float:
    """Events per second that `threads` threads insert, one event per call."""
    return rate_of_threads(
        lambda stored_event: recorder.insert_events([stored_event]), events, threads=threads, seconds=seconds
    )


class StockCustomer(Aggregate):
    """A customer as the library's tutorial would write one."""

    @event("Created")
    def __init__(self, name: str, email: str, metadata: dict[str, str]) -> None:
        self.name = name
        self.email = email
        self.metadata = metadata

    @event("Updated")
    def update(self, metadata: dict[str, str]) -> None:
        """Merge `metadata` into the customer's."""
        self.metadata = {**self.metadata, **metadata}


class StockCustomers(Application[UUID]):
    """The application of the library's tutorial: load, trigger, save."""

    def create(self, name: str, email: str) -> UUID:
        """Create a customer. Returns its id."""
        customer = StockCustomer(name=name, email=email, metadata={})
        self.save(customer)
        return customer.id

    def update(self, customer_id: UUID, metadata: dict[str, str]) -> None:
        """Merge `metadata` into a customer's."""
        customer: StockCustomer = self.repository.get(customer_id)
        customer.update(metadata=metadata)
        self.save(customer)


class StockCommands:
    """Updates the stock application's customers in turn, one command each."""

    def __init__(self, dsn: str, password: str, customers: int) -> None:
        self._app = StockCustomers(build_environment(dsn, password, ids="uuid"))
        ids = [self._app.create(f"Customer {n}", f"customer{n}@example.com") for n in range(customers)]
        self._ids = cycle(ids)

    def rate(self, commands: int, *, threads: int, seconds: float) -> float:
        """Commands per second from `threads` threads, for `seconds` or until `commands` are done."""
        work = [(customer, {"order": str(n)}) for n, customer in enumerate(islice(self._ids, commands))]
        return rate_of_threads(
            lambda arguments: self._app.update(*arguments), work, threads=threads, seconds=seconds
        )

    def close(self) -> None:
        """Close the application."""
        self._app.close()


class StockLine(Aggregate):
    """An aggregate that holds one line of JSON."""

    @event("Imported")
    def __init__(self, payload: dict[str, Any]) -> None:
        self.payload = payload


class StockImport:
    """An application that creates an aggregate for each line of JSON and checks nothing."""

    def __init__(self, dsn: str, password: str) -> None:
        self._app: Application[UUID] = Application(build_environment(dsn, password, ids="uuid"))

    def rate(self, lines: Sequence[bytes], *, threads: int, seconds: float) -> float:
        """Lines per second from `threads` threads, for `seconds` or until all lines are done."""
        return rate_of_threads(self._save, lines, threads=threads, seconds=seconds)

    def close(self) -> None:
        """Close the application."""
        self._app.close()

    def _save(self, line: bytes) -> None:
        self._app.save(StockLine(payload=json.loads(line)))


class StockLog(Application[str]):
    """The application whose log is projected: our stored events, in the library's own table."""

    name: ClassVar[str] = "StockLog"  # type: ignore[misc]  # names the table: the same in subclasses


class StockTable(PostgresTrackingRecorder):
    """A read model of one row per object, upserted in the transaction that moves the tracking, as in the
    library's tutorial."""

    def __init__(self, datastore: PostgresDatastore, **names: Any) -> None:
        super().__init__(datastore, **names)
        self.check_identifier_length("stock_projection")
        table = (Identifier(datastore.schema), Identifier("stock_projection"))
        self.sql_create_statements.append(
            SQL(
                "CREATE TABLE IF NOT EXISTS {}.{} "
                "(id text PRIMARY KEY, version bigint NOT NULL, topic text NOT NULL, state text NOT NULL)"
            ).format(*table)
        )
        self._upsert = SQL(
            "INSERT INTO {}.{} AS v (id, version, topic, state) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (id) DO UPDATE "
            "SET version = excluded.version, topic = excluded.topic, state = excluded.state"
        ).format(*table)

    def put(self, row: tuple[str, int, str, str], tracking: Tracking) -> None:
        """Write one row and move the tracking."""
        with self.datastore.transaction(commit=True) as cur:
            self._insert_tracking(cur, tracking)
            cur.execute(self._upsert, row, prepare=True)


class StockProjection(Projection[StockTable]):
    """Writes each event's fields as a row."""

    name: ClassVar[str] = "stockprojection"  # type: ignore[misc]  # the library declares it without ClassVar

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Write one event's row. The library's runner calls this for each event."""
        fields = dict(vars(domain_event))
        stream, version = fields.pop("originator_id"), fields.pop("originator_version")
        self.view.put((stream, version, type(domain_event).TOPIC, json.dumps(fields)), tracking)


def insert_events(env: Environment, events: Sequence[StoredEvent]) -> int:
    """Insert `events` into the stock application's log. Returns the last one's notification id."""
    app = StockLog(env)
    last_id = 0
    for start in range(0, len(events), INSERT_BATCH_EVENTS):
        ids = app.recorder.insert_events(events[start : start + INSERT_BATCH_EVENTS])
        last_id = ids[-1] if ids else last_id
    app.close()
    return last_id


def catch_up(env: Environment, last_id: int, *, timeout_seconds: float) -> None:
    """Run the library's ProjectionRunner from an empty table until it has processed notification `last_id`.
    Raises TimeoutError."""
    with ProjectionRunner(
        application_class=StockLog, projection_class=StockProjection, view_class=StockTable, env=env
    ) as runner:
        runner.wait(last_id, timeout=timeout_seconds)


def drop_tables(dsn: str) -> None:
    """Drop the stock projection's tables, so that the runner begins again."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS stock_projection, stockprojection_tracking")
