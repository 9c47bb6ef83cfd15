"""`ledger audit list`: a list as it was."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from ledger.audit.auditor import Auditor
from ledger.audit.lists import list_objects_at
from ledger.cli.audit.shell import AccountOption, LiveOption, PersonalOption, run
from ledger.cli.groups import JsonOption
from ledger.cli.shell import format_time, print_table
from ledger.errors import SettingError
from ledger.queries.context import QueryContext
from ledger.wire.forms import decode

_MEMBERS = ("id", "created", "status", "amount", "currency", "customer", "charge")


def list_objects(
    object_type: Annotated[
        str, typer.Argument(metavar="TYPE", help="Dispute, charge, customer, invoice or another type.")
    ],
    at: Annotated[str | None, typer.Option(help="The moment: a time, or position:N. Default: now.")] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="NAME=VALUE, as on the public list; repeat it for several."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, at most.")] = 20,
    starting_after: Annotated[str | None, typer.Option(help="An object's id, or position:N.")] = None,
    account: AccountOption = None,
    live: LiveOption = False,
    personal_data: PersonalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show a list as it was at a moment."""
    given = {"type": object_type, "limit": str(limit), "at": at, "starting_after": starting_after}
    form = _parse_filters(filters or []) | {name: text for name, text in given.items() if text is not None}

    async def fetch(queries: QueryContext, auditor: Auditor) -> dict[str, Any]:
        return await list_objects_at(queries, auditor, form)

    page = run(fetch, account=account, livemode=live, shows_personal_data=personal_data)
    if as_json:
        print(json.dumps(page, indent=2))
        return
    members = [name for name in _MEMBERS if any(name in item for item in page["data"])]
    rows = [[_format_member(name, item.get(name)) for name in members] for item in page["data"]]
    print_table(members, rows)
    if page["has_more"]:
        typer.echo(f"There are more: --starting-after position:{page['next_position']}", err=True)


def _parse_filters(filters: list[str]) -> dict[str, Any]:
    pairs = []
    for text in filters:
        name, separator, value = text.partition("=")
        if not separator:
            raise SettingError(f"--filter {text}: use NAME=VALUE")
        pairs.append((name, value))
    return decode(urlencode(pairs).encode())


def _format_member(name: str, value: Any) -> Any:
    if name == "created" and value is not None:
        return format_time(value)
    return "" if value is None else value
