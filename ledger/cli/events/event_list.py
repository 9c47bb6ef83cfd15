"""`ledger events list` and `ledger events show`: the Events of an account, as its applications see them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple

import typer

from ledger.audit.auditor import Auditor
from ledger.audit.moments import parse_time_span
from ledger.call import Call, Cause
from ledger.cli.audit.shell import AccountOption, LiveOption, RecordedCommand, run
from ledger.cli.events.event_lines import print_event, print_header, print_notice, to_plain
from ledger.cli.events.live_events import LiveEvents, print_live, read_head, render_snapshot
from ledger.cli.groups import JsonOption, format_examples, print_json
from ledger.cli.shell import CLI_ACTOR, end_at_closed_output, format_count, run_until_stopped
from ledger.config import load_settings
from ledger.errors import SettingError
from ledger.postgres.deployment import read_running_database
from ledger.queries import events, thin_events
from ledger.queries.context import QueryContext
from ledger.wire.event_types import expand_patterns
from ledger.wire.thin_events import to_snapshot_id

LIMIT_DEFAULT = 20
PAGE_EVENTS = 100

TypesOption = Annotated[
    list[str] | None,
    typer.Option("--type", help="A type, or a pattern such as 'charge.dispute.*'; repeat it for several."),
]


class _Wanted(NamedTuple):
    """Which Events are to be listed: of these types, about this object, of this time (as the list's filter
    `created`); at most `limit`."""

    types: list[str] | None
    object: str | None
    created: dict[str, int]
    limit: int


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
            "ledger events list --follow",
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
        follow: Annotated[
            bool, typer.Option("--follow", help="Oldest first, and then new ones as they come, until Ctrl-C.")
        ] = False,
        as_json: JsonOption = False,
    ) -> None:
        """List the Events of the last 30 days, newest first.

        With --json, each line is one Event, as the API shows it."""
        if follow and until is not None:
            raise SettingError("--follow: leave out --until")
        wanted = _Wanted(
            expand_patterns(types, "type") if types else None, object_id, _make_span(since, until), limit
        )
        with end_at_closed_output():
            if follow:
                _follow(wanted, account, livemode=live, as_json=as_json)
            else:
                run(partial(_list, wanted, as_json), account=account, livemode=live)


def _add_show_command(group: typer.Typer) -> None:
    @group.command(
        "show",
        cls=RecordedCommand,
        epilog=format_examples(
            "ledger events show evt_0352CZ3z1jWpJM7B8upbma",
            "ledger events show evt_thin_0352CZ3z1jWpJM7B8upbma",
        ),
    )
    def show_event(
        event: Annotated[str, typer.Argument(help="The id of the Event (evt_…, or evt_thin_…).")],
        account: AccountOption = None,
        live: LiveOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Show an Event of the last 30 days, whole.

        It is the JSON of the API, with --json on one line: that of the thin event for the id of one. What an
        older one was about is in `ledger audit history`."""

        async def read(queries: QueryContext, auditor: Auditor) -> Mapping[str, Any]:
            retrieve = events.retrieve if to_snapshot_id(event) is None else thin_events.retrieve
            return (await retrieve(_make_call(auditor, target=event), queries)).body

        document = to_plain(run(read, account=account, livemode=live))
        if as_json:
            print(json.dumps(document))
        else:
            print_json(document)


def _make_span(since: str | None, until: str | None) -> dict[str, int]:
    """The filter `created`. Raises InvalidParameter for what is no time."""
    created = {}
    if since is not None:
        created["gte"] = int(parse_time_span(since, param="since")[0].timestamp())
    if until is not None:
        created["lt"] = int(parse_time_span(until, param="until")[1].timestamp())
    return created


async def _list(wanted: _Wanted, as_json: bool, queries: QueryContext, auditor: Auditor) -> None:
    if not as_json:
        print_header()
    async for event in _read_pages(wanted, queries, auditor):
        print_event(event, as_json=as_json)


def _follow(wanted: _Wanted, account: str | None, *, livemode: bool, as_json: bool) -> None:
    """Print the newest Events, oldest first, and then those that come."""
    settings = load_settings()
    read_running_database(settings)  # otherwise the list would start one, and nothing new would come
    printed: set[str] = set()

    async def begin(queries: QueryContext, auditor: Auditor) -> tuple[str, int]:
        async with queries.pool.connection() as conn:
            head = await read_head(conn)
        if not as_json:
            print_header()
        for event in [event async for event in _read_pages(wanted, queries, auditor)][::-1]:
            printed.add(event["id"])
            print_event(event, as_json=as_json)
        return auditor.account, head

    def print_new(event: dict[str, Any]) -> None:
        is_of_object = wanted.object in (None, event["data"]["object"].get("id"))
        if is_of_object and event["id"] not in printed:
            print_event(event, as_json=as_json)

    chosen, head = run(begin, account=account, livemode=livemode)
    types = None if wanted.types is None else frozenset(wanted.types)
    live_events = LiveEvents(settings, chosen, livemode, types)
    asyncio.run(run_until_stopped([print_live(live_events, head, print_new, render_snapshot)]))


async def _read_pages(
    wanted: _Wanted, queries: QueryContext, auditor: Auditor
) -> AsyncIterator[dict[str, Any]]:
    """The newest Events. Each page is given as soon as it is read."""
    filters = {"types": wanted.types, "object": wanted.object}
    filters = {name: value for name, value in filters.items() if value is not None}
    parameters: dict[str, Any] = {"created": wanted.created}
    left = wanted.limit
    while left > 0:
        parameters["limit"] = min(left, PAGE_EVENTS)
        page = await events.fetch_events(_make_call(auditor, parameters), queries, filters)
        if page.lag_events:
            waiting = format_count(page.lag_events, "recorded event")
            print_notice(f"{waiting} not in the list yet: a worker makes it (ledger serve, ledger worker)")
        for event in page.body["data"]:
            yield to_plain(event)
        if not page.body["has_more"]:
            return
        left -= len(page.body["data"])
        parameters["starting_after"] = page.body["data"][-1]["id"]


def _make_call(auditor: Auditor, parameters: Mapping[str, Any] = {}, target: str = "") -> Call:
    cause = Cause(auditor.account, auditor.livemode, CLI_ACTOR, None, None)
    return Call(cause, target, dict(parameters))
