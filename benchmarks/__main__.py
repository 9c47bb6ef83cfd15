"""`python -m benchmarks` prints every figure beside its yardstick, from one run on one machine.

Nothing is asserted: a figure below its goal is printed like any other. The run keeps everything in one
temporary directory, which it deletes, and stops only the processes that it has started.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import (
    alerts,
    append,
    capacity,
    commands,
    expansion,
    http,
    layers,
    mixed,
    nats,
    ndjson_import,
    old_snapshot,
    peers,
    projections,
    rebuild,
    rebuild_impact,
    replicas,
    seal_impact,
    sizes,
    startup,
    webhooks,
    workers,
)
from benchmarks.against import measure_group
from benchmarks.audit import group as audit
from benchmarks.console import group as console
from benchmarks.database import Server, run_server
from benchmarks.erasure import group as erasure
from benchmarks.feed import group as feed
from benchmarks.measurement import Effort
from benchmarks.report import Figure, describe_machine, show, write_json

FULL = Effort(seconds=0.5, rounds=3, events=100_000)
QUICK = Effort(seconds=0.2, rounds=1, events=10_000, mixed_seconds=2.0)

Run = Callable[[Path, Effort], list[Figure]]

SERVER_BENCHMARKS: dict[str, Callable[[Server, Effort], list[Figure]]] = {
    "append": append.run,
    "audit": audit.run,
    "capacity": capacity.run,
    "commands": commands.run,
    "import": ndjson_import.run,
    "old-snapshot": old_snapshot.run,
    "projections": projections.run,
    "rebuild": rebuild.run,
}
SERVICE_BENCHMARKS: dict[str, Run] = {
    "alerts": alerts.run,
    "console": console.run,
    "erasure": erasure.run,
    "expansion": expansion.run,
    "feed": feed.run,
    "http": http.run,
    "layers": layers.run,
    "meanwhile": rebuild_impact.run,
    "mixed": mixed.run,
    "nats": nats.run,
    "peers": peers.run,
    "replicas": replicas.run,
    "sealing": seal_impact.run,
    "sizes": sizes.run,
    "startup": startup.run,
    "webhooks": webhooks.run,
    "workers": workers.run,
}
ONLY_BY_NAME = ("peers",)
"""Groups that need another program: `make bench-peers` installs it."""
IN_OWN_PROCESS = ("append", "commands", "projections", "rebuild")
"""Groups that run this checkout's code in their own process: `--against` starts them once for each build."""


def main() -> None:
    """Run the groups that the command line names, print the table, write the JSON."""
    arguments = _parse_arguments()
    effort = QUICK if arguments.quick else FULL
    given = {"rounds": arguments.rounds, "events": arguments.events, "mixed_seconds": arguments.seconds}
    effort = effort._replace(**{name: value for name, value in given.items() if value})
    if arguments.against:
        effort = effort._replace(against=arguments.against.resolve())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that context managers stop what they started
    started = time.monotonic()
    figures: dict[str, list[Figure]] = {}
    with _temporary_directory(arguments.directory) as directory:
        machine_facts = describe_machine(directory)
        print("  ".join(f"{name}: {value}" for name, value in machine_facts.items()))
        for name, run in _list_runs().items():
            if name in arguments.only if arguments.only else name not in ONLY_BY_NAME:
                print(f"measuring {name} …", file=sys.stderr, flush=True)
                if effort.against and name in IN_OWN_PROCESS:
                    figures[f"{name}-against"] = measure_group(name, directory, effort)
                else:
                    figures[name] = run(directory, effort)
    show([each for group in figures.values() for each in group])
    if arguments.json:
        write_json(arguments.json, machine_facts, effort, figures)
    print(f"\n{effort.rounds} rounds, medians; {time.monotonic() - started:.0f} s in all")


def _list_runs() -> dict[str, Run]:
    return {
        name: partial(_run_on_server, run) for name, run in SERVER_BENCHMARKS.items()
    } | SERVICE_BENCHMARKS


def _run_on_server(
    run: Callable[[Server, Effort], list[Figure]], directory: Path, effort: Effort
) -> list[Figure]:
    with run_server(directory) as postgres:
        return run(postgres, effort)


def _parse_arguments() -> argparse.Namespace:
    names = [*SERVER_BENCHMARKS, *SERVICE_BENCHMARKS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=names, help="one group; repeat it for several")
    parser.add_argument(
        "--quick", action="store_true", help="one short round with fewer events, as a smoke test"
    )
    parser.add_argument("--rounds", type=int, help=f"rounds of measurements, default {FULL.rounds}")
    parser.add_argument(
        "--events", type=int, help=f"events in the history that is projected, default {FULL.events}"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"seconds of the mixed load, default {FULL.mixed_seconds:.0f}; 540 is the long form",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CHECKOUT",
        help="another checkout of this repository to measure in turns: erasure, feed, http, layers, mixed, "
        + ", ".join(IN_OWN_PROCESS),
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument(
        "--directory", type=Path, help="directory for the databases; its disk determines the commit latency"
    )
    return parser.parse_args()


@contextmanager
def _temporary_directory(parent: Path | None) -> Iterator[Path]:
    """A temporary directory. The user that runs an embedded Postgres for root can pass through it."""
    directory = Path(tempfile.mkdtemp(prefix="ledger-bench-", dir=parent)).resolve()
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
