"""`ledger audit find`: what an id, a request, a key, a position or an e-mail address names."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ledger.audit.auditor import Auditor
from ledger.audit.search.lookups import FOUND_MAX, Lookup, look_up
from ledger.cli.audit.shell import AccountOption, LiveOption, PersonalOption, run
from ledger.cli.groups import JsonOption
from ledger.cli.shell import print_table
from ledger.queries.context import QueryContext
from ledger.wire.json_values import Json

_COLUMNS = ("kind", "id", "type", "title", "object_id", "position", "time")


def find_anything(
    text: Annotated[str, typer.Argument(help="An id, a position, an idempotency key, an e-mail address.")],
    account: AccountOption = None,
    live: LiveOption = False,
    personal_data: PersonalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find what an id, a request, a key or an address names.

    The whole text has to match. E-mail addresses need --personal-data. `ledger webhooks delivery` shows
    deliveries."""

    async def find(context: QueryContext, auditor: Auditor) -> Lookup:
        return await look_up(context, auditor, text)

    found = run(find, account=account, livemode=live, shows_personal_data=personal_data)
    hits: list[Json] = [hit.to_json() for hit in found.hits]
    if as_json:
        print(json.dumps({"data": hits, "has_more": found.has_more, "behind_events": found.behind_events}))
        return
    print_table(_COLUMNS, [["" if hit[name] is None else hit[name] for name in _COLUMNS] for hit in hits])
    if found.has_more:
        typer.echo(f"There are more: at most {FOUND_MAX} of each kind are shown.", err=True)
    if found.behind_events:
        typer.echo(f"Lists of customers and cards lack {found.behind_events} events.", err=True)
