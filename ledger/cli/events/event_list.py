"""`ledger events list` and `ledger events show`: the Events of an account, as its applications see them."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

import typer

from ledger.audit.auditor import Auditor
from ledger.audit.moments import parse_time_span
from ledger.call import Call, Cause
from ledger.cli.audit.shell import AccountOption, LiveOption, RecordedCommand, run
from ledger.cli.events.event_lines import print_event, print_header, to_plain
from ledger.cli.groups import JsonOption, format_examples, print_json
from ledger.cli.shell import CLI_ACTOR, format_count
from ledger.queries import events
from ledger.queries.context import QueryContext
from ledger.wire.event_types import ORDERED_EVENT_TYPES, check_event_type, matches

LIMIT_DEFAULT = 20
PAGE_EVENTS = 100

TypesOption = Annotated[
    list[str] | None,
    typer.Option("--type", help="A type, or a pattern such as 'charge.dispute.*'; repeat it for several."),
]


def add_list_commands(group: typer.Typer) -> None:
    """Add `list` and `show`."""
    _add_list_command(group)
    _add_show_command(group)


def _add_list_command(group: typer.Typer) -> None:
    @group.command(
        "list",
        cls=RecordedCommand,
        epilog=format_examples(
            "ledger events list",
            "ledger events list --type 'charge.dispute.*' --since 2026-03-01T00:00:00Z --limit 100",
            "ledger events list --object ch_0352I2S0wXTRNVkqM8D9w9 --json | jq .id",
        ),
    )
    def list_events(
        account: AccountOption = None,
        live: LiveOption = False,
        types: TypesOption = None,
        object_id: Annotated[str | None, typer.Option("--object", help="The id of their object.")] = None,
        since: Annotated[str | None, typer.Option(help="The first time: unix seconds or ISO 8601.")] = None,
        until: Annotated[str | None, typer.Option(help="The last time.")] = None,
        limit: Annotated[int, typer.Option(min=1, help="How many Events to print.")] = LIMIT_DEFAULT,
        as_json: JsonOption = False,
    ) -> None:
        """List the Events of the last 30 days, newest first.

        With --json, each line is one Event, as the API shows it."""
        filters = make_filters(types or [], object_id)
        created = _make_span(since, until)

        async def show(queries: QueryContext, auditor: Auditor) -> None:
            if not as_json:
                print_header()
            async for event in _read_pages(queries, auditor, filters, created, limit):
                print_event(event, as_json=as_json)

        run(show, account=account, livemode=live, shows_personal_data=True)


def _add_show_command(group: typer.Typer) -> None:
    @group.command(
        "show",
        cls=RecordedCommand,
        epilog=format_examples("ledger events show evt_0352CZ3z1jWpJM7B8upbma"),
    )
    def show_event(
        event: Annotated[str, typer.Argument(help="The id of the Event (evt_…).")],
        account: AccountOption = None,
        live: LiveOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Show an Event of the last 30 days, whole.

        It is the JSON of the API, with --json on one line. What an older one was about is in
        `ledger audit history`."""

        async def read(queries: QueryContext, auditor: Auditor) -> Mapping[str, Any]:
            return (await events.retrieve(_make_call(auditor, target=event), queries)).body

        document = to_plain(run(read, account=account, livemode=live, shows_personal_data=True))
        if as_json:
            print(json.dumps(document))
        else:
            print_json(document)


def make_filters(types: list[str], object_id: str | None = None) -> dict[str, Any]:
    """The filters of the list query that the options mean. Raises InvalidParameter for a type that there is
    not, and a pattern that matches none."""
    filters: dict[str, Any] = {}
    if types:
        filters["types"] = expand_types(types)
    if object_id is not None:
        filters["object"] = object_id.replace("\0", "")
    return filters


def expand_types(patterns: list[str]) -> list[str]:
    """The types that the patterns match, in order. Raises InvalidParameter as `make_filters`."""
    for pattern in patterns:
        if not any(matches(pattern, name) for name in ORDERED_EVENT_TYPES):
            check_event_type(pattern, "type")
    return [name for name in ORDERED_EVENT_TYPES if any(matches(pattern, name) for pattern in patterns)]


def _make_span(since: str | None, until: str | None) -> dict[str, int]:
    """The filter `created`. Raises InvalidParameter for what is no time."""
    created = {}
    if since is not None:
        created["gte"] = int(parse_time_span(since, param="since")[0].timestamp())
    if until is not None:
        created["lt"] = int(parse_time_span(until, param="until")[1].timestamp())
    return created


async def _read_pages(
    queries: QueryContext,
    auditor: Auditor,
    filters: Mapping[str, Any],
    created: Mapping[str, int],
    limit: int,
) -> AsyncIterator[dict[str, Any]]:
    """The newest Events, at most `limit`. Each page is given as soon as it is read."""
    parameters: dict[str, Any] = {"created": created} if created else {}
    while limit > 0:
        parameters["limit"] = min(limit, PAGE_EVENTS)
        page = await events.fetch_events(_make_call(auditor, parameters), queries, filters)
        if page.lag_events:
            print(
                f"ledger: {format_count(page.lag_events, 'recorded event')} not in the list yet: "
                "a worker makes it (ledger serve, ledger worker)",
                file=sys.stderr,
            )
        for event in page.body["data"]:
            yield to_plain(event)
        if not page.body["has_more"]:
            return
        limit -= len(page.body["data"])
        parameters["starting_after"] = page.body["data"][-1]["id"]


def _make_call(auditor: Auditor, parameters: Mapping[str, Any] = {}, target: str = "") -> Call:
    cause = Cause(auditor.account, auditor.livemode, CLI_ACTOR, None, None)
    return Call(cause, target, dict(parameters))
