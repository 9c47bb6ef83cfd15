"""The yardsticks from the `eventsourcing` library, used as its documentation shows and with its defaults.

The only help it gets is a connection for each of its threads: its own pool would hold fewer.
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
EVENTS_SENT_AT_ONCE = 500

Environment = Mapping[str, str]


def environment(dsn: str, password: str, *, ids: str) -> dict[str, str]:
    """The library's settings for the database `dsn`; `ids` is `uuid` or `text`."""
    to = conninfo_to_dict(dsn)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(to["dbname"]),
        "POSTGRES_HOST": str(to["host"]),
        "POSTGRES_PORT": str(to["port"]),
        "POSTGRES_USER": str(to["user"]),
        "POSTGRES_PASSWORD": password,
        "POSTGRES_POOL_SIZE": str(THREADS_MAX),
        "ORIGINATOR_ID_TYPE": ids,
    }


@contextmanager
def recorder(dsn: str, password: str) -> Iterator[PostgresApplicationRecorder]:
    """The library's recorder with text ids, its table made, its connections open."""
    to = conninfo_to_dict(dsn)
    datastore = PostgresDatastore(
        dbname=str(to["dbname"]),
        host=str(to["host"]),
        port=str(to["port"]),
        user=str(to["user"]),
        password=password,
        pool_size=THREADS_MAX,
        originator_id_type="text",
    )
    made = PostgresApplicationRecorder(datastore)
    made.create_table()
    try:
        yield made
    finally:
        datastore.close()


def rate_of_inserts(
    recorder: PostgresApplicationRecorder, events: Sequence[StoredEvent], *, threads: int, seconds: float
) -> float:
    """Events a second, one a call, from `threads` threads."""
    return rate_of_threads(
        lambda one: recorder.insert_events([one]), events, threads=threads, seconds=seconds
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
        self.metadata = {**self.metadata, **metadata}


class StockCustomers(Application[UUID]):
    """Load, trigger, save."""

    def create(self, name: str, email: str) -> UUID:
        customer = StockCustomer(name=name, email=email, metadata={})
        self.save(customer)
        return customer.id

    def update(self, customer_id: UUID, metadata: dict[str, str]) -> None:
        customer: StockCustomer = self.repository.get(customer_id)
        customer.update(metadata=metadata)
        self.save(customer)


class Commands:
    """Updates of the stock application's customers, each command to the next customer."""

    def __init__(self, dsn: str, password: str, customers: int) -> None:
        self._app = StockCustomers(environment(dsn, password, ids="uuid"))
        ids = [self._app.create(f"Customer {n}", f"customer{n}@example.com") for n in range(customers)]
        self._ids = cycle(ids)

    def rate(self, commands: int, *, threads: int, seconds: float) -> float:
        work = [(customer, {"order": str(n)}) for n, customer in enumerate(islice(self._ids, commands))]
        return rate_of_threads(lambda one: self._app.update(*one), work, threads=threads, seconds=seconds)

    def close(self) -> None:
        self._app.close()


class StockThing(Aggregate):
    """Whatever a line tells of."""

    @event("Told")
    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told


class Lines:
    """An application that makes an aggregate of each line of JSON, and checks nothing."""

    def __init__(self, dsn: str, password: str) -> None:
        self._app: Application[UUID] = Application(environment(dsn, password, ids="uuid"))

    def rate(self, lines: Sequence[bytes], *, threads: int, seconds: float) -> float:
        return rate_of_threads(self._tell, lines, threads=threads, seconds=seconds)

    def close(self) -> None:
        self._app.close()

    def _tell(self, line: bytes) -> None:
        self._app.save(StockThing(told=json.loads(line)))


class StockLog(Application[str]):
    """The application whose events are projected: our stored events, in the library's own table."""


class StockView(PostgresTrackingRecorder):
    """One row an object, upserted in the transaction that moves the tracking, as the tutorial has it."""

    def __init__(self, datastore: PostgresDatastore, **names: Any) -> None:
        super().__init__(datastore, **names)
        self.check_identifier_length("stock_view")
        table = (Identifier(datastore.schema), Identifier("stock_view"))
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
        with self.datastore.transaction(commit=True) as cur:
            self._insert_tracking(cur, tracking)
            cur.execute(self._upsert, row, prepare=True)


class StockProjection(Projection[StockView]):
    """Puts what each event says into the view."""

    name: ClassVar[str] = "stockview"  # type: ignore[misc]  # the library declares it without ClassVar

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        facts = dict(vars(domain_event))
        stream, version = facts.pop("originator_id"), facts.pop("originator_version")
        self.view.put((stream, version, type(domain_event).TOPIC, json.dumps(facts)), tracking)


def fill(env: Environment, events: Sequence[StoredEvent]) -> int:
    """Put `events` into the stock application's log; the last one's notification id."""
    app = StockLog(env)
    last = 0
    for start in range(0, len(events), EVENTS_SENT_AT_ONCE):
        ids = app.recorder.insert_events(events[start : start + EVENTS_SENT_AT_ONCE])
        last = ids[-1] if ids else last
    app.close()
    return last


def catch_up(env: Environment, last: int, *, timeout_seconds: float) -> None:
    """Run the library's ProjectionRunner from nothing until it has processed notification `last`."""
    with ProjectionRunner(
        application_class=StockLog, projection_class=StockProjection, view_class=StockView, env=env
    ) as runner:
        runner.wait(last, timeout=timeout_seconds)


def forget_view(dsn: str) -> None:
    """Drop the view and its tracking, so that the runner begins again."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS stock_view, stockview_tracking")
