"""`ledger audit log` and `ledger audit event`: the recorded events, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from ledger.audit.auditor import Auditor
from ledger.audit.search.entries import LogEntry
from ledger.audit.search.filters import LogFilters
from ledger.audit.search.pages import LIMIT_MAX, search_log
from ledger.audit.search.recorded_events import read_recorded_event
from ledger.cli.audit import filter_options as options
from ledger.cli.audit.shell import AccountOption, LiveOption, PersonalOption, run
from ledger.cli.groups import JsonOption
from ledger.cli.shell import format_time, make_printable
from ledger.queries.context import QueryContext
from ledger.wire.json_values import Json

LINES_DEFAULT = 100
_COLUMNS = {"position": 10, "time": 20, "type": 28, "stream": 32, "actor": 32, "request": 0}
"""By name, the width on a terminal; 0: to the end of the line."""


def show_log(
    account: AccountOption = None,
    live: LiveOption = False,
    actor: options.Actor = None,
    request: options.Request = None,
    idempotency_key: options.IdempotencyKey = None,
    object_id: options.Object = None,
    customer: options.Customer = None,
    charge: options.Charge = None,
    payment_intent: options.PaymentIntent = None,
    event: options.Event = None,
    types: options.Types = None,
    since: options.Since = None,
    until: options.Until = None,
    after: options.After = None,
    before: options.Before = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Oldest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many events to show.")] = LINES_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Search the recorded events, newest first.

    An event is shown if it satisfies all filters. With --json, each line is one event."""
    filters = options.make_filters(
        actor=actor, request=request, idempotency_key=idempotency_key, object_id=object_id, customer=customer,
        charge=charge, payment_intent=payment_intent, event=event, types=types, since=since, until=until,
        after=after, before=before,
    )  # fmt: skip

    async def show(context: QueryContext, auditor: Auditor) -> None:
        await _print_pages(context, auditor, filters, limit, descending=not oldest_first, as_json=as_json)

    run(show, account=account, livemode=live)


def show_event(
    position: Annotated[int, typer.Argument(min=1, help="Its position in the log.")],
    account: AccountOption = None,
    live: LiveOption = False,
    personal_data: PersonalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show one recorded event, whole."""

    async def read(context: QueryContext, auditor: Auditor) -> Json:
        return await read_recorded_event(context, auditor, position)

    event = run(read, account=account, livemode=live, shows_personal_data=personal_data)
    if as_json:
        print(json.dumps(event, indent=2, ensure_ascii=False))
        return
    width = max(map(len, event))
    for name, value in event.items():
        for number, line in enumerate(_format_value(value)):
            print(f"{'' if number else name:{width}}  {line}")


async def _print_pages(
    context: QueryContext,
    auditor: Auditor,
    filters: LogFilters,
    lines_left: int,
    *,
    descending: bool,
    as_json: bool,
) -> None:
    """Each page is printed as soon as it is read: any number of lines takes the memory of one page."""
    after: int | None = None
    while lines_left > 0:
        page = await search_log(
            context,
            auditor,
            filters,
            limit=min(lines_left, LIMIT_MAX),
            starting_after=after,
            descending=descending,
        )
        if after is None and not as_json:
            _print_line(list(_COLUMNS))
        for entry in page.entries:
            if as_json:
                print(json.dumps(entry.to_json(), ensure_ascii=False))
            else:
                _print_line(_to_cells(entry))
        lines_left -= len(page.entries)
        after = page.next_position
        if after is None:
            return


def _to_cells(entry: LogEntry) -> list[str]:
    actor = "-"
    if entry.actor is not None:
        actor = f"{entry.actor['name']} ({entry.actor['id']})" if entry.actor["name"] else entry.actor["id"]
    time = format_time(entry.time)
    values = entry.to_json()
    return [
        str(entry.position),
        time,
        values["type"],
        entry.stream,
        make_printable(actor),
        entry.request_id or "-",
    ]


def _print_line(cells: list[str]) -> None:
    if sys.stdout.isatty():
        print("  ".join(f"{cell:{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True)))
    else:
        print(*cells, sep="\t")


def _format_value(value: Any) -> list[str]:
    if value is None or value == []:
        return ["-"]
    if isinstance(value, str):
        return [make_printable(value)]
    return [make_printable(line) for line in json.dumps(value, indent=2, ensure_ascii=False).split("\n")]
