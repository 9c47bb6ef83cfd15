"""The first page of searches of the log: each filter alone, and pairs of which one alone is not selective.

The log is copied, the audit index filled by the projection engine. Before that, the same searches are
measured without an index: then they examine as many events of the log as a page may.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from benchmarks.database import Server
from benchmarks.history import copy_history
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, figure
from benchmarks.store import ACCOUNT, SECRET_KEY, open_store
from ledger.api.composition import build_queries
from ledger.audit.auditor import Auditor
from ledger.audit.search.filters import LogFilters
from ledger.audit.search.pages import EXAMINED_MAX, search_log
from ledger.config import load_settings
from ledger.ids import derive_id
from ledger.postgres.connections import Pool, open_connection
from ledger.queries.context import QueryContext
from ledger.store.codec import Codec
from ledger.store.store import Store
from projections.engine.engine import Engine
from projections.engine.registration import register_missing
from projections.read_models.audit_index import AUDIT_INDEX

GROUP = "first page of a search of the log"
SEED = 1
LOG_DAYS = 20.0
GUEST = "cus_guest"
"""A customer with so many events that a search by it and something rare examines as many as a page may."""
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


def run(server: Server, effort: Effort) -> list[Figure]:
    """Milliseconds for each search, and the rate at which the engine fills the index."""
    dsn = server.create_ledger_database("audit_search")
    copy_history(dsn, Codec(SECRET_KEY), SEED, effort.events, days=LOG_DAYS, guest=GUEST)
    with open_store(dsn) as (runner, store):
        return runner.run(_measure(dsn, store, effort))


async def _measure(dsn: str, store: Store, effort: Effort) -> list[Figure]:
    examples = _load_examples(dsn, effort.events, SEARCHES_PER_ROUND * effort.rounds)
    async with Pool(dsn) as pool:
        queries = build_queries(store, pool, load_settings())
        unindexed = await _time_searches(queries, "rare actor and rare type", examples, LIMITS[0])
        fill_rate = await _fill_index(dsn, store, effort.events)
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("VACUUM ANALYZE projections.audit_index")
        figures = [
            figure(
                GROUP,
                f"{name}, limit {limit}",
                await _time_searches(queries, name, examples, limit),
                "ms",
                goal=GOAL,
            )
            for limit in LIMITS
            for name in SEARCHES
        ]
    note = f"{EXAMINED_MAX:,} events examined"
    return [
        *figures,
        figure(GROUP, "two filters without an audit index", unindexed, "ms", goal=GOAL, note=note),
        figure(GROUP, f"filling the audit index, {effort.events:,} events", [fill_rate]),
    ]


async def _time_searches(
    queries: QueryContext, name: str, examples: Sequence[Example], limit: int
) -> list[float]:
    """Milliseconds of a search for each of the examples. The first one, which prepares statements, is not
    among them."""
    durations: list[float] = []
    for example in (examples[0], *examples):
        filters = SEARCHES[name](example)
        started = time.perf_counter()
        await search_log(queries, AUDITOR, filters, limit=limit)
        durations.append((time.perf_counter() - started) * 1000)
    return durations[1:]


async def _fill_index(dsn: str, store: Store, events: int) -> float:
    """Apply the whole log to the index; events per second."""
    async with open_connection(dsn, "ledger_projector", name="benchmark") as conn:
        await register_missing(conn, [AUDIT_INDEX])
    engine = Engine(dsn, store.codec, store.clock, store.notifier, projections=[AUDIT_INDEX])
    started = time.perf_counter()
    caught_up = False
    while not caught_up:
        caught_up = (await engine.advance()).caught_up
    rate = events / (time.perf_counter() - started)
    await engine.close()
    return rate


def _load_examples(dsn: str, events: int, count: int) -> list[Example]:
    """Events drawn from the whole log."""
    rng = random.Random(SEED)
    positions = [rng.randrange(1, events + 1) for _ in range(count)]
    with psycopg.connect(dsn) as conn:
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
