"""Whole commands without HTTP: load the aggregate, decide, encode event and response, append.

Our side runs the command of `POST /v1/customers/{id}` as the API runs it. The stock library's side is its
Application: repository, trigger, save. Each command updates a metadata value of the next of many customers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import cycle, islice

import msgspec

from benchmarks.database import Server
from benchmarks.measurement import Effort, alternate, rate_of_callers
from benchmarks.report import Figure, Goal, compare
from benchmarks.store import CAUSE, open_store
from benchmarks.yardsticks import stock
from ledger.api.composition import build_execution, build_queries
from ledger.call import Call
from ledger.commands import customers
from ledger.config import load_settings
from ledger.postgres.connections import Pool
from ledger.store.store import Store

GROUP = "commands: load, decide, encode, append; 16 callers"
CALLERS = 16
CUSTOMERS = 2000
LEDGER_PER_SECOND_MAX = 30_000
STOCK_PER_SECOND_MAX = 5_000
GOAL = Goal(12)


class LedgerCommands:
    """Updates our customers in turn, one command each."""

    def __init__(self, runner: asyncio.Runner, store: Store) -> None:
        self._runner = runner
        settings = load_settings()
        queries = build_queries(store, Pool(store.dsn), settings)  # a command here reads no list
        self._execution = build_execution(store, queries, settings)
        self._ids = cycle(runner.run(self._create_customers()))
        self._order_count = 0

    def rate(self, seconds: float) -> float:
        """Commands per second, measured for `seconds`."""
        ids = list(islice(self._ids, round(seconds * LEDGER_PER_SECOND_MAX)))
        work = [
            _create_call(customer, {"metadata": {"order": str(self._order_count + n)}})
            for n, customer in enumerate(ids)
        ]
        self._order_count += len(ids)
        return self._runner.run(rate_of_callers(self._update, work, callers=CALLERS, seconds=seconds))

    async def _update(self, call: Call) -> None:
        await self._execution.run(call, customers.update, fingerprint="")

    async def _create_customers(self) -> Sequence[str]:
        calls = [
            _create_call("", {"name": f"Customer {n}", "email": f"customer{n}@example.com"})
            for n in range(CUSTOMERS)
        ]
        results = await asyncio.gather(
            *(self._execution.run(call, customers.create, fingerprint="") for call in calls)
        )
        return [_parse_id(result.body) for result in results]


def run(server: Server, effort: Effort) -> list[Figure]:
    """Figures with aggregates cached, as the service runs, and with each loaded from the database."""
    with (
        open_store(server.create_ledger_database("commands")) as (runner, store),
        open_store(server.create_ledger_database("commands_uncached"), cached_streams_max=1) as (
            uncached_runner,
            uncached_store,
        ),
        closing(
            stock.StockCommands(server.create_empty_database("commands_stock"), server.password, CUSTOMERS)
        ) as stock_commands,
    ):
        rates = alternate(
            {
                "cached": partial(LedgerCommands(runner, store).rate, effort.seconds),
                "loaded": partial(LedgerCommands(uncached_runner, uncached_store).rate, effort.seconds),
                "stock": partial(
                    stock_commands.rate,
                    round(effort.seconds * STOCK_PER_SECOND_MAX),
                    threads=CALLERS,
                    seconds=effort.seconds,
                ),
            },
            effort.rounds,
        )
    return [
        compare(
            GROUP,
            "aggregates cached",
            rates["cached"],
            "stock Application",
            rates["stock"],
            goal=GOAL,
        ),
        compare(GROUP, "every aggregate loaded", rates["loaded"], "stock Application", rates["stock"]),
    ]


def _create_call(target: str, parameters: dict[str, object]) -> Call:
    return Call(CAUSE, target, parameters)


def _parse_id(body: str) -> str:
    return str(msgspec.json.decode(body)["id"])
