"""`ledger audit accesses`: who looked at what."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ledger.audit.accesses import WHOLE_LOG, Accesses, AccessFilters
from ledger.audit.auditor import Auditor
from ledger.cli.audit.shell import LiveOption, run, run_on_log
from ledger.cli.groups import JsonOption
from ledger.cli.shell import CLI_ACTOR, Deployment, print_table
from ledger.clock import Clock
from ledger.postgres.connections import Conn, Pool
from ledger.queries.context import QueryContext
from ledger.store.durability import Durability


def list_accesses(
    actor: Annotated[str | None, typer.Option(help="Only those of this key, or `cli`.")] = None,
    object_id: Annotated[str | None, typer.Option("--object", help="Only those of this object.")] = None,
    since: Annotated[str | None, typer.Option(help="Not before this time (unix or ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(help="Not after this time (unix or ISO 8601).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, at most.")] = 20,
    starting_after: Annotated[int | None, typer.Option(help="The id of an access: those before it.")] = None,
    account: Annotated[
        str | None, typer.Option(help="The account; optional if there is only one. `*`: the whole log.")
    ] = None,
    live: LiveOption = False,
    as_json: JsonOption = False,
) -> None:
    """List what auditors looked at, newest first."""
    filters = AccessFilters(
        actor=actor,
        object=object_id,
        time={name: text for name, text in (("gte", since), ("lte", until)) if text is not None},
        limit=limit,
        starting_after=starting_after,
    )

    async def fetch(queries: QueryContext, auditor: Auditor) -> dict[str, Any]:
        store = queries.store
        accesses = Accesses(queries.pool, store.clock, store.durability, store.service_keys)
        return await accesses.list(auditor, filters)

    async def fetch_of_log(_: Conn, clock: Clock, deployment: Deployment) -> dict[str, Any]:
        async with Pool(deployment.dsn) as pool:
            durability = Durability(deployment.dsn, "ledger_api")
            accesses = Accesses(pool, clock, durability, deployment.service_keys)
            return await accesses.list(Auditor(WHOLE_LOG, False, CLI_ACTOR, False), filters)

    whole = account == WHOLE_LOG
    page = run_on_log(fetch_of_log) if whole else run(fetch, account=account, livemode=live)
    if as_json:
        print(json.dumps(page, indent=2))
        return
    print_table(
        ("id", "time", "actor", "action", "parameters", "allowed"),
        [
            (
                item["id"],
                item["time"],
                item["operator"] or item["actor"],
                item["action"],
                json.dumps(item["parameters"]),
                "yes" if item["allowed"] else "no",
            )
            for item in page["data"]
        ],
    )
