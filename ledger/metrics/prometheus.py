"""Prometheus metrics of the service, summed over its processes if there are several.

With more than one API process PROMETHEUS_MULTIPROC_DIR is set before this module is imported, and each of
them can render the metrics of all. What comes from the database (lags, backlogs) is read for each rendering.
"""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ledger.metrics.backlogs import (
    FailingEndpoint,
    Lag,
    Measured,
    OldestSnapshot,
    Parked,
    ReplicaStatus,
    SealingLag,
    WebhookBacklog,
    WitnessStatus,
)

SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
FOLD_SECONDS = 0.5
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class _FoldedHistogram(Histogram):
    """A histogram that many observations are added to at once: one by one, they cost more than a tenth of a
    small request."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add observations: how many by bucket, the last of which has no upper bound, and their total."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class Metrics:
    """The metrics of one process, and the rendering of all.

    Requests are counted in plain lists and folded into the metrics when these are rendered; with several
    processes, each of which renders those of all, within FOLD_SECONDS.

    get_replica_status  how this process finds its replica; None without one
    """

    def __init__(self) -> None:
        self._has_several_processes = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ledger_requests_total", "Responses", ("operation", "status"), registry=self._registry
        )
        self._request_seconds = _FoldedHistogram(
            "ledger_request_seconds",
            "Time from the head of a request to its response",
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
            "ledger_append_refused_total",
            "Commands rejected for a version or idempotency key conflict",
            registry=self._registry,
        )
        self._queue_length = Gauge(
            "ledger_append_waiting",
            "Commands waiting to be appended",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._listeners = Gauge(
            "ledger_stripe_cli_listeners",
            "Connected sessions of the Stripe CLI",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._missed_events = Counter(
            "ledger_stripe_cli_missed_events_total",
            "Events that listeners were too slow for",
            registry=self._registry,
        )
        self._feed = _FeedMetrics(self._registry)
        self.get_replica_status: Callable[[], ReplicaStatus | None] = lambda: None
        self._replica_reads = Counter(
            "ledger_replica_reads_total",
            "Reads that a replica may answer, by how that went; what it has not answered, the primary has",
            ("outcome",),
            registry=self._registry,
        )
        # By operation and status: requests in each bucket, and the seconds of all of them.
        self._unfolded: dict[tuple[str, int], tuple[list[int], list[float]]] = {}
        self._stalled_since: dict[tuple[str, int], tuple[int, float]] = {}

    def observe_request(self, operation: str, status: int, seconds: float) -> None:
        """Count one response, which took `seconds`."""
        observed = self._unfolded.get((operation, status))
        if observed is None:
            if self._has_several_processes and not self._unfolded:
                asyncio.get_running_loop().call_later(FOLD_SECONDS, self.fold_requests)
            observed = self._unfolded[operation, status] = [0] * (len(SECONDS_BUCKETS) + 1), [0.0]
        observed[0][bisect_left(SECONDS_BUCKETS, seconds)] += 1
        observed[1][0] += seconds

    def fold_requests(self) -> None:
        """Add the requests that are only counted so far to the metrics."""
        unfolded, self._unfolded = self._unfolded, {}
        for (operation, status), (counts, total) in unfolded.items():
            self._requests.labels(operation, str(status)).inc(sum(counts))
            self._request_seconds.labels(operation).add(counts, total[0])

    def observe_append(self, commands: int, refused: int, seconds: float, queue_length: int) -> None:
        """Count one append of so many commands, of which some were refused; `queue_length` still wait."""
        self._batch_commands.observe(commands)
        self._batch_seconds.observe(seconds)
        self._queue_length.set(queue_length)
        if refused:
            self._refused.inc(refused)

    def set_listeners(self, count: int) -> None:
        """So many sessions of the Stripe CLI are connected to this process."""
        self._listeners.set(count)

    def count_missed_events(self, count: int) -> None:
        """Count Events that a listener was too slow for."""
        self._missed_events.inc(count)

    def set_feed_readers(self, count: int, *, lag_events: int, sent_bytes: int, cached_bytes: int) -> None:
        """So many readers of the feed are connected to this process. Of those that follow it, the slowest is
        `lag_events` behind; `sent_bytes` were sent since the last call."""
        self._feed.readers.set(count)
        self._feed.lag_events.set(lag_events)
        self._feed.cached_bytes.set(cached_bytes)
        self._feed.sent_bytes.inc(sent_bytes)

    def count_replica_read(self, outcome: str) -> None:
        """Count a read that a replica may answer, by how that went."""
        self._replica_reads.labels(outcome).inc()

    def render(self, measured: Measured, loops: Mapping[str, float] = MappingProxyType({})) -> bytes:
        """All metrics in Prometheus' text format, with what was measured of the database, and for how many
        seconds each background loop has finished no step."""
        self.fold_requests()
        registry = self._registry
        if self._has_several_processes:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        gauges = _DatabaseGauges()
        self._add_projection_gauges(gauges, measured.lags)
        _add_parked_gauge(gauges, measured.parked)
        overdue = gauges.add(
            "ledger_deadline_overdue_seconds", "Seconds since the oldest missed deadline", "kind"
        )
        for kind, age_seconds in measured.overdue_seconds.items():
            overdue.add_metric([kind], age_seconds)
        if measured.webhooks is not None:
            _add_webhook_gauges(gauges, measured.webhooks)
        if measured.sealing is not None:
            _add_sealing_gauges(gauges, measured.sealing)
        _add_witness_gauges(gauges, measured.witnesses)
        still = gauges.add(
            "ledger_erasure_still_seconds", "Seconds since an erasure has moved", "erasure", "step"
        )
        for each in measured.erasures:
            still.add_metric([each.job, each.step], each.seconds)
        text = "Positions of the log whose keys are still derived, until the key migration has finished"
        gauges.add_value("ledger_unmigrated_keys", text, measured.unmigrated_keys)
        unfinished = gauges.add(
            "ledger_background_seconds_since_last_step",
            "Seconds that a loop has had something to do and finished no step",
            "loop",
        )
        for loop, loop_seconds in loops.items():
            unfinished.add_metric([loop], loop_seconds)
        _add_replica_gauges(gauges, self.get_replica_status())
        _add_snapshot_gauges(gauges, measured.snapshots)
        active = gauges.add("ledger_alerts_active", "Alerts that are active", "kind", "severity")
        for alert, count in measured.active_alerts.items():
            active.add_metric(alert, count)
        database_registry = CollectorRegistry()
        database_registry.register(gauges)
        return generate_latest(registry) + generate_latest(database_registry)

    def _add_projection_gauges(self, gauges: _DatabaseGauges, lags: Iterable[Lag]) -> None:
        def gauge(name: str, text: str) -> GaugeMetricFamily:
            return gauges.add(name, text, "projection", "generation")

        live = gauge("ledger_generation_live", "Whether readers use this generation")
        position = gauge("ledger_checkpoint_position", "Position applied")
        events = gauge("ledger_lag_events", "Events not applied yet")
        seconds = gauge("ledger_lag_seconds", "Age of the oldest event not applied")
        parked = gauge("ledger_parked_streams", "Parked streams")
        differing = gauge("ledger_differing_rows", "Rows found to differ from a replay")
        stalled = gauge(
            "ledger_stands_still_seconds", "Seconds behind without progress, as seen by this process"
        )
        for lag in lags:
            generation = (lag.projection, str(lag.generation))
            live.add_metric(generation, lag.live)
            position.add_metric(generation, lag.position)
            events.add_metric(generation, lag.events)
            seconds.add_metric(generation, lag.seconds)
            parked.add_metric(generation, lag.parked)
            # A generation that is not live is neither read nor verified again: its differing rows would stay
            # in the metrics for ever. They stay in its status.
            differing.add_metric(generation, lag.differing if lag.live else 0)
            stalled.add_metric(generation, self._get_stalled_seconds(lag))

    def _get_stalled_seconds(self, lag: Lag) -> float:
        """Seconds since this process first saw the checkpoint at this position while it is behind the log.
        Checkpoints never go back."""
        key, now = (lag.projection, lag.generation), time.monotonic()
        if not lag.events:
            self._stalled_since.pop(key, None)
            return 0.0
        last_progress = self._stalled_since.get(key)
        if last_progress is None or last_progress[0] != lag.position:
            last_progress = self._stalled_since[key] = (lag.position, now)
        return now - last_progress[1]


class _FeedMetrics:
    """The metrics of the feed by position."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, mode: Literal["livesum", "livemax"] = "livesum") -> Gauge:
            return Gauge(f"ledger_feed_{name}", text, registry=registry, multiprocess_mode=mode)

        self.readers = gauge("readers", "Readers of the feed that are connected")
        text = "Events that the slowest reader that follows the feed has not been sent"
        self.lag_events = gauge("reader_lag_events", text, "livemax")
        self.cached_bytes = gauge("cached_bytes", "Memory of the blocks of the feed that are kept")
        self.sent_bytes = Counter(
            "ledger_feed_sent_bytes_total", "Bytes sent to readers of the feed", registry=registry
        )


