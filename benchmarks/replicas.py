"""What a replica takes from the primary: two services on one primary, of which one asks the replica.

Both are measured in turns. Primary, replica, services and load share the machine's cores, so what the replica
saves is the CPU of the primary; requests per second say what asking two servers costs the service.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

import psycopg

from benchmarks.load import Request, get_generator_name, run_load
from benchmarks.measurement import Effort
from benchmarks.process_stats import read_server_cpu_seconds
from benchmarks.report import Figure, Goal, compare
from benchmarks.routes import CUSTOMER_FORM
from benchmarks.service import Service
from tests.postgres.standby import ReplicatedServers, run_replicated

CONNECTIONS = 4
SECONDS_MIN = 1.0
ROUNDS_MIN = 5
SECRET_KEY = "the service key of a benchmark, 40 bytes"
WARM_UP_SECONDS = 0.3
IN_USE_SECONDS = 20.0
LISTS = ("/v1/customers?limit=10", "/v1/customers?limit=100", "/v1/events?limit=100")
GOAL = Goal(0.5, is_maximum=True)
GROUP = "GET of a list with a replica, load by {}"


class _Service(Service):
    """A service on a database that is not its own."""

    def _answers(self) -> bool:
        return self.call("GET", "/readyz").status == 200


def run(directory: Path, effort: Effort) -> list[Figure]:
    """The primary's CPU for a list, and lists per second, with the replica and without."""
    figures = []
    with ExitStack() as stack:
        servers = stack.enter_context(run_replicated())
        servers.set_synchronous("")
        alone = stack.enter_context(_run(directory / "alone", servers))
        replicated = stack.enter_context(_run(directory / "replicated", servers, has_replica=True))
        alone.secret = _create_key(alone)
        fill = Request(alone.port, "POST", "/v1/customers", alone.secret, CUSTOMER_FORM)
        run_load(fill, connections=CONNECTIONS, seconds=max(SECONDS_MIN, effort.seconds))
        alone.wait_until_caught_up(timeout_seconds=IN_USE_SECONDS)
        _wait_until_asked(replicated)
        for path in LISTS:
            figures += _compare(path, alone.secret, servers, alone, replicated, effort)
    return figures


@contextmanager
def _run(directory: Path, servers: ReplicatedServers, *, has_replica: bool = False) -> Iterator[Service]:
    directory.mkdir()
    settings = {"LEDGER_DATABASE_URL": servers.primary.dsn(), "LEDGER_SECRET_KEY": SECRET_KEY}
    if has_replica:
        settings["LEDGER_REPLICA_URL"] = servers.standby.dsn()
    service = _Service(directory, settings=settings)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def _create_key(service: Service) -> str:
    account = re.search(r"acct_\w+", service.run_command("accounts", "create", "Benchmark"))
    assert account is not None
    key = re.search(r"sk_test_\w+", service.run_command("keys", "create", account[0]))
    assert key is not None
    return key[0]


def _wait_until_asked(service: Service) -> None:
    """Wait until the replica has all, so that the service asks it."""
    deadline = time.monotonic() + IN_USE_SECONDS
    url = f"http://127.0.0.1:{service.port}/metrics"
    while b"\nledger_replica_unused 0.0\n" not in urlopen(url).read():
        if time.monotonic() > deadline:
            raise RuntimeError("the replica is not asked")
        time.sleep(WARM_UP_SECONDS)
    time.sleep(WARM_UP_SECONDS)


def _compare(
    path: str, secret: str, servers: ReplicatedServers, alone: Service, replicated: Service, effort: Effort
) -> list[Figure]:
    seconds, rounds = max(SECONDS_MIN, effort.seconds), max(ROUNDS_MIN, effort.rounds)
    rates: dict[Service, list[float]] = {alone: [], replicated: []}
    microseconds: dict[Service, list[float]] = {alone: [], replicated: []}
    with psycopg.connect(servers.primary.dsn(), autocommit=True) as conn:
        for service in (alone, replicated):
            run_load(Request(service.port, "GET", path, secret), connections=CONNECTIONS, seconds=seconds)
        for number in range(rounds):
            for service in (alone, replicated) if number % 2 else (replicated, alone):
                before = read_server_cpu_seconds(conn)
                request = Request(service.port, "GET", path, secret)
                outcome = run_load(request, connections=CONNECTIONS, seconds=seconds)
                used = read_server_cpu_seconds(conn) - before
                rates[service].append(outcome.rate)
                microseconds[service].append(used / (outcome.rate * seconds) * 1e6)
    group = GROUP.format(get_generator_name())
    note = f"{rounds} rounds, {CONNECTIONS} connections"
    return [
        compare(
            group, f"CPU of the primary, {path}", microseconds[replicated], "without a replica",
            microseconds[alone], unit="µs", goal=GOAL, note=note,
        ),
        compare(group, path, rates[replicated], "without a replica", rates[alone], note=note),
    ]  # fmt: skip
