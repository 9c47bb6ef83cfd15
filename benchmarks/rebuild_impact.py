"""What a rebuild costs writers: the latency of a POST that appends, with and without a rebuild running.

It runs `ledger serve` and `ledger projections rebuild --all` on one machine, as an operator may. Where both
together need more cores than there are, the figures show the worst case.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psycopg

from benchmarks.history import copy_history
from benchmarks.load import Outcome, Request, get_generator_name, run_load
from benchmarks.measurement import Effort
from benchmarks.report import Figure, figure
from benchmarks.service import THIS_BUILD, run_service, stop_process
from ledger.store.codec import Codec

GROUP = "POST /v1/customers during a rebuild"
SEED = 1
EVENTS_DIVISOR = 4
LOG_DAYS = 20.0
CONNECTIONS = 4
SECONDS_MIN = 2.0
ROUNDS_MAX = 2
TIMEOUT_SECONDS = 300.0
POLL_SECONDS = 0.05

_BACKFILL_STARTED = """
SELECT EXISTS (SELECT FROM projections.rebuilds r JOIN projections.shares s ON s.rebuild = r.id
               WHERE r.state = 'filling' AND s.events > 0)
"""


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Latencies at four connections, in turns without and with a rebuild."""
    without_rebuild: list[Outcome] = []
    with_rebuild: list[Outcome] = []
    data_dir = directory / "meanwhile"
    with run_service(data_dir) as service:
        # The service's own logins may not rewrite the log.
        dsn = service.dsn
        codec = Codec((data_dir / "secret.key").read_text().encode())
        copy_history(dsn, codec, SEED, effort.events // EVENTS_DIVISOR, days=LOG_DAYS)
        service.wait_until_caught_up(timeout_seconds=TIMEOUT_SECONDS)
        request = Request(
            service.port, "POST", "/v1/customers", service.secret, "name=Jenny&metadata[order]=6735", True
        )
        seconds = max(SECONDS_MIN, effort.seconds)
        run_load(request, connections=CONNECTIONS, seconds=effort.seconds)
        for _ in range(min(effort.rounds, ROUNDS_MAX)):
            without_rebuild.append(run_load(request, connections=CONNECTIONS, seconds=seconds))
            with _run_rebuild(dsn, data_dir):
                with_rebuild.append(run_load(request, connections=CONNECTIONS, seconds=seconds))
    runs = (("no rebuild", without_rebuild), ("a rebuild backfilling with one worker", with_rebuild))
    group = f"{GROUP}, {CONNECTIONS} connections, load by {get_generator_name()}"
    return [
        figure(
            group,
            f"p99, {name}",
            [outcome.p99_ms for outcome in outcomes],
            "ms",
            note=f"p50 {median(one.median_ms for one in outcomes):.1f} ms; "
            f"{median(one.rate for one in outcomes):,.0f}/s",
        )
        for name, outcomes in runs
    ]


@contextmanager
def _run_rebuild(dsn: str, data_dir: Path) -> Iterator[None]:
    """Start a rebuild of all projections and wait for its first page. Afterwards wait until it has ended."""
    process = subprocess.Popen(
        THIS_BUILD.build_command("projections", "rebuild", "--all"),
        env=os.environ | {"LEDGER_DATA_DIR": str(data_dir)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        with psycopg.connect(dsn, autocommit=True) as conn:
            while conn.execute(_BACKFILL_STARTED).fetchone() != (True,):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the rebuild did not start (status {process.returncode})")
                time.sleep(POLL_SECONDS)
        yield
        if process.wait(TIMEOUT_SECONDS) != 0:
            raise RuntimeError(f"the rebuild ended with status {process.returncode}")
    finally:
        stop_process(process)
