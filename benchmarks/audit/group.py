"""Every figure of the audit, on one long log: `--events 10000000` makes it as long as the goals assume.

Each part measures on the ground that `ground` fills, in an order in which none disturbs the next: the
log is searched before it has an index, and sealed after its objects were read.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

from benchmarks.audit import export, lists, money, objects, search, tree
from benchmarks.audit.ground import Ground, create_ground, fill_index
from benchmarks.database import Server
from benchmarks.measurement import Effort
from benchmarks.report import Figure, figure

GROUP = "audit: filling the log"


def run(server: Server, effort: Effort) -> list[Figure]:
    """Fill the ground, then measure one part after the other."""
    started = time.perf_counter()
    ground = create_ground(server, "audit", effort.events)
    rate = effort.events / (time.perf_counter() - started)
    figures = [figure(GROUP, f"filling a log of {effort.events:,} events", [rate])]
    for name, measure in _PARTS.items():
        started = time.perf_counter()
        figures += measure(ground, effort)
        print(f"  {name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return figures


def _measure_index_fill(ground: Ground, effort: Effort) -> list[Figure]:
    started = time.perf_counter()
    asyncio.run(fill_index(ground.dsn))
    rate = effort.events / (time.perf_counter() - started)
    return [figure(GROUP, "filling its audit index set-wise", [rate])]


_PARTS: dict[str, Callable[[Ground, Effort], list[Figure]]] = {
    "search without an index": search.measure_without_index,
    "index": _measure_index_fill,
    "lists": lists.measure,
    "search": search.measure,
    "objects": objects.measure,
    "tree": tree.measure,
    "exports": export.measure,
    "books": money.measure,
}
