"""Lists as of moments drawn from the whole log, and what it costs to record an access."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.audit.ground import SEED, Ground
from benchmarks.measurement import Effort, time_ms
from benchmarks.report import Figure, Goal, figure
from benchmarks.store import ACCOUNT, open_store
from ledger.api.composition import build_queries
from ledger.audit.accesses import Access, Accesses
from ledger.audit.auditor import Auditor
from ledger.audit.lists import list_objects_at
from ledger.config import load_settings
from ledger.postgres.connections import Pool, fetch_all
from ledger.queries.context import QueryContext
from ledger.store.store import Store

GROUP = "audit: lists as of a moment"
MOMENTS_PER_ROUND = 20
AUDITOR = Auditor(ACCOUNT, False, "cli", shows_personal_data=True)
GOAL = Goal(20, is_maximum=True)

MakeForm = Callable[[], Mapping[str, str]]

_SOME_DISPUTES = """
SELECT charge FROM ledger.events WHERE topic = 'dispute.opened' AND notification_id <= %(upto)s
ORDER BY notification_id LIMIT 50
"""


@dataclass(frozen=True, slots=True)
class _Place:
    """A filled database, as a process reads it."""

    queries: QueryContext
    events: int
    rng: random.Random

    def draw_moment(self) -> str:
        """Any position of the log but its first few."""
        return f"position:{self.rng.randrange(self.events // 10, self.events + 1)}"


def measure(ground: Ground, effort: Effort) -> list[Figure]:
    """Milliseconds of each answer."""
    with open_store(ground.dsn) as (runner, store):
        return runner.run(_measure(store, effort))


async def _measure(store: Store, effort: Effort) -> list[Figure]:
    async with Pool(store.dsn) as pool:
        queries = build_queries(store, pool, load_settings())
        place = _Place(queries, effort.events, random.Random(SEED))
        async with pool.connection() as conn:
            charges = [row[0] for row in await fetch_all(conn, _SOME_DISPUTES, {"upto": effort.events // 10})]
        figures = [await _measure_list(place, effort, *each) for each in _make_lists(place, charges)]
        accesses = Accesses(pool, store.clock, store.durability, store.service_keys)
        access = Access(
            account=ACCOUNT, livemode=False, actor="cli", action="benchmark", parameters=[("id", "du_1")]
        )
        count = effort.rounds * MOMENTS_PER_ROUND
        await accesses.start()
        times = [await time_ms(lambda: accesses.record(access)) for _ in range(count)]
        await accesses.close()
        return [*figures, figure(GROUP, "recording an access", times, "ms")]


def _make_lists(place: _Place, charges: Sequence[str]) -> list[tuple[str, MakeForm, Goal | None]]:
    """Each list with its name and its goal. The last one finds nothing: no page costs more."""
    return [
        ("newest 10 disputes", lambda: {"type": "dispute"}, GOAL),
        ("newest 100 disputes", lambda: {"type": "dispute", "limit": "100"}, GOAL),
        ("newest 10 customer sessions", lambda: {"type": "customer_session"}, GOAL),
        ("disputes of a charge", lambda: {"type": "dispute", "charge": place.rng.choice(charges)}, GOAL),
        ("nothing among 1,000 disputes", lambda: {"type": "dispute", "status": "prevented"}, None),
    ]


async def _measure_list(
    place: _Place, effort: Effort, name: str, make_form: MakeForm, goal: Goal | None
) -> Figure:
    async def read() -> object:
        return await list_objects_at(place.queries, AUDITOR, {**make_form(), "at": place.draw_moment()})

    await read()  # prepares the statements
    times = [await time_ms(read) for _ in range(effort.rounds * MOMENTS_PER_ROUND)]
    return figure(GROUP, f"list as of any moment: {name}", times, "ms", goal=goal)
