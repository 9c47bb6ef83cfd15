"""What a POST, a GET and a page of a list cost as the log gets longer: 10,000 events, a million, `--events`.

One service for each size is filled before the measurement: the log by COPY, the projections by their own
catch-up. Then all are measured in turns. A page is read at the front of
the list, and behind the 10,000th object or the middle of a shorter list.
"""

from __future__ import annotations

import re
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import psycopg

from benchmarks.audit.ground import fill_log
from benchmarks.http import LoadMeasurement, format_cpu, measure_load
from benchmarks.load import Request, get_generator_name
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, compare, figure
from benchmarks.routes import CUSTOMER_FORM
from benchmarks.service import Service, run_service
from benchmarks.store import ACCOUNT
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.store.codec import Codec
from ledger.wire.versions import LATEST_VERSION

SMALLEST_EVENTS = 10_000
MIDDLE_EVENTS = 1_000_000
CONNECTIONS = 4
SECONDS_MIN = 1.0
DEPTH = 10_000
PAGE = 100
LISTS = ("charges", "events")
CATCH_UP_PER_SECOND_MIN = 1000
GOAL = Goal(1.3, is_maximum=True)

DISK_GROUP = "disk by length of the log, all tables and indexes"

_DISK = "SELECT pg_database_size(current_database()), (SELECT sum(size) FROM pg_ls_waldir())::bigint"
_INSERT_ACCOUNT = "INSERT INTO ledger.accounts (id, name, api_version) VALUES (%s, 'Benchmark', %s)"


def choose_sizes(events: int) -> list[int]:
    """The sizes to measure, the smallest first, for a longest log of `events` events."""
    return sorted({min(SMALLEST_EVENTS, events // 10), *([MIDDLE_EVENTS] * (events > MIDDLE_EVENTS)), events})


def run(directory: Path, effort: Effort) -> list[Figure]:
    """The cost of each request at each size beside that at the smallest."""
    sizes = choose_sizes(effort.events)
    measurements: dict[tuple[str, int], list[LoadMeasurement]] = {}
    with ExitStack() as stack:
        services, requests, disk = {}, {}, {}
        for size in sizes:
            started = time.perf_counter()
            service = stack.enter_context(run_service(directory / f"sizes_{size}"))
            services[size] = service
            _fill(service, size)
            requests[size] = _create_requests(service)
            disk[size] = _read_disk_bytes(service)
            seconds = time.perf_counter() - started
            gigabytes = sum(disk[size]) / 1e9
            print(f"  {size:,} events: {seconds:.0f} s, {gigabytes:.1f} GB", file=sys.stderr, flush=True)
        for _ in range(effort.rounds):
            for name in requests[sizes[0]]:
                for size in sizes:
                    measurement = measure_load(
                        services[size],
                        requests[size][name],
                        connections=CONNECTIONS,
                        seconds=max(SECONDS_MIN, effort.seconds),
                    )
                    measurements.setdefault((name, size), []).append(measurement)
    figures = [
        _compare_sizes(name, size, measurements[name, size], sizes[0], measurements[name, sizes[0]])
        for name in requests[sizes[0]]
        for size in sizes[1:]
    ]
    return figures + [_build_disk_figure(size, *disk[size]) for size in sizes]


def _compare_sizes(
    name: str, size: int, ours: list[LoadMeasurement], smallest: int, yardstick: list[LoadMeasurement]
) -> Figure:
    latency, smallest_latency = (
        median(each.outcome.median_ms for each in measurements) for measurements in (ours, yardstick)
    )
    return compare(
        f"cost by length of the log, CPU, {CONNECTIONS} connections, load by {get_generator_name()}",
        f"{name}, {size:,} events",
        [each.cpu_microseconds().total for each in ours],
        f"{smallest:,} events",
        [each.cpu_microseconds().total for each in yardstick],
        unit="µs",
        goal=GOAL,
        note=f"p50 {latency:.2f} and {smallest_latency:.2f} ms; {format_cpu(ours)}",
    )


def _build_disk_figure(events: int, database_bytes: int, wal_bytes: int) -> Figure:
    note = f"{database_bytes / events:,.0f} B an event; {wal_bytes / 1e9:.1f} GB of WAL beside it"
    return figure(DISK_GROUP, f"{events:,} events", [database_bytes / 1e9], "GB", note=note)


def _read_disk_bytes(service: Service) -> tuple[int, int]:
    """Bytes of the service's database, and of the files of WAL of its server."""
    with service.connect() as conn:
        database_bytes, wal_bytes = conn.execute(_DISK).fetchone() or (0, 0)
    return database_bytes, wal_bytes


def _fill(service: Service, events: int) -> None:
    """Fill the log while the service is stopped, since it would read what is half filled. Then wait until its
    projections have applied it."""
    service.stop()
    with EmbeddedPostgres(service.data_dir) as postgres:
        with psycopg.connect(postgres.dsn(), autocommit=True) as conn:
            conn.execute(_INSERT_ACCOUNT, (ACCOUNT, LATEST_VERSION))
        codec = Codec((service.data_dir / "secret.key").read_text().encode())
        fill_log(postgres.dsn(), codec, events)
    service.start()
    match = re.search(r"sk_test_\w+", service.run_command("keys", "create", ACCOUNT))
    if match is None:
        raise RuntimeError("`ledger keys create` printed no key")
    service.secret = match[0]
    for plural in LISTS:
        timeout_seconds = 60 + events / CATCH_UP_PER_SECOND_MIN
        service.wait_until_caught_up(timeout_seconds=timeout_seconds, plural=plural)
    with service.connect() as conn:
        conn.execute("VACUUM ANALYZE")
        conn.execute("CHECKPOINT")


def _create_requests(service: Service) -> dict[str, Request]:
    def get(path: str) -> Request:
        return Request(service.port, "GET", path, service.secret)

    front = service.call("GET", "/v1/charges?limit=1").body["data"][0]["id"]
    return {
        "POST /v1/customers": Request(
            service.port, "POST", "/v1/customers", service.secret, CUSTOMER_FORM, True
        ),
        "GET /v1/charges/{id}": get(f"/v1/charges/{front}"),
        **{
            f"GET /v1/{plural}?limit=10{place}": get(f"/v1/{plural}?limit=10{cursor}")
            for plural in LISTS
            for place, cursor in (("", ""), (", deep", f"&starting_after={_find_deep(service, plural)}"))
        },
    }


def _find_deep(service: Service, plural: str) -> str:
    """The object at DEPTH in a list, or in the middle of a shorter one."""
    ids: list[str] = []
    cursor = ""
    while len(ids) < DEPTH:
        page = service.call("GET", f"/v1/{plural}?limit={PAGE}{cursor}").body
        ids += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            return ids[len(ids) // 2]
        cursor = f"&starting_after={ids[-1]}"
    return ids[-1]
