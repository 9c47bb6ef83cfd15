"""Webhooks of a service as `ledger serve` runs it: deliveries a second, how soon they arrive, what they cost.

Deliveries: a backlog is made while webhooks are paused, and the time from the first arrival until the last
outcome is recorded is divided by it. Beside the endpoints that answer there is one that hangs. The yardstick
posts one of the same bodies by the same client without a database. Sender, receiver, Postgres and, for the
latency, the load generator share the machine's cores; nothing else of the benchmark runs meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.load import Latency, Request, get_generator_name, run_load
from benchmarks.measurement import Effort
from benchmarks.paced_load import send_all, send_paced
from benchmarks.report import Figure, Goal, compare, figure
from benchmarks.routes import CUSTOMER_FORM
from benchmarks.service import Service, run_service
from benchmarks.webhook_receiver import Receiver, run_receiver
from benchmarks.yardsticks.webhook_client import measure_client
from ledger.postgres.connections import Conn, open_connection
from ledger.webhooks.schedule.limits import ENDPOINT_CONCURRENCY_MAX
from ledger.webhooks.switch import pause, resume

ENDPOINTS = (1, 10, 100)
DELIVERIES = 2000
DELIVERIES_QUICK = 1000
ATTEMPTS_MAX = 256
"""Of LEDGER_WEBHOOK_ATTEMPTS_MAX, the default."""
EVENTS_PER_SECOND = 200
PACED_SECONDS = 3.0
PACED_SECONDS_QUICK = 1.5
API_CONNECTIONS = 16
API_SECONDS = 2.0
WAIT_SECONDS = 120.0
POLL_SECONDS = 0.02
CLIENT = "the same client, no database"
RATE_GOAL = Goal(0.5)
MEDIAN_GOAL_MS = Goal(30, is_maximum=True)
P99_GOAL_MS = Goal(150, is_maximum=True)
COST_GOAL = Goal(1.05, is_maximum=True)
POST = "POST /v1/customers"

_COUNT_FANNED_OUT = "SELECT position FROM webhooks.checkpoint"
_HEAD = "SELECT position FROM ledger.head"
_COUNT_PENDING = """
SELECT count(*) FROM webhooks.deliveries WHERE state = 'pending' AND endpoint = ANY (%s)
"""
_RECORDED_AT = """
SELECT f.id, extract(epoch FROM e.recorded_at)::float8
FROM projections.feed f JOIN ledger.events e ON e.notification_id = f.position
WHERE f.generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
"""


class _Round(NamedTuple):
    """What one round measured with one number of endpoints. `repeated`: deliveries that came twice."""

    rate: float
    yardstick_rate: float
    repeated: int


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Figures of all three."""
    settings = {"LEDGER_WEBHOOK_ENDPOINTS_MAX": str(ENDPOINTS[-1] + 1)}
    with (
        run_receiver(ENDPOINTS[-1]) as receiver,
        run_service(directory / "webhooks", settings=settings) as service,
    ):
        bench = _Bench(service, receiver)
        return [
            *bench.measure_cost(effort),
            *bench.measure_latency(effort),
            *bench.measure_rates(effort),
        ]


