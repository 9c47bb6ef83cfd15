"""The first page of searches of the log: each filter alone, and pairs of which one alone is not selective.

A search without an index examines as many events of the log as a page may.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import psycopg

from benchmarks.audit.ground import GUEST, SEED, Ground
from benchmarks.measurement import Effort, time_ms
from benchmarks.report import Figure, Goal, figure
from benchmarks.store import ACCOUNT, open_store
from ledger.api.composition import build_queries
from ledger.audit.auditor import Auditor
from ledger.audit.search.filters import LogFilters
from ledger.audit.search.pages import EXAMINED_MAX, search_log
from ledger.config import load_settings
from ledger.ids import derive_id
from ledger.postgres.connections import Pool
from ledger.queries.context import QueryContext

GROUP = "audit: first page of a search of the log"
LIMITS = (10, 100)
SEARCHES_PER_ROUND = 20
GOAL = Goal(20, is_maximum=True)
AUDITOR = Auditor(ACCOUNT, False, "benchmark")

Example = dict[str, Any]
"""The columns of one event of the log, by the names of the filters."""

SEARCHES: dict[str, Callable[[Example], LogFilters]] = {
    "no filter": lambda event: LogFilters(),
    "actor": lambda event: LogFilters(actor=event["actor"]),
    "an actor without events": lambda event: LogFilters(actor="key_0"),
    "request": lambda event: LogFilters(request=event["request"]),
    "idempotency_key": lambda event: LogFilters(idempotency_key=event["idempotency_key"] or "none"),
    "object": lambda event: LogFilters(object=event["object"]),
    "customer": lambda event: LogFilters(customer=event["customer"] or event["object"]),
    "charge": lambda event: LogFilters(charge=event["charge"] or event["object"]),
    "payment_intent": lambda event: LogFilters(payment_intent=event["object"]),
    "type": lambda event: LogFilters(types=[event["type"]]),
    "type, all that begin with c": lambda event: LogFilters(types=["c*"]),
    "a type without events": lambda event: LogFilters(types=["dispute.appeal_opened"]),
    "event": lambda event: LogFilters(event=event["event"]),
    "time": lambda event: LogFilters(time={"gte": event["time"]}),
    "position": lambda event: LogFilters(position={"lt": event["position"]}),
    "rare actor and rare type": lambda event: LogFilters(actor=event["rare_actor"], types=["dispute.won"]),
    "actor, type and time": lambda event: LogFilters(
        actor=event["actor"], types=[event["type"]], time={"lte": event["time"]}
    ),
    "actor and customer": lambda event: LogFilters(
        actor=event["rare_actor"], customer=event["customer"] or event["object"]
    ),
    "busy customer": lambda event: LogFilters(customer=GUEST),
    "busy customer and rare type": lambda event: LogFilters(customer=GUEST, types=["dispute.appeal_opened"]),
    "busy customer and rare actor": lambda event: LogFilters(
        customer=GUEST, actor=event["rare_actor"], position={"lt": event["position"]}
    ),
    "request and type": lambda event: LogFilters(request=event["request"], types=["dispute.won"]),
}

_EXAMPLES = """
SELECT notification_id, originator_id, originator_version, topic, actor, request_id, idempotency_key,
       customer, charge, extract(epoch FROM recorded_at)::float8
FROM ledger.events WHERE notification_id = ANY (%s)
"""
_RARE_ACTOR = "SELECT actor FROM ledger.events GROUP BY actor ORDER BY count(*) LIMIT 1"


def measure_without_index(ground: Ground, effort: Effort) -> list[Figure]:
    """Milliseconds of a search by two filters in a log whose index is empty."""
    times = _measure(ground, effort, ["rare actor and rare type"], LIMITS[:1])
    note = f"{EXAMINED_MAX:,} events examined"
    return [figure(GROUP, "two filters without an audit index", each, "ms", goal=GOAL, note=note)
            for each in times.values()]  # fmt: skip


def measure(ground: Ground, effort: Effort) -> list[Figure]:
    """Milliseconds of each search."""
    return [
        figure(GROUP, f"{name}, limit {limit}", times, "ms", goal=GOAL)
        for (name, limit), times in _measure(ground, effort, SEARCHES, LIMITS).items()
    ]


def _measure(
    ground: Ground, effort: Effort, names: Iterable[str], limits: Sequence[int]
) -> dict[tuple[str, int], list[float]]:
    """The milliseconds of each of the searches, by its name and limit."""
    examples = _load_examples(ground, SEARCHES_PER_ROUND * effort.rounds)
    with open_store(ground.dsn) as (runner, store):

        async def search_all() -> dict[tuple[str, int], list[float]]:
            async with Pool(ground.dsn) as pool:
                queries = build_queries(store, pool, load_settings())
                return {
                    (name, limit): await _time_searches(queries, name, examples, limit)
                    for limit in limits
                    for name in names
                }

        return runner.run(search_all())


async def _time_searches(
    queries: QueryContext, name: str, examples: Sequence[Example], limit: int
) -> list[float]:
    """Milliseconds of a search for each of the examples. The first one, which prepares statements, is not
    among them."""
    durations = [
        await time_ms(partial(search_log, queries, AUDITOR, SEARCHES[name](example), limit=limit))
        for example in (examples[0], *examples)
    ]
    return durations[1:]


def _load_examples(ground: Ground, count: int) -> list[Example]:
    """Events drawn from the whole log."""
    rng = random.Random(SEED)
    positions = [rng.randrange(1, ground.events + 1) for _ in range(count)]
    with psycopg.connect(ground.dsn) as conn:
        rare = conn.execute(_RARE_ACTOR).fetchone()
        rows = conn.execute(_EXAMPLES, (positions,)).fetchall()
    assert rare is not None
    return [
        {
            "position": position,
            "object": stream,
            "event": derive_id("evt", at, stream, version, 0),
            "type": topic,
            "actor": actor,
            "request": request,
            "idempotency_key": idempotency_key,
            "customer": customer,
            "charge": charge,
            "time": f"{at:.6f}",
            "rare_actor": rare[0],
        }
        for position, stream, version, topic, actor, request, idempotency_key, customer, charge, at in rows
    ]