class _DatabaseGauges(Collector):
    """The gauges of one rendering that are not kept: those that the database has, and of the loops.

    Not `Gauge`: with several processes that would keep the last values that each of them has read, also those
    of processes that have ended, and render all of them for ever.
    """

    def __init__(self) -> None:
        self._families: list[GaugeMetricFamily] = []

    def add(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        """A gauge, whose values the caller adds."""
        family = GaugeMetricFamily(name, text, labels=labels)
        self._families.append(family)
        return family

    def add_value(self, name: str, text: str, value: float) -> None:
        """A gauge of one value, without labels."""
        self.add(name, text).add_metric([], value)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """All of them, for the registry."""
        return self._families


def _add_parked_gauge(gauges: _DatabaseGauges, parked: Iterable[Parked]) -> None:
    labels = ("projection", "generation", "stream", "topic", "reason")
    text = "Position from which a stream is parked; the first 20 streams"
    position = gauges.add("ledger_parked_position", text, *labels)
    for each in parked:
        stream = (each.projection, str(each.generation), each.stream, each.topic, each.reason)
        position.add_metric(stream, each.position)


def _add_webhook_gauges(gauges: _DatabaseGauges, backlog: WebhookBacklog) -> None:
    deliveries = gauges.add("ledger_webhook_deliveries", "Unfinished deliveries by state", "state")
    for state, count in backlog.deliveries_by_state.items():
        deliveries.add_metric([state], count)
    gauges.add_value("ledger_webhook_due_seconds", "Age of oldest delivery due", backlog.oldest_due_seconds)
    gauges.add_value("ledger_webhook_lag_events", "Events not fanned out yet", backlog.lag_events)
    off = gauges.add("ledger_webhooks_off", "Whether no webhooks are sent for this reason", "reason")
    for reason, is_off in backlog.off_by_reason.items():
        off.add_metric([reason], is_off)
    gauges.add_value("ledger_webhook_failing_endpoints", "Endpoints that fail", backlog.failing_count)
    _add_failing_gauges(gauges, backlog.failing)


def _add_failing_gauges(gauges: _DatabaseGauges, failing: Iterable[FailingEndpoint]) -> None:
    """One series for each of the first endpoints that fail, never one for each endpoint."""

    def gauge(name: str, text: str) -> GaugeMetricFamily:
        name, text = f"ledger_webhook_failing_{name}", f"{text}; the endpoints that fail longest"
        return gauges.add(name, text, "endpoint", "account", "mode")

    seconds = gauge("seconds", "Seconds since an endpoint fails")
    attempts = gauge("attempts", "Failed attempts since then")
    pending = gauge("pending", "Deliveries to it that wait for an attempt")
    given_up = gauge("given_up", "Deliveries to it given up since then")
    for each in failing:
        endpoint = (each.endpoint, each.account, "live" if each.livemode else "test")
        seconds.add_metric(endpoint, each.seconds)
        attempts.add_metric(endpoint, each.attempts)
        pending.add_metric(endpoint, each.pending)
        given_up.add_metric(endpoint, each.given_up)


def _add_sealing_gauges(gauges: _DatabaseGauges, sealing: SealingLag) -> None:
    gauges.add_value("ledger_tree_size", "Records in the Merkle tree", sealing.size)
    gauges.add_value("ledger_unsealed_events", "Records not sealed yet", sealing.events)
    gauges.add_value("ledger_unsealed_seconds", "Age of the oldest record not sealed", sealing.seconds)
    gauges.add_value("ledger_sealing_stopped", "Whether sealing has stopped", sealing.error is not None)


def _add_replica_gauges(gauges: _DatabaseGauges, replica: ReplicaStatus | None) -> None:
    is_unused = replica is not None and not replica.is_used
    gauges.add_value("ledger_replica_unused", "Whether there is a replica that is not asked now", is_unused)
    lag_events, lag_seconds = (0, 0.0) if replica is None else (replica.lag_events, replica.lag_seconds)
    if lag_events is not None and lag_seconds is not None:
        gauges.add_value("ledger_replica_lag_events", "Events that the replica lacks", lag_events)
        gauges.add_value("ledger_replica_lag_seconds", "Age of the oldest of them", lag_seconds)


def _add_witness_gauges(gauges: _DatabaseGauges, witnesses: Iterable[WitnessStatus]) -> None:
    size = gauges.add("ledger_witness_size", "Records that a witness has cosigned", "witness")
    behind = gauges.add(
        "ledger_witness_behind_seconds", "Age of the oldest kept checkpoint not cosigned", "witness"
    )
    contradicts = gauges.add(
        "ledger_witness_contradicts", "Whether a witness has seen a tree that ours is not", "witness"
    )
    for each in witnesses:
        size.add_metric([each.witness], each.size)
        behind.add_metric([each.witness], each.behind_seconds)
        contradicts.add_metric([each.witness], each.state == "contradicts")


def _add_snapshot_gauges(gauges: _DatabaseGauges, snapshots: Iterable[OldestSnapshot]) -> None:
    text = "what keeps old versions of rows, by kind"
    seconds = gauges.add("ledger_oldest_snapshot_seconds", f"Age of {text}", "holder")
    transactions = gauges.add("ledger_oldest_snapshot_transactions", f"Transactions since {text}", "holder")
    for each in snapshots:
        transactions.add_metric([each.holder], each.transactions)
        if each.seconds is not None:
            seconds.add_metric([each.holder], each.seconds)