class _Bench:
    """A service, and where it sends its webhooks."""

    def __init__(self, service: Service, receiver: Receiver) -> None:
        self._service = service
        self._receiver = receiver
        self._post = Request(service.port, "POST", "/v1/customers", secret=service.secret, form=CUSTOMER_FORM)

    def measure_rates(self, effort: Effort) -> list[Figure]:
        """Deliveries a second with each number of endpoints, beside one that hangs."""
        count = DELIVERIES if effort.rounds > 1 else DELIVERIES_QUICK
        figures = []
        endpoints: list[str] = []
        self._create_endpoint(self._receiver.hanging_url)
        for number in ENDPOINTS:
            while len(endpoints) < number:
                endpoints.append(self._create_endpoint(self._receiver.build_url(len(endpoints))))
            rounds = [self._measure_rate(endpoints, count) for _ in range(effort.rounds)]
            repeated = sum(each.repeated for each in rounds)
            figures.append(
                compare(
                    "webhooks, deliveries with one more endpoint that hangs",
                    f"{number} endpoint{'s' * (number > 1)}",
                    [each.rate for each in rounds],
                    CLIENT,
                    [each.yardstick_rate for each in rounds],
                    goal=RATE_GOAL,
                    note=f"{count} deliveries a round; {repeated} sent twice",
                )
            )
        return figures

    def _measure_rate(self, endpoints: Sequence[str], count: int) -> _Round:
        self._change(lambda conn: pause(conn, "benchmark", "a backlog is made"))
        send_all(self._post, count // len(endpoints))
        self._wait(self._is_fanned_out)
        self._receiver.take_report()
        self._change(lambda conn: resume(conn, "benchmark", "", {}))
        self._wait(lambda: self._receiver.count_received() >= count)
        with self._service.connect() as conn:
            self._wait(lambda: conn.execute(_COUNT_PENDING, (list(endpoints),)).fetchone() == (0,))
        ended_at = time.time()
        arrivals, body = self._receiver.take_report()
        yardstick = measure_client(
            [self._receiver.build_url(number) for number in range(len(endpoints))],
            body,
            count=count,
            concurrency=min(ATTEMPTS_MAX, ENDPOINT_CONCURRENCY_MAX * len(endpoints)),
        )
        return _Round(count / (ended_at - arrivals[0][1]), yardstick, len(arrivals) - count)

    def measure_latency(self, effort: Effort) -> list[Figure]:
        """From when an event was recorded, just before its commit, until its delivery arrived."""
        seconds = PACED_SECONDS if effort.rounds > 1 else PACED_SECONDS_QUICK
        group = f"webhooks, from commit to the first attempt at {EVENTS_PER_SECOND} events/s"
        latencies: list[Latency] = []
        with self._endpoint():
            send_paced(self._post, EVENTS_PER_SECOND, per_second=EVENTS_PER_SECOND)
            self._wait(lambda: self._receiver.count_received() >= EVENTS_PER_SECOND)
            for _ in range(effort.rounds):
                latencies.append(self._measure_latency(round(seconds * EVENTS_PER_SECOND)))
        return [
            figure(group, "p50", [each.median_ms for each in latencies], "ms", goal=MEDIAN_GOAL_MS),
            figure(group, "p99", [each.p99_ms for each in latencies], "ms", goal=P99_GOAL_MS),
        ]

    def _measure_latency(self, count: int) -> Latency:
        self._receiver.take_report()
        send_paced(self._post, count, per_second=EVENTS_PER_SECOND)
        self._wait(lambda: self._receiver.count_received() >= count)
        arrivals = dict(reversed(self._receiver.take_report().arrivals))
        with self._service.connect() as conn:
            recorded = dict(conn.execute(_RECORDED_AT).fetchall())
        ordered = sorted((at - recorded[event]) * 1000 for event, at in arrivals.items())
        return Latency(ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100])

    def measure_cost(self, effort: Effort) -> list[Figure]:
        """What a POST costs the process that answers it, and how long it takes, with and without an endpoint,
        in turns."""
        seconds = min(API_SECONDS, 2 * effort.seconds)
        paced_count = round(EVENTS_PER_SECOND * (1.0 if effort.rounds > 1 else 0.5))
        rates: dict[bool, list[float]] = {True: [], False: []}
        cpu: dict[bool, list[float]] = {True: [], False: []}
        latencies: dict[bool, list[Latency]] = {True: [], False: []}
        for _ in range(effort.rounds):
            for has_endpoint in (False, True):
                with self._endpoint() if has_endpoint else _nothing():
                    before = self._service.read_cpu()
                    outcome = run_load(self._post, connections=API_CONNECTIONS, seconds=seconds)
                    used = self._service.read_cpu() - before
                    rates[has_endpoint].append(outcome.rate)
                    cpu[has_endpoint].append(used.api / outcome.completed * 1e6)
                with self._endpoint() if has_endpoint else _nothing():
                    latencies[has_endpoint].append(
                        send_paced(self._post, paced_count, per_second=EVENTS_PER_SECOND)
                    )
        without = "no endpoint"
        group = f"webhooks, {POST} with an endpoint"
        load = f"{API_CONNECTIONS} connections, load by {get_generator_name()}"
        paced = f"{EVENTS_PER_SECOND} a second"
        medians = {key: [each.median_ms for each in value] for key, value in latencies.items()}
        p99s = {key: [each.p99_ms for each in value] for key, value in latencies.items()}
        return [
            compare(
                group, f"CPU of the API process, {load}", cpu[True], without, cpu[False], unit="µs",
                goal=COST_GOAL,
            ),
            compare(
                group, f"rate, {load}", rates[True], without, rates[False],
                note="deliveries take their share of the same cores",
            ),
            compare(group, f"p50, {paced}", medians[True], without, medians[False], unit="ms"),
            compare(group, f"p99, {paced}", p99s[True], without, p99s[False], unit="ms"),
        ]  # fmt: skip

    @contextmanager
    def _endpoint(self) -> Iterator[None]:
        """An endpoint while this is open. What it is still owed then is dropped with it."""
        endpoint = self._create_endpoint(self._receiver.build_url(0))
        try:
            yield
        finally:
            self._service.call("DELETE", f"/v1/webhook_endpoints/{endpoint}")
            self._wait(self._is_fanned_out)
            self._receiver.take_report()

    def _create_endpoint(self, url: str) -> str:
        form = {"url": url, "enabled_events[]": "*"}
        return str(self._service.create("/v1/webhook_endpoints", form)["id"])

    def _is_fanned_out(self) -> bool:
        with self._service.connect() as conn:
            return conn.execute(_COUNT_FANNED_OUT).fetchone() == conn.execute(_HEAD).fetchone()

    def _change(self, change: Callable[[Conn], Awaitable[None]]) -> None:
        async def connect_and_change() -> None:
            async with open_connection(self._service.dsn, "ledger_api", name="benchmark") as conn:
                await change(conn)

        asyncio.run(connect_and_change())

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError("webhooks were not delivered in time")
            time.sleep(POLL_SECONDS)


@contextmanager
def _nothing() -> Iterator[None]:
    yield
