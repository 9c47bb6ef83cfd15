"""Prometheus metrics of the service, summed over its processes when there are several.

With more than one API process PROMETHEUS_MULTIPROC_DIR is set before this module is imported, and any of
them answers for all. What stands in the database (head, checkpoints) is read when it is asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from ledger.postgres.connections import Conn, fetch_all

SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

_LAG = """
SELECT c.projection, c.generation, l.generation IS NOT NULL, c.position, h.position - c.position,
       CASE WHEN h.position > c.position
            THEN greatest(0, %(now)s - extract(epoch FROM coalesce(e.recorded_at, h.recorded_at)))
            ELSE 0 END::float8,
       (SELECT count(*) FROM projections.parked p
        WHERE p.projection = c.projection AND p.generation = c.generation),
       coalesce((SELECT v.differing FROM projections.verified v
                 WHERE v.projection = c.projection AND v.generation = c.generation), 0)
FROM ledger.head h
CROSS JOIN projections.checkpoints c
LEFT JOIN projections.live l ON l.projection = c.projection AND l.generation = c.generation
LEFT JOIN ledger.events e ON e.notification_id = c.position + 1
ORDER BY c.projection, c.generation
"""


class Lag(NamedTuple):
    """One generation of a projection against the log.

    seconds    age of the oldest event not applied, 0 when there is none
    parked     streams left out
    differing  rows that verifying found to differ from a replay, until a full check finds none
    """

    projection: str
    generation: int
    live: bool
    position: int
    events: int
    seconds: float
    parked: int
    differing: int


class WebhookBacklog(NamedTuple):
    """What is owed to webhook endpoints: deliveries by state (up to a bound); for how many seconds the oldest
    that is due has been; how many events of the log nobody has looked at for endpoints that want them."""

    deliveries_by_state: Mapping[str, int]
    oldest_due_seconds: float
    lag_events: int


async def read_lags(conn: Conn, now: float) -> list[Lag]:
    """How far each generation of each projection is behind the log at `now` (unix seconds)."""
    return [Lag(*row) for row in await fetch_all(conn, _LAG, {"now": now})]


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ledger_requests_total", "Requests answered", ("operation", "status"), registry=self._registry
        )
        self._request_seconds = Histogram(
            "ledger_request_seconds",
            "Time from the request's head to its answer",
            ("operation",),
            buckets=SECONDS_BUCKETS,
            registry=self._registry,
        )
        self._batch_commands = Histogram(
            "ledger_append_batch_commands",
            "Commands in one append",
            buckets=SIZE_BUCKETS,
            registry=self._registry,
        )
        self._batch_seconds = Histogram(
            "ledger_append_seconds", "Time of one append", buckets=SECONDS_BUCKETS, registry=self._registry
        )
        self._refused = Counter(
            "ledger_append_refused_total", "Commands that lost a race", registry=self._registry
        )
        self._queue_length = Gauge(
            "ledger_append_waiting",
            "Commands waiting to be appended",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._request_metrics: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._stalled_since: dict[tuple[str, int], tuple[int, float]] = {}

    def observe_request(self, operation: str, status: int, seconds: float) -> None:
        """One request was answered."""
        labeled = self._request_metrics.get((operation, status))
        if labeled is None:
            counter = self._requests.labels(operation, str(status))
            labeled = self._request_metrics[operation, status] = (
                counter,
                self._request_seconds.labels(operation),
            )
        labeled[0].inc()
        labeled[1].observe(seconds)

    def observe_append(self, commands: int, refused: int, seconds: float, queue_length: int) -> None:
        """One batch was appended."""
        self._batch_commands.observe(commands)
        self._batch_seconds.observe(seconds)
        self._queue_length.set(queue_length)
        if refused:
            self._refused.inc(refused)

    def _get_stalled_seconds(self, lag: Lag) -> float:
        """Where it was seen at this position first, it has not been elsewhere since: none ever goes back."""
        key, now = (lag.projection, lag.generation), time.monotonic()
        if not lag.events:
            self._stalled_since.pop(key, None)
            return 0.0
        last_progress = self._stalled_since.get(key)
        if last_progress is None or last_progress[0] != lag.position:
            last_progress = self._stalled_since[key] = (lag.position, now)
        return now - last_progress[1]

    def render(
        self, lags: Iterable[Lag], overdue_seconds: Mapping[str, float], backlog: WebhookBacklog | None
    ) -> bytes:
        """All metrics in Prometheus' text format; `overdue_seconds` by kind of deadline."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        database_registry = CollectorRegistry()
        labels = ("projection", "generation")
        position = Gauge("ledger_checkpoint_position", "Position applied", labels, registry=database_registry)
        events = Gauge("ledger_lag_events", "Events not applied yet", labels, registry=database_registry)
        seconds = Gauge("ledger_lag_seconds", "Age of the oldest one", labels, registry=database_registry)
        parked = Gauge("ledger_parked_streams", "Streams left out", labels, registry=database_registry)
        differing = Gauge(
            "ledger_differing_rows", "Rows found to differ from a replay", labels, registry=database_registry
        )
        stalled = Gauge(
            "ledger_stands_still_seconds", "Behind and not moved since, as far as this process has looked",
            labels, registry=database_registry,
        )  # fmt: skip
        for lag in lags:
            stalled.labels(lag.projection, str(lag.generation)).set(self._get_stalled_seconds(lag))
            generation = (lag.projection, str(lag.generation))
            position.labels(*generation).set(lag.position)
            events.labels(*generation).set(lag.events)
            seconds.labels(*generation).set(lag.seconds)
            parked.labels(*generation).set(lag.parked)
            # One that is only kept is not read, nor checked again: what was found in it stays in its status.
            differing.labels(*generation).set(lag.differing if lag.live else 0)
        overdue = Gauge(
            "ledger_deadline_overdue_seconds", "Age of the oldest due date not acted on", ("kind",),
            registry=database_registry,
        )  # fmt: skip
        for kind, age_seconds in overdue_seconds.items():
            overdue.labels(kind).set(age_seconds)
        if backlog is not None:
            deliveries = Gauge(
                "ledger_webhook_deliveries",
                "Deliveries owed, by state",
                ("state",),
                registry=database_registry,
            )
            for state, count in backlog.deliveries_by_state.items():
                deliveries.labels(state).set(count)
            oldest_due = Gauge(
                "ledger_webhook_due_seconds", "Age of the oldest delivery due", registry=database_registry
            )
            oldest_due.set(backlog.oldest_due_seconds)
            webhook_lag = Gauge(
                "ledger_webhook_lag_events", "Events not fanned out yet", registry=database_registry
            )
            webhook_lag.set(backlog.lag_events)
        return generate_latest(registry) + generate_latest(database_registry)
